"""Reports: numbers from rows, files that are whole, sentences that admit what is unknown."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import report
from pipeline.errors import SidecastError
from pipeline.latency import CAUSES
from pipeline.ledger import Ledger, Row
from pipeline.stage import Context
from pipeline.summary import FRAME_COLUMNS

FACTS = {
    "model": "sidecast v1",
    "quality": 24.0,
    "device": "cpu",
    "encode_device": "cpu",
    "width": 100,
    "height": 50,
    "expected_frames": 4,
    "complete": True,
}
SENTENCE = (
    "primary view 100x50: raw 1.2 Mbit/s, sent 20.0 kbit/s (0.3200 bpp), "
    "PSNR with the side view 31.00 dB, without it 30.00 dB"
)


def _context(tmp_path: Path, frames: int = 4, **facts: Any) -> Context:
    """10 frames/s of 100x50: payloads of 200 bytes, 250 on the wire; every second one sampled; the last one corrupt."""
    context = Context(node="decoder", out=tmp_path, facts={**FACTS, **facts})
    _fill(context.ledger, frames)
    return context


def _fill(ledger: Ledger, frames: int) -> None:
    for i in range(frames):
        ledger.frame_in(i, 10**18 + i * 10**8)
        ledger.note(i, encode_ms=5.0, payload_bytes=200.0, bpp=0.32, wire_bytes=250.0)
        if i == frames - 1:
            ledger.drop(i, "corrupt")
            continue
        ledger.note(i, decode_ms=10.0 + i, psnr_db=31.0 + (i % 2), ms_ssim=0.9, latency_ms=50.0 + i)
        ledger.note(i, entered_s=6.75, settled_s=7 + i / 4)
        ledger.note(i, side_offset_ms=float(i), **({} if i % 2 else {"psnr_without_side_db": 30.0}))
        ledger.frame_out(i)


def test_write_gives_the_numbers_of_the_run(tmp_path):
    data = report.write(_context(tmp_path), {"name": "demo"}).data
    assert json.loads((tmp_path / "report.json").read_text()) == data
    assert (data["complete"], data["error"]) == (True, None)
    assert (data["frames_in"], data["frames_out"], data["drops"], data["unpaired"]) == (4, 3, {"corrupt": 1}, 0)
    assert data["frames_in"] == data["frames_out"] + sum(data["drops"].values())
    assert data["primary"] == {"payload_bytes": 800, "wire_bytes": 1000, "bpp": 0.32, "kbps": pytest.approx(20.0)}
    assert data["side"]["bytes_on_wire"] == 0
    assert data["side"]["offset_ms"] == {"min": 0.0, "p50": 1.0, "p95": pytest.approx(1.9), "max": 2.0}
    assert data["psnr_db"] == pytest.approx(94 / 3)
    assert (data["psnr_without_side_db"], data["psnr_with_side_sampled_db"]) == (30.0, 31.0)
    assert data["fps"] == pytest.approx(4.0)
    assert data["latency_ms"] == {"p50": 51.0, "p95": pytest.approx(51.9)}
    assert list(data["stage_ms"]) == ["encode", "decode"]
    assert data["raw_mbps"] == pytest.approx(1.2)
    assert (data["duration_s"], data["width"], data["height"]) == (pytest.approx(0.4), 100, 50)
    assert (data["model"], data["quality"], data["device"]) == ("sidecast v1", 24.0, "cpu")
    assert data["config"] == {"name": "demo"}


def test_write_leaves_only_whole_files(tmp_path):
    report.write(_context(tmp_path), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.csv", "plot.png", "plot.svg", "report.json"]


def test_frames_csv_has_a_line_per_frame_in(tmp_path):
    report.write(_context(tmp_path), {})
    with (tmp_path / "frames.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [*FRAME_COLUMNS, "encode_ms", "decode_ms"]
    assert [line["status"] for line in lines] == ["out", "out", "out", "corrupt"]
    assert lines[1]["pts_ns"] == "1000000000100000000"
    assert (lines[1]["bpp"], lines[1]["payload_bytes"], lines[1]["decode_ms"]) == ("0.32", "200", "11")
    assert (lines[1]["psnr_without_side_db"], lines[3]["psnr_db"]) == ("", "")


def test_latency_by_cause_is_told_where_it_is_known_and_adds_up(tmp_path):
    context = _context(tmp_path)
    for i in range(2):
        context.ledger.note(i, arrival_s=0.03 + i / 1000, spent_pair_s=0.005, spent_decode_s=0.015)
        context.ledger.note(i, sender_capture_s=0.002, sender_encode_s=0.02)
    context.ledger.note(2, arrival_s=0.03, spent_decode_s=0.022)
    written = report.write(context, {})
    latency = written.data["latency_by_cause_ms"]
    assert latency["frames"] == 2
    means = {name: latency[name]["mean"] for name in latency if name != "frames"}
    expected = {"capture": 2, "pair": 5, "encode": 20, "network": 8.5, "decode": 15, "show": 0, "sum": 50.5}
    assert means == pytest.approx(expected)
    assert latency["sum"]["p95"] == pytest.approx(50.95)
    said = "latency by cause, mean: capture 2, pair 5, encode 20, network 8, decode 15, show 0, together 50 ms"
    assert said in written.summary_lines()
    with (tmp_path / "frames.csv").open() as file:
        lines = list(csv.DictReader(file))
    for line in lines[:2]:
        causes = [float(line[f"latency_{cause}_ms"]) for cause in CAUSES]
        assert sum(causes) == pytest.approx(float(line["latency_ms"]))
    assert {line["latency_network_ms"] for line in lines[2:]} == {""}


def test_frames_csv_is_in_the_order_of_the_frames(tmp_path):
    context = _context(tmp_path)
    context.ledger.merge([{"frame_id": -1, "pts_ns": 10**18 - 10**8, "status": "unreadable", "values": {}}])
    report.write(context, {})
    lines = (tmp_path / "frames.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["-1", "0", "1", "2", "3"]


def test_summary_names_what_the_sinks_have_made(tmp_path):
    context = _context(tmp_path, video="o/decoded.mp4", panel="o/panels/0.png", images="o/images")
    lines = report.write(context, {}).summary_lines()
    made = ["images: o/images", "picture: o/panels/0.png", "video: o/decoded.mp4"]
    assert lines[-5:] == [f"plot: {tmp_path / 'plot.png'}", *made, SENTENCE]


def test_clear_removes_a_report_and_nothing_else(tmp_path):
    report.write(_context(tmp_path), {})
    (tmp_path / "decoded.mp4").touch()
    report.clear(tmp_path)
    report.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["decoded.mp4"]


def test_summary_ends_with_the_sentence(tmp_path):
    lines = report.write(_context(tmp_path), {}).summary_lines()
    assert lines[0] == "frames: 4 in, 3 out, 1 corrupt, 0 unpaired"
    assert lines[1] == "speed: 4.0 frames/s, latency 51 ms (p50), 52 ms (p95)"
    assert f"plot: {tmp_path / 'plot.png'}" in lines
    assert lines[-1] == SENTENCE


def test_summary_of_an_empty_run_says_unknown(tmp_path):
    written = report.write(Context(node="one", out=tmp_path), {})
    assert written.summary_lines()[-1] == (
        "primary view of a size unknown here: raw unknown here, sent unknown here (unknown here), "
        "PSNR with the side view unknown here, without it unknown here"
    )
    assert written.data["primary"] == {"payload_bytes": None, "wire_bytes": None, "bpp": None, "kbps": None}
    assert written.data["side"]["bytes_on_wire"] is None


def test_frames_without_side_view_are_not_said_to_have_had_one(tmp_path):
    context = Context(node="decoder", out=tmp_path, facts=FACTS)
    context.ledger.frame_in(0, 0)
    context.ledger.note(0, psnr_db=30.0, unpaired=1.0)
    context.ledger.frame_out(0)
    assert report.write(context, {}).summary_lines()[-1].endswith(", PSNR 30.00 dB, without any side view")


def test_pending_frames_make_a_run_incomplete(tmp_path):
    context = _context(tmp_path)
    context.ledger.frame_in(9, 10**18)
    data = report.write(context, {}).data
    assert data["drops"] == {"aborted": 1, "corrupt": 1}
    assert data["complete"] is False


def test_errors_and_missing_ends_are_told(tmp_path):
    context = _context(tmp_path, complete=False)
    lines = report.write(context, {}).summary_lines()
    assert "this run is not complete: the end of the stream never came" in lines
    context.error = SidecastError("the disk is full")
    written = report.write(context, {})
    assert written.data["error"] == "the disk is full"
    assert "this run is not complete: the disk is full" in written.summary_lines()


def test_bpp_counts_the_pixels_of_every_size():
    rows = [
        Row(0, 0, "out", {"payload_bytes": 100.0, "bpp": 0.8}),
        Row(1, 1, "out", {"payload_bytes": 100.0, "bpp": 0.4}),
    ]
    assert report.summarise(rows, {})["primary"]["bpp"] == pytest.approx(1600 / 3000)


def test_bpp_is_not_known_without_a_size():
    assert report.summarise([Row(0, 0, "out", {"payload_bytes": 100.0})], {})["primary"]["bpp"] is None


def test_unreadable_frames_do_not_stretch_the_recording():
    rows = [Row(i, 10**18 + i * 10**8, "out", {"wire_bytes": 125.0}) for i in range(10)]
    rows.append(Row(10, 0, "unreadable"))
    assert report.summarise(rows, {})["primary"]["kbps"] == pytest.approx(10.0)


def test_unpaired_frames_are_counted_whether_decoded_or_dropped():
    rows = [Row(0, 0, "out", {"unpaired": 1.0}), Row(1, 1, "unpaired"), Row(2, 2, "unpaired", {"unpaired": 1.0})]
    assert report.summarise(rows, {})["unpaired"] == 3


def test_infinite_psnr_stays_out_of_json(tmp_path):
    context = _context(tmp_path)
    context.ledger.note(0, psnr_db=float("inf"))
    data = report.write(context, {}).data
    assert data["psnr_db"] == 31.5
    assert "inf" not in (tmp_path / "frames.csv").read_text()


def test_rows_merged_from_the_other_node_are_reported(tmp_path):
    encoder = Ledger()
    encoder.frame_in(0, 5)
    encoder.note(0, payload_bytes=80.0, bpp=0.1)
    context = Context(node="decoder", out=tmp_path)
    context.ledger.merge(encoder.changes())
    context.ledger.frame_out(0)
    assert report.write(context, {}).data["primary"]["payload_bytes"] == 80


def test_a_long_run_is_reported_like_one_that_fits_into_memory(tmp_path):
    reports = []
    for name, recent in (("short", 100_000), ("long", 100)):
        (out := tmp_path / name).mkdir()
        context = Context(node="decoder", out=out, facts=FACTS, ledger=Ledger(recent))
        context.ledger.spool_to(out, context.log)
        _fill(context.ledger, 5000)
        written = report.write(context, {})
        assert sorted(path.name for path in out.iterdir()) == ["frames.csv", "plot.png", "plot.svg", "report.json"]
        reports.append((written.data, (out / "frames.csv").read_bytes(), (out / "plot.png").read_bytes()))
    assert reports[0] == reports[1]
    data, table, _ = reports[0]
    assert (data["frames_in"], data["frames_out"], data["drops"]) == (5000, 4999, {"corrupt": 1})
    assert len(table.splitlines()) == 5001
    assert data["duration_s"] == pytest.approx(500)


def test_write_to_a_folder_that_is_none_is_one_sentence(tmp_path):
    context = _context(tmp_path / "none")
    with pytest.raises(SidecastError, match=r"none/report.json cannot be written: No such file or directory"):
        report.write(context, {})


def test_table_has_a_line_per_run_and_the_mean(tmp_path):
    first = report.write(_context(tmp_path), {}).data
    second = report.write(Context(node="one", out=tmp_path), {}).data
    lines = report.table({"seq01": first, "a longer name": second, "failed": None}).splitlines()
    assert len(lines) == 5
    assert lines[0].split()[:4] == ["drive", "in", "out", "bpp"]
    assert lines[1].split() == ["seq01", "4", "3", "0.3200", "20.0", "31.33", "30.00", "0.9000", "4.0"]
    assert lines[2].split() == ["a", "longer", "name", "0", "0", "-", "-", "-", "-", "-", "-"]
    assert lines[3].split() == ["failed", *["-"] * 8]
    assert lines[4].split()[:4] == ["mean", "2.0", "1.5", "0.3200"]
