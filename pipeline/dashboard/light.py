"""The traffic light of a stream: its colour, and one sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["SILENCE_NS", "Light", "Signs", "judge"]

S = 1_000_000_000

SILENCE_NS = 2_500_000_000
"""Without STATS or FRAME for so long the light turns red: a page then shows it within 3 s of the last word. The
other node speaks at least once a second."""

NO_FRAME_NS = 3 * S
LONGEST_SENTENCE = 300

Colour = Literal["green", "amber", "red", "off"]


@dataclass(frozen=True, slots=True)
class Light:
    """What the light shows."""

    colour: Colour
    word: str
    """The state in one or two words, for those who can't see the colour."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a stream at one moment; durations in ns."""

    peer: str
    """Who is listened to: `the encoder`, `the source`."""
    quiet_ns: int
    """Since anything was heard from it; since the start if nothing was."""
    ready: bool = True
    """Whether the node's stages are open."""
    heard: bool = True
    """Whether anything was ever heard."""
    still_ns: int = 0
    """Since a frame last came, or was through or dropped."""
    pending: int = 0
    """Frames that are on their way."""
    sends: bool = False
    """Whether the frames go on to another node."""
    link_up: bool = True
    """Of a node that sends: whether the decoder answers."""
    error: str | None = None
    ended: bool = False
    complete: bool = True
    drops: Mapping[str, int] = field(default_factory=dict)
    """Frames of the last seconds that were dropped, by reason."""
    unpaired: int = 0
    frames: int = 0
    """Frames of the last seconds; `drops` and `unpaired` among them."""
    kbps: float | None = None
    budget_kbps: float | None = None


def judge(signs: Signs) -> Light:
    """The worst that is true."""
    return _failed(signs) or _over(signs) or _silent(signs) or _troubled(signs) or _fine(signs)


def _failed(signs: Signs) -> Light | None:
    return Light("red", "Failed", signs.error[:LONGEST_SENTENCE]) if signs.error else None


def _over(signs: Signs) -> Light | None:
    if not signs.ended:
        return None
    if signs.complete:
        return Light("off", "Ended", "The run is over and complete.")
    return Light("amber", "Ended early", "The run is over, and its end never came: something is missing.")


def _silent(signs: Signs) -> Light | None:
    if not signs.ready:
        return Light("off", "Starting", "This node opens its stages.")
    if not signs.link_up:
        return Light("red", "No link", "The decoder does not answer.")
    if signs.quiet_ns < SILENCE_NS:
        return None if signs.heard else Light("off", "Starting", f"Waiting for {signs.peer}.")
    if not signs.heard:
        return Light("red", "Nothing yet", f"Nothing has come from {signs.peer} yet.")
    return Light("red", "Silent", f"Nothing has come from {signs.peer} for more than {SILENCE_NS / S:g} s.")


def _troubled(signs: Signs) -> Light | None:
    troubles = []
    if signs.still_ns >= NO_FRAME_NS:
        seconds = NO_FRAME_NS // S
        troubles.append(
            f"no frame has come through for more than {seconds} s ({signs.pending} on their way)"
            if signs.pending
            else f"{signs.peer} answers, but no frame has come for more than {seconds} s"
        )
    if signs.drops:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(signs.drops.items()))
        troubles.append(f"dropped of the last {signs.frames} frames: {reasons}")
    if signs.unpaired:
        troubles.append(f"{signs.unpaired} of the last {signs.frames} frames had no side view")
    if signs.kbps is not None and signs.budget_kbps and signs.kbps > signs.budget_kbps:
        troubles.append(f"{signs.kbps:.0f} kbit/s are over the budget of {signs.budget_kbps:.0f}")
    if not troubles:
        return None
    sentence = "; ".join(troubles)
    return Light("amber", "Attention", f"{sentence[0].upper()}{sentence[1:]}.")


def _fine(signs: Signs) -> Light:
    sentence = f"Frames come from {signs.peer}" + (" and go to the decoder." if signs.sends else ".")
    return Light("green", "Running", sentence)
