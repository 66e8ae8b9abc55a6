"""Only the threads that compute have teams, and together no more threads than there are cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from stages.cores import Cores, Room


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def threads_in_a_thread(cores: Cores) -> int:
    found: list[int] = []

    def compute() -> None:
        cores.claim()
        cores.claim()
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    ("count", "at_once", "each"), [(0, 1, 1), (1, 1, 1), (2, 2, 1), (4, 4, 1), (7, 4, 1), (8, 4, 2), (16, 4, 4)]
)
def test_pictures_share_the_cores_and_whoever_opens_has_one_thread(count: int, at_once: int, each: int) -> None:
    cores = Cores(count)
    assert cores.at_once == at_once
    assert torch.get_num_threads() == 1
    assert threads_in_a_thread(cores) == each
    assert torch.get_num_threads() == 1
    assert threads_in_a_thread(cores) == each, "another thread works too"


def test_pictures_wait_until_there_is_room_for_them() -> None:
    room, log = Room(100), list[str]()

    def work(pixels: int) -> None:
        with room.taken(pixels):
            log.append(f"{pixels}")

    with room.taken(40):
        beside = threading.Thread(target=work, args=(60,))
        beside.start()
        beside.join(5)
        later = [threading.Thread(target=work, args=(pixels,)) for pixels in (61, 1000)]
        for thread in later:
            thread.start()
            thread.join(0.05)
        assert log == ["60"]
    for thread in later:
        thread.join(5)
    assert sorted(log) == ["1000", "60", "61"]
