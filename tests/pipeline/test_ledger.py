"""The ledger: every frame ends once, counts are kept, and who follows it sees what changes."""

from __future__ import annotations

from collections import Counter

from pipeline.ledger import OUT, PENDING, Ledger

S = 1_000_000_000


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
