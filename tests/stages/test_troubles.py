"""Repeated troubles: a line at once, then one a second with the count."""

from __future__ import annotations

import logging

import pytest

from pipeline.stage import Context
from stages.troubles import Troubles


class Hand:
    """A clock set by hand."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float, until=None) -> None:
        raise AssertionError("nobody sleeps here")


def test_a_line_at_once_then_one_a_second_with_the_count(context: Context, caplog: pytest.LogCaptureFixture):
    clock = Hand()
    troubles = Troubles(Context(node="test", out=context.out, clock=clock))
    with caplog.at_level(logging.WARNING):
        for tenth in range(12):
            clock.now_ns = tenth * 100_000_000
            troubles.say(f"trouble {tenth}")
        troubles.close()
        troubles.close()
    assert [r.getMessage() for r in caplog.records] == [
        "trouble 0",
        "trouble 10 (and 9 more since the last line)",
        "1 more of the same kind",
    ]
