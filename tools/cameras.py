"""`sidecast cameras`: which cameras this machine has, and with --probe what one really sends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from pipeline.clock import Clock, SystemClock
from pipeline.config.addresses import without_passwords
from pipeline.errors import SidecastError, SourceError
from stages.sources.capture.device import Arrival, Device, is_url, numbered
from stages.sources.capture.local import LocalCamera
from stages.sources.capture.network import NetworkCamera
from stages.sources.capture.stamps import Stamps

__all__ = ["add_arguments", "main"]

NONE = "there is no camera on this machine (no device /dev/video*); cameras of the network need none: --probe URL"

WARM_UP_NS = 1_000_000_000
"""What comes first was waiting somewhere, and comes all at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--probe", metavar="CAMERA", help="a URL, or number or path of a device: what it really sends")
    parser.add_argument("--seconds", type=_seconds, default=5.0, metavar="S", help="how long to look (default 5)")


def main(args: argparse.Namespace) -> int:
    """Print the list, or what the probe found. Raises SourceError where the camera gives nothing."""
    lines = probe(numbered(args.probe), SystemClock(), args.seconds) if args.probe is not None else listing()
    for line in lines:
        print(line, flush=True)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not allowed, expected a number of seconds from 0.5 to 3600")
    return seconds


def listing() -> Iterator[str]:
    """A paragraph per device. Raises SidecastError where the operating system's devices can't be listed."""
    if sys.platform != "linux":
        raise SidecastError("the devices of this operating system cannot be listed; try --probe 0, --probe 1")
    from linuxpy.video.device import iter_devices

    found = False
    for device in sorted(iter_devices(), key=lambda device: device.index or 0):
        lines = list(_described(device))
        found = found or bool(lines)
        yield from lines
    if not found:
        yield NONE


def _described(device: Any) -> Iterator[str]:
    """A device with its modes; nothing for one that takes no pictures, such as a camera's second node for metadata."""
    from linuxpy.video.device import Capability

    try:
        with device:
            info = device.info
            if Capability.VIDEO_CAPTURE not in info.device_capabilities:
                return
            yield f"{device.filename}: {info.card} ({info.bus_info})"
            yield from modes(info.frame_types)
    except OSError as error:
        yield f"{device.filename}: {error.strerror}"


def modes(frame_types: Sequence[Any]) -> Iterator[str]:
    """A line per format and size, with the rates. `frame_types`: pixel_format, width, height, min_fps, max_fps."""
    ordered = sorted(frame_types, key=lambda t: (t.pixel_format.name, -t.width * t.height, -t.width))
    for (name, width, height), group in groupby(ordered, key=lambda t: (t.pixel_format.name, t.width, t.height)):
        rates = sorted({float(rate) for t in group for rate in (t.min_fps, t.max_fps)}, reverse=True)
        yield f"  {name} {width}x{height} at {', '.join(f'{rate:g}' for rate in rates)} frames/s"


def probe(camera: int | str, clock: Clock, seconds: float) -> Iterator[str]:
    """What a camera sends: size, codec, rate, jitter, drift. Raises SourceError where it gives nothing."""
    device: Device = (
        NetworkCamera(camera, clock) if isinstance(camera, str) and is_url(camera) else LocalCamera(camera, clock)
    )
    try:
        begin_ns = clock.monotonic_ns()
        device.open()
        yield f"{without_passwords(str(camera))}: open after {(clock.monotonic_ns() - begin_ns) / 1e9:.1f} s"
        yield from _measured(device, clock, seconds)
    finally:
        device.close()


def _measured(device: Device, clock: Clock, seconds: float) -> Iterator[str]:
    stamps, arrivals, late_ms, size = Stamps(), list[Arrival](), list[float](), ""
    begin_ns = clock.wall_ns() + WARM_UP_NS
    while clock.wall_ns() < begin_ns + round(seconds * 1e9):
        arrival = device.grab()
        if arrival is None:
            continue
        height, width = device.retrieve()().shape[:2]
        if size != f"{width}x{height}":
            size = f"{width}x{height}"
            yield f"  {size}{_codec(device)}"
        stamps.stamp(arrival.arrived_ns, arrival.pts_ns)
        if arrival.arrived_ns >= begin_ns:
            arrivals.append(arrival)
            late_ms.append(stamps.late_ns / 1e6)
    yield from summary(arrivals, late_ms, stamps.drift_ns)


def summary(arrivals: Sequence[Arrival], late_ms: Sequence[float], drift_ns: int) -> Iterator[str]:
    """The numbers of a probe, one line each; raises SourceError for fewer than two frames."""
    import numpy as np

    if len(arrivals) < 2:
        raise SourceError(f"expected a stream of frames, found {len(arrivals)} in that time; try more --seconds")
    times = [arrival.arrived_ns for arrival in arrivals]
    rate = (len(times) - 1) / ((times[-1] - times[0]) / 1e9)
    steps = [(after - before) / 1e6 for before, after in pairwise(times)]
    p5, p95 = np.percentile(steps, [5, 95])
    yield f"  {len(times)} frames, {rate:.2f} frames/s as they arrived, {p5:.0f} to {p95:.0f} ms apart (5 to 95 %)"
    pts = [arrival.pts_ns for arrival in arrivals if arrival.pts_ns is not None]
    if len(pts) < 2:
        yield "  no times in the stream: frames are stamped when they arrive"
        return
    own = (len(pts) - 1) / max(1e-9, (pts[-1] - pts[0]) / 1e9)
    p50, p95 = np.percentile(late_ms, [50, 95])
    yield f"  {own:.2f} frames/s by its own times; later than the fastest by {p50:.1f} ms (p50), {p95:.1f} ms (p95)"
    if drift_ns:
        yield f"  its clock loses {drift_ns / 1e6:.1f} ms on this machine's"


def _codec(device: Device) -> str:
    stream = device.stream if isinstance(device, NetworkCamera) else None
    if stream is None:
        return ""
    context = stream.codec_context
    return f" {context.name} {context.pix_fmt or ''}"
