"""The ledger: every frame ends once, counts are kept, who follows it sees what changes, and old rows go to the disk."""

from __future__ import annotations

import logging
import resource
from collections import Counter
from pathlib import Path

import pytest

from pipeline import ledger as ledger_module
from pipeline.ledger import BATCH, OUT, PENDING, Ledger

S = 1_000_000_000
RECENT = 8


def _long(tmp_path: Path, frames: int) -> Ledger:
    """A ledger that keeps few rows in memory, with so many frames that are through."""
    ledger = Ledger(RECENT)
    ledger.spool_to(tmp_path, logging.getLogger("sidecast"))
    for i in range(frames):
        _pass(ledger, i)
    return ledger


def _pass(ledger: Ledger, i: int, start_ns: int = S) -> None:
    ledger.frame_in(i, start_ns + i)
    ledger.note(i, psnr_db=30.0 + i, bpp=0.1)
    ledger.frame_out(i)


def _in_memory(ledger: Ledger) -> int:
    return len({row.number for row in (*ledger._rows.values(), *ledger._settled.values(), *ledger._changed.values())})


def test_counts_are_those_of_the_rows():
    ledger = Ledger()
    for i in range(6):
        ledger.frame_in(i, i)
    ledger.frame_out(0)
    ledger.frame_out(0)
    ledger.drop(1, "corrupt")
    ledger.drop(0, "corrupt")
    ledger.merge([{"frame_id": 7, "pts_ns": 7, "status": "latest", "values": {}}])
    assert (
        ledger.counts()
        == Counter(row.status for row in ledger.rows())
        == {OUT: 1, "corrupt": 1, "latest": 1, PENDING: 4}
    )
    ledger.drop_pending()
    assert ledger.counts() == {OUT: 1, "corrupt": 1, "latest": 1, "aborted": 4}


def test_a_follower_gets_each_row_that_changed_once_and_as_it_is_now():
    ledger = Ledger()
    ledger.frame_in(5, 50)
    follower = ledger.follow()
    assert follower.take(9) == []
    ledger.note(5, a=1.0)
    ledger.note(5, b=2.0)
    ledger.frame_in(6, 60)
    (first,) = follower.take(1)
    assert (first.frame_id, first.number, first.values) == (5, 0, {"a": 1.0, "b": 2.0})
    ledger.note(5, a=3.0)
    assert first.values["a"] == 1.0
    assert [(row.frame_id, row.values.get("a")) for row in follower.take(9)] == [(6, None), (5, 3.0)]
    assert follower.take(9) == []


def test_frames_of_a_recording_that_come_again_stay_the_same_frames():
    ledger = Ledger()
    for _ in range(2):
        for i in range(3):
            ledger.frame_in(i, i * S)
            ledger.frame_out(i)
    assert ledger.counts() == {OUT: 3}


def test_a_camera_that_counts_from_zero_again_brings_other_frames():
    ledger, settled = Ledger(), []
    ledger.watch(lambda frame_id, status: settled.append((frame_id, status)))
    follower = ledger.follow()
    for start_ns in (100 * S, 900 * S):
        for i in range(2):
            ledger.frame_in(i, start_ns + i)
            ledger.note(i, psnr_db=start_ns / S)
            ledger.frame_out(i)
    assert ledger.counts() == {OUT: 4}
    assert settled == [(0, OUT), (1, OUT)] * 2
    rows = ledger.rows()
    assert [(row.frame_id, row.number, row.values["psnr_db"]) for row in rows] == [
        (0, 0, 100.0),
        (1, 1, 100.0),
        (0, 2, 900.0),
        (1, 3, 900.0),
    ]
    assert follower.take(9) == rows


def test_what_the_other_node_tells_goes_to_the_frame_of_that_time():
    ledger = Ledger()
    ledger.frame_in(0, 100 * S)
    ledger.frame_out(0)
    ledger.merge([{"frame_id": 0, "pts_ns": 100 * S, "status": OUT, "values": {"wire_bytes": 5.0}}])
    ledger.merge([{"frame_id": 0, "pts_ns": 900 * S, "status": "latest", "values": {}}])
    assert [(row.pts_ns, row.status, row.values) for row in ledger.rows()] == [
        (100 * S, OUT, {"wire_bytes": 5.0}),
        (900 * S, "latest", {}),
    ]


def test_a_frame_whose_time_is_unknown_is_no_other_one():
    ledger = Ledger()
    ledger.note(3, a=1.0)
    ledger.drop(3, "corrupt")
    ledger.frame_in(3, 30)
    assert len(ledger.rows()) == 1


def test_old_rows_go_to_the_disk_and_all_are_there_in_the_end(tmp_path):
    ledger = _long(tmp_path, 1000)
    ledger.frame_in(5000, S)
    assert _in_memory(ledger) <= RECENT + BATCH
    assert list(tmp_path.iterdir()) == []
    assert ledger.counts() == {OUT: 1000, PENDING: 1}
    rows = ledger.rows()
    assert [row.frame_id for row in rows] == [*range(1000), 5000]
    assert [row.number for row in rows] == list(range(1001))
    assert all(list(row.values.items()) == [("psnr_db", 30.0 + row.frame_id), ("bpp", 0.1)] for row in rows[:-1])
    assert (ledger.status(3), ledger.row(3)) == (OUT, rows[3])
    assert ledger.row(2000) is None


def test_what_is_told_of_a_row_on_the_disk_reaches_it_and_makes_no_second_frame(tmp_path):
    ledger = _long(tmp_path, 1000)
    ledger.note(3, late=1.0)
    ledger.frame_in(4, S + 4)
    ledger.frame_out(5)
    ledger.drop(6, "corrupt")
    ledger.merge([{"frame_id": 7, "pts_ns": S + 7, "status": OUT, "values": {"wire_bytes": 9.0, "bpp": 5.0}}])
    assert ledger.counts() == {OUT: 1000}
    for i in range(1000, 2000):
        _pass(ledger, i)
    rows = ledger.rows()
    assert [row.number for row in rows] == [row.frame_id for row in rows] == list(range(2000))
    assert rows[3].values == {"psnr_db": 33.0, "bpp": 0.1, "late": 1.0}
    assert rows[7].values == {"wire_bytes": 9.0, "bpp": 0.1, "psnr_db": 37.0}


def test_rows_that_are_taken_back_one_after_another_do_not_fill_the_memory(tmp_path):
    ledger = _long(tmp_path, 2000)
    ledger.merge({"frame_id": i, "pts_ns": S + i, "status": PENDING, "values": {"x": 1.0}} for i in range(2000))
    assert _in_memory(ledger) <= RECENT + BATCH
    assert ledger.counts() == {OUT: 2000}
    assert sum(row.values["x"] for row in ledger.rows()) == 2000


def test_a_camera_that_counts_from_zero_again_brings_other_frames_when_the_first_are_on_the_disk(tmp_path):
    ledger = _long(tmp_path, 1000)
    for i in range(1000):
        _pass(ledger, i, 900 * S)
    ledger.note(3, late=1.0)
    assert ledger.counts() == {OUT: 2000}
    assert ledger.row(3).number == 1003
    order = [(row.frame_id, row.number, "late" in row.values) for row in ledger.by_frame_id()]
    assert order[5:9] == [(2, 1002, False), (3, 3, False), (3, 1003, True), (4, 4, False)]
    assert len(order) == 2000


def test_a_disk_that_is_full_leaves_the_rows_in_memory_and_is_said_once(tmp_path, caplog):
    ledger = _long(tmp_path, 1000)
    on_disk, limit = len(ledger._spool), ledger._spool._database
    limit.execute("PRAGMA max_page_count = 1")  # as many as there are
    for i in range(1000, 4000):
        _pass(ledger, i)
    assert len(ledger._spool) < on_disk + 2 * BATCH
    ledger.note(3, late=1.0)
    assert [row.frame_id for row in ledger.rows()] == list(range(4000))
    assert ledger.row(3).values["late"] == 1.0
    assert [record.getMessage() for record in caplog.records] == [
        "old frames cannot be put away on the disk and stay in memory: database or disk is full"
    ]
    limit.execute("PRAGMA max_page_count = 100000")
    for i in range(4000, 5000):
        _pass(ledger, i)
    assert _in_memory(ledger) <= RECENT + BATCH
    assert [row.frame_id for row in ledger.rows()] == list(range(5000))


def test_where_the_folder_cannot_be_written_rows_go_where_the_system_keeps_temporary_files(tmp_path):
    ledger = _long(tmp_path / "none", 1000)
    assert _in_memory(ledger) <= RECENT + BATCH
    assert len(ledger.rows()) == 1000


def test_rows_that_another_node_has_are_forgotten(tmp_path):
    ledger, told = _long(tmp_path, 0), []
    for i in range(2000):
        _pass(ledger, i)
        told += ledger.changes()
    assert [change["frame_id"] for change in told] == list(range(2000))
    assert ledger._spool is None
    assert len(ledger.rows()) <= RECENT + BATCH
    assert ledger.counts() == {OUT: 2000}


def test_rows_that_nobody_has_been_told_of_are_told_later_in_their_order(tmp_path):
    ledger = _long(tmp_path, 1000)
    assert _in_memory(ledger) <= RECENT + BATCH
    other, most = Ledger(), 300
    told = [changes for _ in range(4) if (changes := ledger.changes(most))]
    assert [len(changes) for changes in told] == [300, 300, 300, 100]
    assert [change["frame_id"] for changes in told for change in changes] == list(range(1000))
    for changes in told:
        other.merge(changes)
    assert [row.values for row in other.rows()] == [{"psnr_db": 30.0 + i, "bpp": 0.1} for i in range(1000)]
    assert ledger._spool is None
    for i in range(1000, 1600):
        _pass(ledger, i)
    assert [change["frame_id"] for change in ledger.changes()] == list(range(1000, 1600))


def test_a_follower_that_does_not_look_keeps_the_newest_rows_only(monkeypatch):
    monkeypatch.setattr(ledger_module, "FOLLOWED", 10)
    ledger = Ledger()
    follower = ledger.follow()
    for i in range(100):
        _pass(ledger, i)
    assert [row.frame_id for row in follower.take(99)] == list(range(90, 100))


def test_the_first_few_frames_of_a_reason_are_known():
    ledger = Ledger()
    for i in range(9):
        ledger.drop(i, "unreadable", i)
    assert ledger.examples("unreadable") == [0, 1, 2, 3, 4]
    assert ledger.examples("corrupt") == []


@pytest.mark.parametrize(
    ("told", "frames"), [(False, 300_000), (True, 60_000)], ids=["with the sinks", "with the source"]
)
def test_memory_stays_flat_over_hours_of_video(tmp_path, told, frames):
    ledger = Ledger()
    ledger.spool_to(tmp_path, logging.getLogger("sidecast"))
    for i in range(frames):
        _pass(ledger, i)
        if told and i % 30 == 0:
            ledger.changes(4096)
        if i == 20_000:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert _in_memory(ledger) < 4096 + BATCH
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 10_000
    assert ledger.counts() == {OUT: frames}
    if not told:
        assert sum(1 for _ in ledger.by_frame_id()) == frames
