from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcap.reader import NonSeekingReader, make_reader

from pipeline.recording.layout import BITS, CHUNK_BYTES, EVENTS, METRICS
from pipeline.recording.records import Damage, Found
from pipeline.recording.scan import Scan
from pipeline.recording.writer import Writer

END = b'{"event": "end"}'


class Disk(io.FileIO):
    """A file on a disk of so many bytes; `broken` fails for another reason."""

    def __init__(self, path: Path, room: int = 1 << 40) -> None:
        super().__init__(path, "x+")
        self.room, self.broken = room, False

    def write(self, data) -> int:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        left = self.room - self.tell()
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(memoryview(data)[:left])


@pytest.fixture
def disk() -> Iterator[Callable[..., Disk]]:
    made: list[Disk] = []

    def make(path: Path, **options: int) -> Disk:
        made.append(Disk(path, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def read(path: Path) -> tuple[list[Found], bool, list[Damage]]:
    """The messages of a file, whether it is finished, and its damage."""
    scan = Scan(path)
    messages = list(scan.messages())
    return messages, scan.finished, scan.damage


def strictly(path: Path) -> list[tuple[str, bytes]]:
    """What the mcap package's readers say is in a file, with every CRC checked."""
    with path.open("rb") as file:
        streamed = [
            (channel.topic, message.data)
            for _, channel, message in NonSeekingReader(file, validate_crcs=True).iter_messages(log_time_order=False)
        ]
        file.seek(0)
        indexed = [
            (channel.topic, message.data)
            for _, channel, message in make_reader(file, validate_crcs=True).iter_messages(log_time_order=False)
        ]
    assert sorted(streamed) == sorted(indexed)
    return streamed


def test_a_finished_file_is_accepted_by_the_strict_readers_of_mcap(tmp_path, disk):
    path = tmp_path / "a.mcap"
    writer = Writer(disk(path), [("config.yaml", "application/yaml", b"nodes: {}")], now_ns=5)
    for i in range(300):
        writer.add(BITS, bytes([i % 256]) * 700, log_ns=1000 + i, publish_ns=i)
        writer.add(METRICS, b"{}", log_ns=1000 + i)
    writer.finish(lambda: END)
    found = strictly(path)
    assert len(found) == 601
    assert [data[0] for topic, data in found if topic == "/sidecast/bits"] == [i % 256 for i in range(300)]
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary.statistics.message_count == 601
        assert summary.statistics.chunk_count == len(summary.chunk_indexes) == 5
        assert [a.data for a in reader.iter_attachments()] == [b"nodes: {}"]
        assert [m.publish_time for _, _, m in reader.iter_messages(topics="/sidecast/bits")] == list(range(300))


def test_a_file_that_was_never_finished_lacks_one_chunk_at_most(tmp_path, disk):
    path = tmp_path / "a.mcap.part"
    writer = Writer(disk(path), monotonic_ns=lambda: 0)
    for i in range(500):
        writer.add(BITS, bytes(2000 + i), log_ns=i)
        written = sum(m.length for m in read(path)[0]) if i % 50 == 49 else None
        if written is not None:
            assert sum(2000 + k for k in range(i + 1)) - written < CHUNK_BYTES
    assert read(path)[1:] == (False, [])


def test_a_chunk_is_written_after_a_second_full_or_not(tmp_path, disk):
    now = [0]
    writer = Writer(disk(tmp_path / "a.mcap.part"), monotonic_ns=lambda: now[0])
    writer.add(BITS, b"x", log_ns=1)
    now[0] = 999_999_999
    writer.flush_if_old()
    assert read(tmp_path / "a.mcap.part")[0] == []
    now[0] += 1
    writer.flush_if_old()
    assert len(read(tmp_path / "a.mcap.part")[0]) == 1


def _fill(writer: Writer) -> None:
    while True:
        writer.add(BITS, bytes(6000), log_ns=1)


@pytest.mark.parametrize("room", [70_000, 200_000, 200_300, 201_000, 263_000])
def test_a_full_disk_leaves_a_whole_file_that_counts_what_it_lacks(tmp_path, disk, room):
    path = tmp_path / "a.mcap"
    writer = Writer(disk(path, room=room))
    with pytest.raises(OSError, match="No space"):
        _fill(writer)
    writer.finish(lambda: json.dumps({"event": "end", "packets": writer.counts[BITS]}).encode())
    found = strictly(path)
    kept = sum(topic == "/sidecast/bits" for topic, _ in found)
    assert json.loads(found[-1][1]) == {"event": "end", "packets": kept}
    assert path.stat().st_size <= room
    assert kept * 6000 > room - 3 * CHUNK_BYTES or room == 70_000
    assert read(path)[1:] == (True, [])


def test_a_broken_disk_costs_nothing_that_was_written(tmp_path, disk):
    path = tmp_path / "a.mcap.part"
    medium = disk(path)
    writer = Writer(medium)
    for i in range(100):
        writer.add(BITS, bytes(3000), log_ns=i)
    before = len(read(path)[0])
    medium.broken = True
    with pytest.raises(OSError, match="Input/output"):
        writer.finish(lambda: END)
    assert len(read(path)[0]) == before > 60


def test_messages_are_numbered_by_channel_and_times_are_never_negative(tmp_path, disk):
    writer = Writer(disk(tmp_path / "a.mcap"))
    for channel in (BITS, METRICS, BITS):
        writer.add(channel, b"{}", log_ns=-5, publish_ns=-7)
    writer.finish(lambda: END)
    found = [(m.channel, m.sequence) for m in read(tmp_path / "a.mcap")[0]]
    assert found == [(BITS, 0), (METRICS, 0), (BITS, 1), (EVENTS, 0)]
