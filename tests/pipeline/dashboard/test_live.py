"""What a page is told of a stream: the report's figures, bounded, whatever the other node says."""

from __future__ import annotations

import json
import statistics
import time

import pytest
from simulated import START_NS, FakeClock, Node, frame

from pipeline.dashboard import LiveStream
from pipeline.dashboard.events import event
from pipeline.dashboard.live import FRAMES_SHOWN
from pipeline.dashboard.tally import ROWS_KEPT
from pipeline.errors import StageError
from pipeline.report import summarise
from pipeline.stage import Context

S = 1_000_000_000


@pytest.fixture
def context(tmp_path) -> Context:
    return Context("decoder", tmp_path, clock=FakeClock(), facts={"clock": "recorded", "width": 1242, "height": 375})


@pytest.fixture
def stream(context) -> LiveStream:
    return LiveStream(context, relay=True, sends=False)


def turned(stream: LiveStream) -> LiveStream:
    stream.turn(stream._context.clock.monotonic_ns())
    return stream


def test_the_whole_run_is_what_the_report_says(context, stream):
    for i in range(200):
        frame(context, i, 10.0)
    for i, reason in ((200, "latest"), (201, "latest"), (202, "corrupt")):
        context.ledger.drop(i, reason, START_NS + i * S // 10)
    context.ledger.note(7, unpaired=1.0)
    context.facts["side_bytes_on_wire"] = 4321
    run = turned(stream).whole()["run"]
    report = summarise(context.ledger.rows(), context.facts)
    for name in ("frames_in", "frames_out", "drops", "unpaired"):
        assert run[name] == report[name]
    for name in ("psnr_db", "ms_ssim", "psnr_without_side_db", "psnr_with_side_sampled_db", "duration_s"):
        assert run[name] == pytest.approx(report[name], rel=1e-9)
    for name in ("payload_bytes", "wire_bytes", "bpp", "kbps"):
        assert run[name] == pytest.approx(report["primary"][name], rel=1e-9)
    assert run["side_bytes"] == report["side"]["bytes_on_wire"]
    assert run["ratio"] == pytest.approx(24 / report["primary"]["bpp"])


def test_now_is_the_last_ten_seconds(context, stream):
    for i in range(300):
        frame(context, i, 10.0, payload_bytes=1000 if i < 200 else 2000, wire_bytes=1096 if i < 200 else 2096)
    now = turned(stream).whole()["now"]
    assert now["kbps"] == pytest.approx(2096 * 8 * 10 / 1000)
    assert now["capture_fps"] == pytest.approx(10)
    assert now["fps"] == pytest.approx(10)
    assert 190 < now["age_p95_ms"] < 240


def test_what_the_encoder_tells_later_replaces_what_was_taken_for_it(context, stream):
    context.ledger.frame_in(0, START_NS)
    context.ledger.note(0, payload_bytes=1000.0, bpp=0.5)
    assert turned(stream).whole()["run"]["wire_bytes"] == 1096
    context.ledger.merge(
        [{"frame_id": 0, "pts_ns": START_NS, "status": "pending", "values": {"wire_bytes": 2192.0}}]
    )  # it was sent twice
    whole = turned(stream).whole()
    assert whole["run"]["wire_bytes"] == 2192
    assert [level["rows"][0][4] for level in whole["levels"]] == [2192, 2192, 2192]
    assert whole["run"]["frames_in"] == 1


def test_without_a_link_there_are_no_bytes_on_it(context):
    stream = LiveStream(context, relay=False, sends=False)
    context.ledger.frame_in(0, START_NS)
    context.ledger.note(0, payload_bytes=1000.0, bpp=0.5)
    whole = turned(stream).whole()
    assert (whole["run"]["wire_bytes"], whole["now"]["kbps"], whole["link"]) == (None, None, None)


def test_news_are_what_has_changed(context, stream):
    for i in range(20):
        frame(context, i, 10.0)
    turned(stream).news()
    frame(context, 20, 10.0)
    news = turned(stream).news()
    assert [row[0] for row in news["news"][0]] == [2]
    assert [shown[0] for shown in news["frames"]] == [20]
    assert "picture" not in news
    assert turned(stream).news()["frames"] == []


def test_what_a_page_is_told_does_not_grow_with_the_day(context, stream):
    """Every 150th frame of a day at 30 frames a second."""

    def told(begin: int, end: int) -> int:
        for i in range(begin, end):
            frame(context, i, 0.2)
            if i % 50 == 0:
                stream.turn(0)
                stream.news()
        return len(event("whole", turned(stream).whole()))

    early, late = told(0, 2000), told(2000, 17_280)
    assert late < 1.5 * early < 150_000
    assert len(stream.tally.last(10**6)) <= ROWS_KEPT
    assert [len(level._sums) for level in stream.tally.history.levels] == [300, 360, 288]
    assert len(stream.whole()["frames"]) == FRAMES_SHOWN
    assert stream.whole()["run"]["frames_in"] == 17_280


def test_a_second_of_frames_costs_less_than_a_hundredth_of_a_core(context, stream):
    spent = []
    for second in range(20):
        for i in range(30):
            frame(context, second * 30 + i, 30.0)
        begin_ns = time.thread_time_ns()
        event("news", turned(stream).news())
        spent.append(time.thread_time_ns() - begin_ns)
    assert statistics.median(spent) < 10_000_000  # 2 ms on a machine that has nothing else to do


@pytest.mark.parametrize(
    "value", ["<script>alert(1)</script>", "\x1b[2J\u202egpj", "x" * 10**6, {"a": [1]}, float("nan")]
)
def test_facts_of_a_hostile_node_become_short_text_or_nothing(context, stream, value):
    context.facts.update(model=value, quality=value, width=value, budget_kbps=value, side_bytes_on_wire=value)
    whole = json.loads(event("whole", turned(stream).whole()).split(b"data: ")[1])
    for name in ("model", "quality", "width"):
        shown = whole["facts"][name]
        assert shown is None or (len(shown) <= 120 and shown.isprintable())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_measurements_that_are_no_numbers_are_unknown(context, stream, value):
    names = ("payload_bytes", "wire_bytes", "bpp", "psnr_db", "ms_ssim", "psnr_without_side_db", "latency_ms")
    for i in range(3):
        frame(context, i, 10.0, **dict.fromkeys((*names, "encode_ms", "settled_s", "side_offset_ms"), value))
    whole = turned(stream).whole()
    event("whole", whole)  # raises for numbers that JSON does not know
    assert whole["now"]["psnr_db"] is None
    assert whole["run"]["payload_bytes"] is None


def test_absurd_times_break_nothing(context, stream):
    for i, pts_ns in enumerate((0, 10**400, -(10**400), S)):
        context.ledger.frame_in(i, pts_ns)
        context.ledger.note(i, payload_bytes=1000.0, bpp=0.5)
    event("whole", turned(stream).whole())


def test_the_axis_of_cameras_goes_on_in_an_outage_whatever_the_encoders_clock_says(context, stream):
    context.facts["clock"] = "wall"
    for i in range(20):
        frame(context, i, 10.0)
    stream.turn(context.clock.now_ns)
    assert stream.whole()["edge_s"] == pytest.approx(1.9)
    context.clock.now_ns += 7 * S
    assert stream.whole()["edge_s"] == pytest.approx(8.9)


def test_causes_of_the_age_are_those_of_the_last_frames(context, stream):
    latency = context.metrics.latency_seconds
    latency.labels("decode").observe(100.0)
    for _ in range(12):
        stream.turn(0)
    for _ in range(4):
        latency.labels("decode").observe(0.14)
        latency.labels("network").observe(0.02)
    causes = dict(turned(stream).whole()["causes"])
    assert causes == {"decode": pytest.approx(140.0), "network": pytest.approx(20.0)}


def test_absurd_numbers_are_shown_as_they_are_and_break_nothing(context, stream):
    frame(context, 0, 10.0, payload_bytes=1e308, wire_bytes=1e308, bpp=1e-308)
    frame(context, 1, 10.0, payload_bytes=1e308, wire_bytes=1e308, bpp=1e-308)
    event("whole", turned(stream).whole())


def test_the_light_follows_the_link(context, stream):
    clock = context.clock
    turned(stream)
    assert stream.light().word == "Starting"
    clock.now_ns += 3 * S
    assert stream.light().word == "Nothing yet"
    context.heard_ns = clock.now_ns
    frame(context, 0, 10.0)
    assert turned(stream).light().colour == "green"
    clock.now_ns += 2 * S
    assert stream.light().colour == "green"
    clock.now_ns += S
    assert stream.light().colour == "red"
    context.heard_ns = clock.now_ns
    frame(context, 1, 10.0)
    assert turned(stream).light().colour == "green"


@pytest.mark.parametrize("relay", [True, False])
def test_frames_that_come_through_are_enough_when_all_of_them_have_entered(tmp_path, relay):
    context = Context("node", tmp_path, clock=FakeClock())
    stream = LiveStream(context, relay=relay, sends=False)
    for i in range(20):
        context.ledger.frame_in(i, START_NS + i * S // 10)
    for i in range(19):
        context.clock.now_ns = context.heard_ns = i * S
        context.ledger.frame_out(i)
        assert turned(stream).light().word == "Running"
    context.clock.now_ns = context.heard_ns = 22 * S
    assert "(1 on their way)" in turned(stream).light().sentence
    context.ledger.frame_out(19)
    assert turned(stream).light().word == "Running"


def test_a_camera_whose_encoder_was_restarted_goes_on(context, stream):
    context.facts["clock"] = "wall"
    for i in range(50):
        frame(context, i, 10.0)
    context.heard_ns = context.clock.now_ns
    turned(stream)
    context.clock.now_ns += 9 * S
    for i in range(30):
        context.ledger.frame_in(i, START_NS + 9 * S + i * S // 10)
        context.ledger.note(i, payload_bytes=1000.0, wire_bytes=1096.0, bpp=0.5)
        context.ledger.frame_out(i)
    context.heard_ns = context.clock.now_ns
    whole = turned(stream).whole()
    assert (whole["light"]["word"], whole["run"]["frames_out"]) == ("Running", 80)
    assert whole["edge_s"] == pytest.approx(11.9)
    assert [row[1] for row in whole["levels"][0]["rows"][-3:]] == [10, 10, 10]


def test_an_error_and_the_end_are_shown(context, stream):
    stream.end()
    context.facts["complete"] = False
    assert turned(stream).whole()["light"]["word"] == "Ended early"
    context.error = StageError("decode", 3, "no memory")
    assert turned(stream).whole()["light"] == {
        "colour": "red",
        "word": "Failed",
        "sentence": "decode at frame 3: no memory",
    }


def test_an_encoder_without_a_decoder_is_red(tmp_path):
    context = Context("encoder", tmp_path, clock=FakeClock())
    stream = LiveStream(context, relay=False, sends=True)
    frame(context, 0, 10.0)
    assert turned(stream).light().word == "No link"
    context.metrics.link_up.set(1)
    assert turned(stream).light().colour == "green"


def test_what_the_side_view_saves_is_measured_on_the_same_frames(context, stream):
    for i in range(10):
        frame(context, i, 10.0, psnr_db=30.0 + i)
    context.ledger.note(3, psnr_without_side_db=30.5)
    context.ledger.note(0, psnr_without_side_db=29.0)
    gain = turned(stream).whole()["gain"]
    assert gain == {"samples": 2, "with_db": 31.5, "without_db": 29.75, "gain_db": 1.75}


def test_streams_of_one_page_do_not_mix(tmp_path):
    node = Node(tmp_path, streams=2)
    frame(node.contexts[0], 0, 10.0)
    for one in node.streams:
        one.turn(0)
    assert [one.whole()["run"]["frames_in"] for one in node.streams] == [1, 0]
