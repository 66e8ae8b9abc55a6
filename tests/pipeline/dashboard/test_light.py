"""The traffic light: the worst that is true, in words."""

from __future__ import annotations

import pytest

from pipeline.dashboard.light import SILENCE_NS, Signs, judge

S = 1_000_000_000


def signs(**values) -> Signs:
    return Signs(**{"peer": "the encoder", "quiet_ns": 0, **values})


@pytest.mark.parametrize(
    ("found", "colour", "word"),
    [
        (signs(frames=100), "green", "Running"),
        (signs(ready=False, heard=False), "off", "Starting"),
        (signs(heard=False, quiet_ns=S), "off", "Starting"),
        (signs(heard=False, quiet_ns=SILENCE_NS), "red", "Nothing yet"),
        (signs(quiet_ns=SILENCE_NS - 1), "green", "Running"),
        (signs(quiet_ns=SILENCE_NS, drops={"latest": 1}), "red", "Silent"),
        (signs(link_up=False), "red", "No link"),
        (signs(still_ns=3 * S), "amber", "Attention"),
        (signs(still_ns=3 * S - 1, pending=8), "green", "Running"),
        (signs(drops={"corrupt": 2}, frames=100), "amber", "Attention"),
        (signs(unpaired=10, frames=100), "amber", "Attention"),
        (signs(kbps=901.0, budget_kbps=900.0), "amber", "Attention"),
        (signs(kbps=899.0, budget_kbps=900.0), "green", "Running"),
        (signs(kbps=None, budget_kbps=900.0), "green", "Running"),
        (signs(ended=True, quiet_ns=99 * S), "off", "Ended"),
        (signs(ended=True, complete=False), "amber", "Ended early"),
        (signs(error="decode at frame 3: no memory", ended=True), "red", "Failed"),
    ],
)
def test_the_light_shows_the_worst(found, colour, word):
    light = judge(found)
    assert (light.colour, light.word) == (colour, word)
    assert light.sentence


def test_the_light_is_red_within_three_seconds_of_the_last_word():
    assert SILENCE_NS <= 2.75 * S


def test_the_sentence_names_every_trouble_with_its_numbers():
    light = judge(signs(drops={"stale": 2, "corrupt": 1}, unpaired=9, frames=120, kbps=1234.4, budget_kbps=900.0))
    assert light.sentence == (
        "Dropped of the last 120 frames: 1 corrupt, 2 stale; 9 of the last 120 frames had no side view; "
        "1234 kbit/s are over the budget of 900."
    )


def test_what_is_on_its_way_but_does_not_come_through_is_not_blamed_on_the_encoder():
    assert judge(signs(still_ns=9 * S)).sentence == "The encoder answers, but no frame has come for more than 3 s."
    stuck = judge(signs(still_ns=9 * S, pending=8))
    assert stuck.sentence == "No frame has come through for more than 3 s (8 on their way)."


def test_a_long_error_is_cut():
    assert len(judge(signs(error="x" * 10_000)).sentence) == 300
