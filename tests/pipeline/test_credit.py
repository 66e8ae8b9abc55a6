"""The books of both ends: credits, repetitions, settling, batches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline import credit
from pipeline.credit import MAX_HELPERS, MAX_ROWS, Feed, Inbox, Outbox
from pipeline.types import Packet
from pipeline.wire import Ack

MS = 1_000_000


def packet(frame_id, role="primary", *, sequence=0, stream_id=1, pts_ns=None, taken_ns=0):
    return Packet(
        frame_id=frame_id,
        view="left",
        role=role,
        pts_ns=frame_id * 100 * MS if pts_ns is None else pts_ns,
        taken_ns=taken_ns,
        model_id=b"PNG\0\0\0\0\0",
        width=4,
        height=2,
        quality=0.0,
        payload=b"x",
        stream_id=stream_id,
        sequence=sequence,
    )


def filled(count, window=8, max_age_ns=None):
    outbox = Outbox(window, max_age_ns)
    for i in range(count):
        outbox.add(packet(i, taken_ns=i * 100 * MS), stream_id=1)
    return outbox


def sent(outbox):
    sequences = []
    while (item := outbox.next()) is not None:
        sequences.append(item[0].sequence)
    return sequences


def test_window_limits_what_is_sent_and_received_returns_credit():
    outbox = filled(5, window=2)
    assert not outbox.room
    assert sent(outbox) == [0, 1]
    outbox.acknowledge(Ack(0))
    assert outbox.credits == 1
    assert sent(outbox) == [2]
    outbox.acknowledge(Ack(2))
    assert sent(outbox) == [3, 4]
    assert not outbox.room


def test_packets_are_kept_until_done_not_until_received():
    outbox = filled(3)
    sent(outbox)
    assert outbox.acknowledge(Ack(2)) == []
    assert outbox.room
    assert len(outbox) == 3
    settled = outbox.acknowledge(Ack(2, [(1, "out"), (7, "out")]))
    assert [(p.frame_id, how) for p, how in settled] == [(1, "out")]
    assert len(outbox) == 2


def test_new_decoder_gets_everything_that_is_not_done_again_in_order():
    outbox = filled(4)
    sent(outbox)
    outbox.acknowledge(Ack(3, [(1, "out")]))
    outbox.disconnected()
    assert outbox.connected(Ack(-1, taken=-1, undone=[]), 0) == []
    items = [outbox.next() for _ in range(3)]
    assert [(p.sequence, again) for p, again in items] == [(0, True), (2, True), (3, True)]


def test_decoder_that_stayed_alive_gets_only_what_it_has_not():
    outbox = filled(5)
    sent(outbox)
    outbox.disconnected()
    settled = outbox.connected(Ack(2, [(0, "corrupt")], taken=3, undone=[2, 3]), 0)
    assert [(p.sequence, how) for p, how in settled] == [(0, "corrupt"), (1, "out")]
    assert sent(outbox) == [4]
    assert len(outbox) == 3


def test_live_drops_what_is_too_old_only_where_the_decoder_has_not_got_it():
    outbox = filled(4, window=4, max_age_ns=150 * MS)
    sent(outbox)
    outbox.disconnected()
    settled = outbox.connected(Ack(0, taken=0, undone=[0]), 320 * MS)
    assert [(p.sequence, how) for p, how in settled] == [(1, "stale")]
    assert sent(outbox) == [2, 3]


def test_bytes_of_a_packet_add_up_over_sendings():
    outbox = filled(1)
    assert outbox.count_bytes(0, 100) == 100
    assert outbox.count_bytes(0, 100) == 200


def handed_on(inbox):
    frames = []
    while (head := inbox.head()) is not None:
        frames.append((head.stream_id, head.frame_id, head.role))
        inbox.consumed()
    return frames


def test_received_follows_the_chain_not_the_wire():
    inbox = Inbox()
    inbox.begin(1)
    for i in range(3):
        assert inbox.take(packet(i, sequence=i))
    assert inbox.received == -1
    inbox.consumed()
    assert inbox.received == 0
    inbox.consumed()
    inbox.consumed()
    assert inbox.received == inbox.taken == 2


def test_repeated_packet_is_handed_on_once_and_done_again_if_it_was():
    inbox = Inbox()
    inbox.begin(1)
    inbox.take(packet(0, sequence=0))
    inbox.take(packet(1, sequence=1))
    inbox.settle(0, "out")
    assert inbox.done() == [(0, "out")]
    assert not inbox.take(packet(0, sequence=0))
    assert not inbox.take(packet(1, sequence=1))
    assert inbox.done() == [(0, "out")]
    assert handed_on(inbox) == [(1, 0, "primary"), (1, 1, "primary")]
    assert inbox.undone == [1]


def test_same_frame_in_another_role_is_another_packet():
    inbox = Inbox()
    inbox.begin(1)
    assert inbox.take(packet(0, sequence=0))
    assert inbox.take(packet(0, "side", sequence=1))
    assert inbox.take(packet(0, "reference", sequence=2))
    inbox.settle(0, "out")
    assert sorted(inbox.done()) == [(0, "out"), (1, "out"), (2, "out")]


def test_side_view_is_done_when_a_later_frame_settles():
    inbox = Inbox()
    inbox.begin(1)
    inbox.take(packet(100, "side", sequence=0))
    inbox.take(packet(5, sequence=1))
    inbox.take(packet(101, "side", sequence=2))
    inbox.settle(5, "out")
    assert sorted(inbox.done()) == [(0, "out"), (1, "out")]
    assert inbox.undone == [2]


def test_side_views_alone_are_forgotten_beyond_a_limit():
    inbox = Inbox()
    inbox.begin(1)
    for i in range(MAX_HELPERS + 3):
        inbox.take(packet(i, "side", sequence=i))
    assert inbox.done() == [(0, "out"), (1, "out"), (2, "out")]


def test_encoder_that_repeats_a_recording_is_heard_only_where_it_left_off():
    inbox = Inbox()
    inbox.begin(1)
    for i in range(3):
        inbox.take(packet(i, sequence=i))
    handed_on(inbox)
    inbox.settle(0, "out")
    inbox.begin(2)
    assert [inbox.take(packet(i, sequence=i, stream_id=2)) for i in range(4)] == [False, False, False, True]
    assert inbox.done() == [(0, "out")]
    inbox.settle(1, "out")
    inbox.settle(2, "corrupt")
    assert inbox.done() == [(1, "out"), (2, "corrupt")]
    assert handed_on(inbox) == [(2, 3, "primary")]


def test_camera_whose_counter_starts_again_is_handed_on():
    inbox = Inbox()
    inbox.begin(1)
    inbox.take(packet(0, sequence=0))
    handed_on(inbox)
    inbox.settle(0, "out")
    inbox.begin(2)
    assert inbox.take(packet(0, sequence=0, stream_id=2, pts_ns=77))
    assert inbox.done() == [(0, "out")]
    assert handed_on(inbox) == [(2, 0, "primary")]


def test_damaged_packet_is_not_handed_on_and_settles_with_its_frame():
    inbox = Inbox()
    inbox.begin(1)
    assert inbox.take(packet(0, sequence=0), damaged=True)
    assert inbox.head() is None
    assert inbox.received == 0
    inbox.settle(0, "corrupt")
    assert inbox.done() == [(0, "corrupt")]
    assert not inbox.take(replace(packet(0, sequence=0)))


def test_what_an_inbox_remembers_is_bounded_and_it_asks_about_older_frames(monkeypatch):
    monkeypatch.setattr(credit, "REMEMBERED", 10)
    written = {}
    inbox = Inbox(written.get)
    inbox.begin(1)
    for i in range(50):
        assert inbox.take(packet(i, sequence=i))
        inbox.settle(i, "out")
        written[i] = (packet(i).pts_ns, "out")
    assert len(inbox._seen) == len(inbox._settled_frames) == 10
    handed_on(inbox)
    inbox.begin(2)
    assert not any(inbox.take(packet(i, sequence=i, stream_id=2)) for i in range(50))
    assert inbox.done() == [(i, "out") for i in range(50)]
    assert inbox.take(packet(3, sequence=50, stream_id=2, pts_ns=77))
    assert inbox.undone == [50]


def rows(*frame_ids, bpp=0.0):
    return [{"frame_id": i, "pts_ns": 0, "status": "pending", "values": {"bpp": bpp}} for i in frame_ids]


def test_feed_sends_one_batch_of_bounded_size_at_a_time():
    feed = Feed()
    feed.add(rows(*range(MAX_ROWS + 5)))
    assert len(feed.batch()) == MAX_ROWS
    assert feed.batch() == []
    feed.confirm(feed.number - 1)
    assert not feed.free
    feed.confirm(feed.number)
    assert [row["frame_id"] for row in feed.batch()] == list(range(MAX_ROWS, MAX_ROWS + 5))
    assert len(feed) == 0


@pytest.mark.parametrize("confirmed", [True, False])
def test_feed_repeats_what_was_not_confirmed_in_its_newest_state(confirmed):
    feed = Feed()
    feed.add(rows(1, 2))
    feed.batch()
    if confirmed:
        feed.confirm(feed.number)
    feed.add(rows(2, bpp=0.5))
    feed.retry()
    expected = {2: 0.5} if confirmed else {1: 0.0, 2: 0.5}
    assert {row["frame_id"]: row["values"]["bpp"] for row in feed.batch()} == expected
