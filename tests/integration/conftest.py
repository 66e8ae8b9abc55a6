"""Drives and configurations that the integration tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs

from pipeline.stage import Context
from stages.sources.synthetic import Synthetic


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Six small pictures of each camera."""
    pictures = {}
    for camera, view in (("02", "left"), ("03", "right")):
        drive = Synthetic(size=(96, 64), length=6, view=view, pace="fast")
        drive.open(Context("test", tmp_path_factory.getbasetemp()))
        pictures[camera] = [frame.pixels for frame in drive.read()]
        drive.close()
    return pictures


@pytest.fixture(scope="session")
def drive(street, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those pictures as a KITTI drive."""
    return runs.drive_of(street, tmp_path_factory.mktemp("drives") / "street")


@pytest.fixture(scope="session")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of two nodes for such drives."""
    path = tmp_path_factory.mktemp("configs") / "stereo.yaml"
    path.write_text(runs.STEREO)
    return path


@pytest.fixture
def link() -> dict[str, str]:
    """A free address for `link`."""
    return {"link": f"tcp://127.0.0.1:{runs.free_ports(1)[0]}"}
