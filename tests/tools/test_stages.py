"""`sidecast stages`: what there is, and all about the keys of one."""

from __future__ import annotations

import argparse
import dataclasses
import inspect

import pytest

from pipeline.config import Catalogue
from pipeline.config.describe import keys_of, summary_of
from pipeline.errors import ConfigError
from stages import TABLE
from tools import stages


def _printed(capsys, *arguments: str) -> str:
    parser = argparse.ArgumentParser()
    stages.add_arguments(parser)
    assert stages.main(parser.parse_args(arguments)) == 0
    return capsys.readouterr().out


def test_list_names_every_stage_with_a_sentence(capsys):
    lines = _printed(capsys).splitlines()
    assert [line.split()[0] for line in lines[: len(TABLE)]] == list(TABLE)
    assert all(len(line.split()) > 3 and "cannot be loaded" not in line for line in lines[: len(TABLE)])


def test_details_show_type_default_range_and_description(capsys):
    text = _printed(capsys, "encode_image")
    assert "  jpeg_quality: a whole number from 1 to 100 (default 90)\n      quality of jpeg; png has none" in text
    assert '  format: one of jpeg, png (default "jpeg")' in text


def test_details_put_required_keys_first(capsys):
    lines = _printed(capsys, "kitti").splitlines()
    assert lines[2] == "  drive: text that is not empty (required)"


def test_unknown_stage_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no stage 'kity'; did you mean 'kitti'"):
        stages.main(argparse.Namespace(name="kity"))


@pytest.mark.parametrize("name", TABLE)
def test_every_stage_describes_itself_and_its_keys(name):
    cls = Catalogue(TABLE).load(name)
    assert dataclasses.is_dataclass(cls)
    assert cls.__name__ == name.title().replace("_", "")
    assert summary_of(cls)
    assert inspect.getmodule(cls).__doc__
    for key in keys_of(cls).values():
        assert key.description, f"{name}: the key {key.name} has no description"
