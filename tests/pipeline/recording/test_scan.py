from __future__ import annotations

import io
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
import recordings
from mcap.records import Header
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter

from pipeline.errors import SourceError
from pipeline.recording import layout
from pipeline.recording.chunk import ChunkInMaking, index_bytes
from pipeline.recording.index import Index, open_index
from pipeline.recording.layout import BITS, METRICS
from pipeline.recording.scan import MAX_MESSAGES, Scan


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording of 120 packets in several chunks, with side views."""
    out = tmp_path_factory.mktemp("whole")
    recordings.record(out, recordings.pairs(80), side=True, config="nodes: {}\n")
    return (out / "recording.mcap").read_bytes()


def index_of(tmp_path: Path, data: bytes) -> Index:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.mcap"
    path.write_bytes(data)
    return open_index([path])


def flipped(data: bytes, seed: int, count: int) -> tuple[bytes, list[int]]:
    rng, damaged = random.Random(seed), bytearray(data)
    places = rng.sample(range(len(data)), count)
    for place in places:
        damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged), places


def _regions(entry) -> list[range]:
    """Where the messages of a packet lie, from the heads of their records on."""
    head, note = 31, 280  # the pairing note stands right before the packet
    places = [range(entry.place.offset - 2 * head - note, entry.place.offset + entry.place.length)]
    return places + ([range(entry.side.offset - head, entry.side.offset + entry.side.length)] if entry.side else [])


@pytest.mark.parametrize("seed", range(5))
def test_forty_flipped_bits_are_each_reported_and_the_undamaged_frames_play(tmp_path, whole, seed):
    sound = index_of(tmp_path, whole)
    data, places = flipped(whole, seed, 40)
    index = index_of(tmp_path, data)
    assert [p for p in places if not any(d.start <= p < d.end for d in index.damage)] == []
    untouched = {
        e.packet.frame_id
        for e in recordings.primaries(sound)
        if not any(p in region for region in _regions(e) for p in places)
    }
    played = {e.packet.frame_id for e in recordings.primaries(index) if not e.side_lost}
    assert untouched <= played
    assert len(untouched) > 20
    by_id = {e.packet.frame_id: e for e in recordings.primaries(sound)}
    for entry in recordings.primaries(index):
        assert (entry.packet, entry.pair if not entry.side_lost else None) == (
            by_id[entry.packet.frame_id].packet,
            by_id[entry.packet.frame_id].pair if not entry.side_lost else None,
        )


def test_any_single_flipped_bit_is_reported_with_its_place(tmp_path, whole):
    rng = random.Random(9)
    places = [*rng.sample(range(len(whole)), 60), *range(len(whole) - 60, len(whole)), *range(40)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        damage = index_of(tmp_path, bytes(data)).damage
        assert any(d.start <= place < d.end for d in damage), place


@pytest.mark.parametrize("seed", range(4))
def test_a_recording_that_is_cut_anywhere_gives_what_is_before_the_cut(tmp_path, whole, seed):
    sound = index_of(tmp_path, whole)
    cut = random.Random(seed).randrange(len(layout.prefix()), len(whole))
    index = index_of(tmp_path, whole[:cut])
    complete = [e for e in recordings.primaries(sound) if e.place.offset + e.place.length <= cut]
    assert [e.packet for e in recordings.primaries(index)] == [e.packet for e in complete]
    assert index.shortcomings[0].endswith("was cut off before its end")


def test_what_is_inserted_or_missing_in_the_middle_costs_only_its_neighbours(tmp_path, whole):
    sound = index_of(tmp_path, whole)
    middle = len(whole) // 2
    inserted = index_of(tmp_path, whole[:middle] + bytes(5000) + whole[middle:])
    removed = index_of(tmp_path, whole[:middle] + whole[middle + 3000 :])
    assert len(recordings.primaries(sound)) - len(recordings.primaries(inserted)) <= 2
    assert len(recordings.primaries(sound)) - len(recordings.primaries(removed)) <= 5
    assert inserted.damage
    assert removed.damage


def test_missing_packets_are_counted(tmp_path, whole):
    sound = index_of(tmp_path, whole)
    victim = recordings.primaries(sound)[50].place
    index = index_of(tmp_path, whole[: victim.offset + 120] + b"\xff" + whole[victim.offset + 121 :])
    assert index.lost[BITS] == 1
    assert index.shortcomings == ["1 place is damaged", "1 packet is missing"]


def test_a_length_field_of_4_gib_allocates_nothing_and_is_named(tmp_path):
    data = layout.prefix() + struct.pack("<BQ", 6, 1 << 32) + bytes(100)
    index = index_of(tmp_path, data)
    assert "a record that claims 4294967296 bytes" in index.damage[0].what


def test_a_file_of_forged_chunks_ends(tmp_path):
    head = struct.pack("<BQQQQIIQ", 6, 60_040, 0, 0, 60_000, 1, 0, 60_000)
    data = layout.prefix() + b"\xff" + head * 4000
    assert index_of(tmp_path, data).roles == {}


def _foreign(compression: CompressionType) -> bytes:
    stream = io.BytesIO()
    writer = McapWriter(stream, compression=compression)
    writer.start(profile="ros2", library="rosbag2")
    channel = writer.register_channel("/camera", "cdr", 0)
    writer.add_message(channel, 0, b"x" * 100, 0)
    writer.finish()
    return stream.getvalue()


def _later_version() -> bytes:
    return layout.MAGIC + layout.record_bytes(Header("sidecast", "sidecast recording 2")) + bytes(900)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty, expected a recording"),
        (b"RIFF" * 20, "expected an MCAP file, found one that begins with b'RIFFRIFF'"),
        (_foreign(CompressionType.NONE), "is an MCAP file of profile 'ros2', written by 'rosbag2', expected one"),
        (_foreign(CompressionType.ZSTD), "is an MCAP file of profile 'ros2', written by 'rosbag2', expected one"),
        (layout.prefix()[:30], "is cut off after 30 bytes, before anything was recorded"),
        (layout.prefix()[:5], "is cut off after 5 bytes, before anything was recorded"),
        (layout.MAGIC + bytes(900), "is an MCAP file whose header is cut off or damaged"),
        (_later_version(), "is a 'sidecast recording 2', this version of sidecast reads 'sidecast recording 1'"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_with_one_sentence(tmp_path, data, sentence):
    path = tmp_path / "foreign.mcap"
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        list(Scan(path).messages())
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"none\.mcap: No such file"):
        list(Scan(tmp_path / "none.mcap").messages())


@pytest.mark.parametrize(("count", "size"), [(4000, 40), (200, 60_000)])
def test_a_reading_takes_no_more_memory_for_a_longer_recording(tmp_path, count, size):
    recordings.record(tmp_path, [recordings.packet(i, size) for i in range(count)])
    path = tmp_path / "recording.mcap"
    tracemalloc.start()
    try:
        index = open_index([path])
        assert sum(1 for _ in index.entries()) == index.messages[BITS] == count
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_becomes_shorter_while_it_is_read_is_told_in_a_sentence(tmp_path, whole):
    path = tmp_path / "shrinking.mcap"
    path.write_bytes(whole)
    entries = open_index([path]).entries()
    next(entries)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"shrinking\.mcap became shorter while it was read"):
        list(entries)


def test_a_chunk_of_more_messages_than_ours_have_is_damage(tmp_path):
    chunk = ChunkInMaking(0)
    for i in range(MAX_MESSAGES + 1):
        chunk.add(METRICS, i, 0, 0, b"{}")
    index = index_of(tmp_path, layout.prefix() + b"".join(chunk.seal()) + index_bytes(chunk.offsets))
    assert index.messages[METRICS] == MAX_MESSAGES
    assert "what is no message in a chunk" in index.damage[0].what
