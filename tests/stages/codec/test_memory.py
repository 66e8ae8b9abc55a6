"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from stages.codec.weights_file import ALIASES, shipped

DECODE = """
import resource, torch
from stages.codec import load_codec

codec = load_codec("default", "cpu")
x = torch.rand(1, 3, 375, 1242)
payload, side = codec.encode(x, 0), codec.prepare(x)
for round in range(6):
    if round == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    codec.decode(payload, prepared=side)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 3)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such options")
@pytest.mark.skipif(ALIASES["default"] not in shipped(), reason="the default weights are not there")
def test_pictures_do_not_take_fresh_pages() -> None:
    """Some 9,000 a picture if the C library is left as it is."""
    found = subprocess.run([sys.executable, "-c", DECODE], capture_output=True, text=True, timeout=300, check=True)
    assert int(found.stdout) < 2000
