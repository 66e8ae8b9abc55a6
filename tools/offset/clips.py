"""What two sources see in the same while: recordings from their start, cameras both at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Catalogue
from pipeline.config.build import build_stage
from pipeline.config.document import Document, parse
from pipeline.errors import ConfigError, SidecastError
from pipeline.ledger import Ledger
from pipeline.stage import Context, Source
from pipeline.types import Frame, View
from stages import TABLE
from tools.offset.motion import Clip, Grey

__all__ = ["Taken", "source_of", "take"]

WIDTH_PX = 480
PATIENCE_S = 30.0
"""How much longer than asked for a camera may take."""


@dataclass(frozen=True, eq=False)
class Taken:
    """A clip, and when it began by the source's own stamps."""

    clip: Clip
    first_pts_ns: int


def source_of(text: str, view: View) -> Source:
    """The source that a user means: a drive, a folder, a video, a camera, or YAML such as `{use: video, ...}`.

    Raises ConfigError with what is wrong.
    """
    document = (
        parse(text, "this source") if text.lstrip().startswith("{") else Document("this source", _guess(text, view))
    )
    built = build_stage(document, Catalogue(TABLE), document.data, ())
    document.check()
    if not isinstance(built.stage, Source):
        raise ConfigError(
            f"'{built.use}' is no source of pictures; expected a drive, a video, a camera or {{use: SOURCE, ...}}"
        )
    return built.stage


def _guess(text: str, view: View) -> dict[str, Any]:
    path = Path(text).expanduser()
    if "://" in text or text.isdecimal() or text.startswith("/dev/"):
        return {"use": "camera", "device": text, "view": view}
    if path.is_dir() and any(path.glob("image_*")):
        return {"use": "kitti", "drive": text, "view": view}
    if path.is_dir():
        return {"use": "images", view: text, "view": view}
    if path.is_file():
        return {"use": "video", view: text, "view": view}
    raise ConfigError(
        f"{text}: expected a drive, a folder of pictures, a video or the address of a camera, found nothing"
    )


def take(left: Source, right: Source, seconds: float, context: Context) -> tuple[Taken, Taken]:
    """At most so many seconds of each. Raises SidecastError where a source cannot be read or gives too little."""
    stop = threading.Event()
    found: dict[View, Taken] = {}
    errors: list[SidecastError] = []

    def read(view: View, source: Source) -> None:
        try:
            found[view] = _take(source, view, seconds, stop)
        except SidecastError as error:
            errors.append(error)
            stop.set()

    with ExitStack() as stack:
        for view, source in (("left", left), ("right", right)):
            source.open(replace(context, node=view, ledger=Ledger(), facts={}, stop=stop))
            stack.callback(source.close)
        threads = [threading.Thread(target=read, args=pair, daemon=True) for pair in (("left", left), ("right", right))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + PATIENCE_S if "wall" in (left.clock, right.clock) else None)
        stop.set()
    if errors:
        raise errors[0]
    missing = [view for view in ("left", "right") if view not in found]
    if missing:
        raise SidecastError(f"the {missing[0]} camera gives no frames")
    return found["left"], found["right"]


def _take(source: Source, view: View, seconds: float, stop: threading.Event) -> Taken:
    times: list[int] = []
    greys: list[Grey] = []
    for frame in _frames(source):
        if times and frame.pts_ns <= times[-1]:
            continue
        if stop.is_set() or (times and frame.pts_ns - times[0] > seconds * 1e9):
            break
        times.append(frame.pts_ns)
        greys.append(_grey(frame))
    if len(times) < 8:
        raise SidecastError(f"the {view} view has {len(times)} frames with times that go on, too few to see any motion")
    return Taken(Clip((np.array(times) - times[0]) / 1e9, greys), times[0])


def _frames(source: Source) -> Iterator[Frame]:
    items = source.read() if source.clock == "wall" else source.pull()
    return (item for item in items if isinstance(item, Frame) and item.role == "primary")


def _grey(frame: Frame) -> Grey:
    """(H, W) uint8, at most WIDTH_PX wide."""
    import cv2

    grey: Grey = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
    if frame.width <= WIDTH_PX:
        return grey
    size = (WIDTH_PX, max(1, round(WIDTH_PX * frame.height / frame.width)))
    small: Grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return small
