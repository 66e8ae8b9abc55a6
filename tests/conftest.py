"""Fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent


def skip_or_fail(reason: str) -> None:
    """Skip, unless SIDECAST_REQUIRE_ALL says that nothing may be missing here."""
    if os.environ.get("SIDECAST_REQUIRE_ALL") == "1":
        pytest.fail(f"SIDECAST_REQUIRE_ALL is set, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need() -> Callable[[str, str], None]:
    """`need(PROGRAM, PACKAGE)` skips, or fails, where the program of that Debian package is not installed."""

    def check(program: str, package: str) -> None:
        if not shutil.which(program):
            skip_or_fail(f"{program} is not installed (Debian package {package})")

    return check


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the stereo data."""
    folder = Path(os.environ.get("SIDECAST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "kitti_odom_color").is_dir():
        skip_or_fail(f"there is no stereo data in {folder} (set SIDECAST_DATA)")
    return folder


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with the reference models' checkpoints and what they compute."""
    beside_data = Path(os.environ.get("SIDECAST_DATA", ROOT.parent / "shared" / "data")).parent / "reference"
    folder = Path(os.environ.get("SIDECAST_REFERENCE", beside_data))
    if not (folder / "make_checkpoint.py").is_file():
        skip_or_fail(f"there are no reference models in {folder} (set SIDECAST_REFERENCE)")
    return folder


CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")  # its event loop must not run on in the tests of others
def browser(need: Callable[[str, str], None]) -> Iterator[Browser]:
    """Debian's Chromium without a window; it looks for nothing on the Internet."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("playwright is not installed (pip install '.[dev]')")
    need("chromium", "chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        yield found
        found.close()
