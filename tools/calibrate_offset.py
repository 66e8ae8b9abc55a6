"""`sidecast calibrate-offset LEFT RIGHT`: by how much the clocks of two cameras differ, from what both have seen."""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, SidecastError
from pipeline.log import set_up
from pipeline.stage import Context
from tools.offset.clips import Taken, source_of, take
from tools.offset.motion import STILL, Clip, Lag, find_lag
from tools.offset.points import Refined, refine

__all__ = ["Offset", "add_arguments", "find_offset", "main"]

LEAST_CORRELATION = 0.45
MOST_NEXT_BEST = 0.75
"""Of the best correlation: a lag that is well apart and nearly as good makes both doubtful."""
MOTION_ERROR = 0.35
"""Of the time between two frames: how far off the correlation of motion alone may be. Measured: 0.25."""
MOST_RESIDUAL_PX = 2.0


@dataclass(frozen=True, slots=True)
class Offset:
    """When the right clip begins, after the left one."""

    seconds: float
    error_s: float
    lag: Lag
    refined: Refined | None
    """None where only the motion as a whole could be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = "find a constant offset between the clocks of two cameras, from what both have seen"
    known = "a drive, a folder of pictures, a video, a camera (number, path or URL), or {use: SOURCE, ...}"
    parser.add_argument("left", metavar="LEFT", help=f"the left view: {known}")
    parser.add_argument(
        "right", metavar="RIGHT", nargs="?", help="the right view (default: the right one of the same drive)"
    )
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="how much of each is looked at")


def main(args: argparse.Namespace) -> int:
    """Print the offset and the line for `pair`. Raises SidecastError where it cannot be found."""
    if not 2 <= args.seconds <= 600:
        raise ConfigError(f"--seconds {args.seconds:g} is not allowed, expected 2 to 600")
    set_up(verbose=args.verbose, node="")
    if args.right is None and not any(Path(args.left).expanduser().glob("image_*")):
        raise ConfigError(f"{args.left} is no drive with both views, so RIGHT is missing: give the right view too")
    left = source_of(args.left, "left")
    right = source_of(args.right or args.left, "right")
    with tempfile.TemporaryDirectory(prefix="sidecast-") as folder:
        one, other = take(left, right, args.seconds, Context("calibrate-offset", Path(folder)))
    offset = find_offset(one.clip, other.clip)
    print("\n".join(_lines(one, other, offset)))
    late_ms = (other.first_pts_ns - one.first_pts_ns) / 1e6 - offset.seconds * 1000
    if right.clock == "wall" and late_ms > 0:
        # Its frames come so much later than the primary ones that show the same.
        print(f"    max_wait_ms: {math.ceil(late_ms / 50 + 2) * 50}")
    return 0


def find_offset(left: Clip, right: Clip) -> Offset:
    """When the right clip begins. Raises SidecastError, with why, where the pictures don't tell."""
    for name, clip in (("left", left), ("right", right)):
        if clip.motion < STILL:
            raise SidecastError(
                f"the {name} view does not move ({clip.motion:.2f} grey levels from frame to frame), so there is "
                "nothing to compare; let both cameras see something that moves"
            )
    lag = find_lag(left, right)
    if lag is None:
        lengths = f"{left.times_s[-1]:.1f} and {right.times_s[-1]:.1f} s"
        raise SidecastError(f"the views are too short to compare ({lengths}), expected some seconds of both")
    if lag.correlation < LEAST_CORRELATION or lag.next_best > MOST_NEXT_BEST * lag.correlation:
        raise SidecastError(
            f"the motion of the two views does not tell their offset: it correlates with {lag.correlation:.2f} at best "
            f"and {lag.next_best:.2f} elsewhere, expected one clear peak above {LEAST_CORRELATION:g}; do both show the "
            "same scene at the same time? (--seconds looks at more)"
        )
    refined = refine(left, right, lag.seconds)
    if refined is not None and _agree(left, right, lag, refined):
        return Offset(refined.seconds, refined.error_s, lag, refined)
    return Offset(lag.seconds, MOTION_ERROR * max(left.interval_s, right.interval_s), lag, None)


def _agree(left: Clip, right: Clip, lag: Lag, refined: Refined) -> bool:
    interval_s = max(left.interval_s, right.interval_s)
    near = abs(refined.seconds - lag.seconds) < interval_s
    return near and refined.residual_px < MOST_RESIDUAL_PX and refined.error_s < MOTION_ERROR * interval_s


def _lines(left: Taken, right: Taken, offset: Offset) -> list[str]:
    stamped_ms = (right.first_pts_ns - left.first_pts_ns) / 1e6
    found_ms = offset.seconds * 1000
    order = "after" if found_ms >= 0 else "before"
    lag, refined = offset.lag, offset.refined
    sure = f"their motion correlates with {lag.correlation:.2f} (next best {lag.next_best:.2f})"
    if refined is None:
        sure += ", too few points were seen by both for more"
    else:
        sure += f", {refined.points} points that both have seen agree to {refined.residual_px:.2f} px"
    return [
        f"left: {_clip(left.clip)}; right: {_clip(right.clip)}",
        f"the right view begins {abs(found_ms):.1f} ms (± {offset.error_s * 1000:.1f}) {order} the left one",
        f"how sure: {sure}",
        f"their stamps say {stamped_ms:.1f} ms; in `pair`, where the side view is the right one:",
        f"    offset_ms: {found_ms - stamped_ms:.1f}",
    ]


def _clip(clip: Clip) -> str:
    return f"{len(clip.greys)} frames, {1 / clip.interval_s:.1f} a second"
