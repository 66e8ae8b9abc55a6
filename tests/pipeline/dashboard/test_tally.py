"""What the dashboard adds up of a stream."""

from __future__ import annotations

from pipeline.dashboard.history import LIVE_LEVELS
from pipeline.dashboard.tally import ROWS_KEPT, Tally
from pipeline.row import OUT, Row


def test_rows_that_nobody_asks_about_are_not_kept_for_ever() -> None:
    tally = Tally(LIVE_LEVELS, None)
    for i in range(2 * ROWS_KEPT):
        tally.take(Row(i, i * 33_333_333, OUT, {"payload_bytes": 100.0}, i))
    assert len(tally._changed) == ROWS_KEPT
    assert tally.changed(1)[0].row.number == 2 * ROWS_KEPT - 1
