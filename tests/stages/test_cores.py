"""Only the thread that computes has a team of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from stages.cores import Cores


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


@pytest.mark.parametrize(("count", "expected"), [(2, 2), (1, 1), (0, 1)])
def test_whoever_opens_has_one_thread_and_whoever_computes_has_all(count: int, expected: int) -> None:
    cores = Cores(count)
    assert torch.get_num_threads() == 1
    assert threads_in_a_thread(cores) == expected
    assert torch.get_num_threads() == 1
    assert threads_in_a_thread(cores) == expected, "another thread takes over"
