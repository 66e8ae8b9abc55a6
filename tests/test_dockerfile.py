"""The Dockerfile agrees with what it copies and pins; building it needs a Docker engine."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COPIED = [name for line in re.findall(r"^COPY (.*)", DOCKERFILE, re.M) for name in line.split()[:-1]]


def test_what_is_copied_is_there_and_sent_to_the_engine():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name in COPIED:
        assert (ROOT / name).exists(), name
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), name


def test_all_that_the_package_is_built_from_is_copied():
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'include = \["(\w+)\*", "(\w+)\*", "(\w+)\*"\]', project)[0]
    assert {*packages, "configs", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"} <= set(COPIED)


def test_torch_is_the_one_that_the_constraints_name():
    pinned = re.findall(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert re.findall(r"\btorch==(\S+)", DOCKERFILE) == pinned


def test_the_default_health_check_asks_the_port_of_the_shipped_decoder():
    asked = re.findall(r"SIDECAST_HEALTH=http://(\S+)/livez$", DOCKERFILE, re.M)
    assert asked[-1] in (ROOT / "configs/demo.yaml").read_text()
