"""Every shipped configuration is valid and says what its keys mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config import load, shipped
from pipeline.stage import Stage
from stages import TABLE

CONFIGS = shipped()


def _placeholders(path: Path) -> dict[str, str]:
    """A value for each variable that must be given."""
    declared = yaml.safe_load(path.read_text()).get("vars") or {}
    return {name: "placeholder" for name, value in declared.items() if value is None}


def test_the_documented_configurations_are_shipped():
    assert {"demo", "kitti", "two-views", "unsynchronised"} <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configuration_is_valid(name):
    config = load(CONFIGS[name], TABLE, _placeholders(CONFIGS[name]))
    assert config.nodes
    assert all(isinstance(entry.stage, Stage) for node in config.nodes.values() for entry in node.stages)


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configuration_uses_every_variable(name):
    text = CONFIGS[name].read_text()
    for variable in load(CONFIGS[name], TABLE, _placeholders(CONFIGS[name])).vars:
        assert f"${{{variable}}}" in text


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configuration_is_its_own_manual(name):
    """It opens with what it is for and how to run it, and explains its variables."""
    lines = CONFIGS[name].read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith("#") and f"sidecast run {name}" in line for line in lines)
    start, end = lines.index("vars:"), lines.index("nodes:")
    variables = [line for line in lines[start + 1 : end] if line.strip() and not line.lstrip().startswith("#")]
    assert all("#" in line for line in variables)


def test_shipped_configurations_explain_every_stage_key_once():
    """Each key that a stage is given bears a comment where it first appears among all files."""
    explained: set[str] = set()
    used: set[str] = set()
    for path in CONFIGS.values():
        for line in path.read_text().splitlines():
            key, colon, rest = line.strip().removeprefix("- ").partition(":")
            if colon and key.isidentifier():
                used.add(key)
                explained |= {key} if "#" in rest else set()
    assert used - explained <= {"use", "nodes", "vars", "stages", "encoder", "decoder", "bind", "connect"}
