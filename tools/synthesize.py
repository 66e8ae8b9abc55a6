"""`sidecast synthesize --out DIR`: the rendered drive as files, in the layout of a KITTI raw recording."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ConfigError, Fault, SidecastError
from pipeline.stage import Context
from pipeline.types import View
from stages.picture import encode_png
from stages.sources.synthetic import DEFAULT_SIZE, Synthetic

__all__ = ["add_arguments", "main", "synthesize"]

CAMERA = {"left": "02", "right": "03"}

OPTIONS: dict[str, tuple[type, str]] = {
    "length": (int, "number of frames"),
    "fps": (float, "frames per second"),
    "seed": (int, "another street for every number"),
    "speed_mps": (float, "speed of the car, metres per second"),
    "baseline_m": (float, "distance of the two cameras, metres"),
    "focal_px": (float, "focal length, px"),
    "offset_ms": (float, "when the right camera takes its picture, after the left one"),
    "noise": (float, "deviation of the sensors' noise, grey levels"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: the keys of the source `synthetic`."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the drive; made if it is missing")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), default=DEFAULT_SIZE, help="pixels")
    for name, (kind, text) in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(Synthetic, name), help=text)


def main(args: argparse.Namespace) -> int:
    """Write the drive. Raises ConfigError for a value out of range, SidecastError where it cannot be written."""
    values = {name: getattr(args, name) for name in OPTIONS}
    try:
        drive = TypeAdapter(Synthetic).validate_python({**values, "size": tuple(args.size), "pace": "fast"})
    except ValidationError as error:
        raise ConfigError([_fault(dict(fault)) for fault in error.errors()]) from error
    synthesize(drive, args.out)
    print(f"{args.out}: {drive.length} frames of both views at {args.size[0]}x{args.size[1]}, with disparity")
    return 0


def _fault(fault: dict[str, Any]) -> Fault:
    option = str(fault["loc"][0]).replace("_", "-")
    return Fault(f"--{option}", f"{fault['msg']}, found {fault['input']}")


def synthesize(drive: Synthetic, out: Path) -> None:
    """Write pictures, times, calibration and disparity (16-bit PNG, px * 256, 0 where there is none) of both views.

    Raises SidecastError where `out` cannot be written.
    """
    drive.open(Context("synthesize", out))
    try:
        for view in get_args(View):
            _write_view(drive, view, out)
        (out / "calib_cam_to_cam.txt").write_text(_calibration(drive))
        (out / "calib.txt").write_text(_calibration(drive, names=("P2", "P3"), only_projections=True))
    except OSError as error:
        raise SidecastError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        drive.close()


def _write_view(drive: Synthetic, view: View, out: Path) -> None:
    pictures, disparities = out / f"image_{CAMERA[view]}" / "data", out / f"disparity_{CAMERA[view]}" / "data"
    for folder in (pictures, disparities):
        folder.mkdir(parents=True, exist_ok=True)
    times = []
    for shot in drive.open_track(view).shots():
        name = f"{shot.frame_id:010d}.png"
        (pictures / name).write_bytes(encode_png(shot.load()))
        (disparities / name).write_bytes(encode_png(_coded(drive.disparity_at(shot.frame_id, view))))
        times.append(_time(shot.pts_ns))
    (pictures.parent / "timestamps.txt").write_text("\n".join(times) + "\n")


def _coded(disparity: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.asarray(np.clip(np.rint(disparity * 256), 0, 65535), np.uint16)


def _time(pts_ns: int) -> str:
    seconds, ns = divmod(pts_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns:09d}"


def _calibration(
    drive: Synthetic, names: tuple[str, str] = ("P_rect_02", "P_rect_03"), *, only_projections: bool = False
) -> str:
    """As KITTI writes it: sizes, and the 3 x 4 projections of the rectified cameras, the left one at the origin."""
    rig = drive.street.rig
    (cx, cy), f = rig.centre, rig.focal_px
    lines = [] if only_projections else [f"S_rect_0{n}: {rig.width:e} {rig.height:e}" for n in (2, 3)]
    for name, shift in zip(names, (0.0, -f * rig.baseline_m), strict=True):
        row = (f, 0, cx, shift, 0, f, cy, 0, 0, 0, 1, 0)
        lines.append(f"{name}: " + " ".join(f"{value:.12e}" for value in row))
    return "\n".join(lines) + "\n"
