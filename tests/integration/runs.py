"""Whole runs, started the way a user starts them, and what they leave behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

__all__ = ["Ended", "addresses", "check_invariants", "drive_of", "eventually", "free_ports", "run", "start", "wait"]

PATIENCE_S = 120.0

STEREO = """
vars:
  drive: null
  weights: default
  decoder_weights: default
  frames: "0:"
  pace: fast
  link: null
  encoder_http: 127.0.0.1:0
  decoder_http: 127.0.0.1:0
nodes:
  encoder:
    http: "${encoder_http}"
    stages:
      - {use: kitti, drive: "${drive}", view: left, frames: "${frames}", pace: "${pace}"}
      - {use: encode, weights: "${weights}"}
      - {use: send, connect: "${link}"}
  decoder:
    http: "${decoder_http}"
    stages:
      - {use: receive, bind: "${link}"}
      - {use: pair, policy: exact, side: {use: kitti, drive: "${drive}", view: right, frames: "${frames}"}}
      - {use: decode, weights: "${decoder_weights}", without_side_every: 2}
      - {use: quality, reference: {use: kitti, drive: "${drive}", view: left, frames: "${frames}"}}
      - {use: write_video}
      - {use: write_panels, max: 1}
"""
"""configs/kitti.yaml, with the weights of each node as variables."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str
    folder: Path
    """What was given as --out."""

    @property
    def errors(self) -> list[str]:
        """The sentences that the user was shown."""
        start = "sidecast: error: "
        return [line.removeprefix(start) for line in self.err.splitlines() if line.startswith(start)]

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text())

    @property
    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "frames.csv").open() as file:
            return list(csv.DictReader(file))

    def video(self, name: str = "decoded.mp4") -> list[av.VideoFrame]:
        """Every picture of the video, decoded."""
        with av.open(str(self.folder / name)) as container:
            return list(container.decode(video=0))

    def failed(self, code: int = 1) -> str:
        """The one sentence with which it failed."""
        assert self.code == code, f"{self.code}: {self.err}"
        assert "Traceback" not in self.out + self.err
        assert len(self.errors) == 1, self.err
        return self.errors[0]

    def succeeded(self) -> Ended:
        assert self.code == 0, self.err
        assert self.errors == []
        assert "Traceback" not in self.out + self.err
        return self


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def addresses() -> dict[str, str]:
    """Free ones for the link and the two HTTP endpoints of a shipped configuration."""
    link, encoder, decoder = free_ports(3)
    return {
        "link": f"tcp://127.0.0.1:{link}",
        "encoder_http": f"127.0.0.1:{encoder}",
        "decoder_http": f"127.0.0.1:{decoder}",
    }


def start(
    *arguments: str | Path,
    out: Path,
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "tools.cli"),
    cwd: Path | None = None,
    **variables: object,
) -> subprocess.Popen[str]:
    """`sidecast run ARGUMENTS --out OUT --set NAME=VALUE ...` as a process; `wait` for it."""
    given = [f"--set={name}={value}" for name, value in variables.items()]
    line = [*command, "run", *map(str, arguments), f"--out={out}", *given]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SIDECAST_ERRORS_DIR")}
    process = subprocess.Popen(
        line, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    process.folder = out  # type: ignore[attr-defined]
    return process


def wait(process: subprocess.Popen[str], seconds: float = PATIENCE_S) -> Ended:
    """What became of it. One that does not end in time is killed with its nodes, and the test fails."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        raise AssertionError(f"the run did not end within {seconds} s:\n{err}") from None
    return Ended(process.returncode, out, err, process.folder)  # type: ignore[attr-defined]


def run(*arguments: str | Path, out: Path, **options: Any) -> Ended:
    """Start and wait."""
    return wait(start(*arguments, out=out, **options))


def eventually(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Poll until `condition`; fail with `what` was missed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def check_invariants(ended: Ended, frames: int | None = None) -> None:
    """What holds of every run with a link: the accounts balance, and the files are there and agree with them."""
    report, rows = ended.report, ended.rows
    assert report["frames_in"] == report["frames_out"] + sum(report["drops"].values()) == len(rows)
    assert [int(row["frame_id"]) for row in rows] == sorted(int(row["frame_id"]) for row in rows)
    assert sum(row["status"] == "out" for row in rows) == report["frames_out"]
    coded = [row for row in rows if row["payload_bytes"]]
    primary = report["primary"]
    assert primary["payload_bytes"] == sum(int(row["payload_bytes"]) for row in coded)
    assert primary["wire_bytes"] == primary["payload_bytes"] + 96 * len(coded)
    assert len(ended.video()) == report["frames_out"]
    assert all((ended.folder / name).stat().st_size for name in ("plot.png", "plot.svg"))
    if frames is not None:
        assert (report["frames_in"], report["complete"], report["drops"]) == (frames, True, {})
        assert 0 < report["primary"]["bpp"] < 24
        assert report["fps"] is None or report["fps"] > 0


def drive_of(pictures: dict[str, list[Any]], folder: Path) -> Path:
    """A KITTI drive of (H, W, 3) pictures by camera, such as `02`; None leaves a frame out."""
    from stages.picture import encode_png

    for camera, frames in pictures.items():
        data = folder / f"image_{camera}" / "data"
        data.mkdir(parents=True)
        for i, pixels in enumerate(frames):
            if pixels is not None:
                (data / f"{i:010}.png").write_bytes(encode_png(pixels))
    times = "".join(f"{i / 10:.6e}\n" for i in range(max(map(len, pictures.values()))))
    (folder / "times.txt").write_text(times)
    return folder
