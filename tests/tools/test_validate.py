"""`sidecast validate`: one `ok` line, or a line for every mistake; without the heavy libraries."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from tools import validate

ROOT = Path(__file__).resolve().parents[2]
FIVE_MISTAKES = """\
vars: {drive: null}
nodes:
  encoder:
    http: 0.0.0.0:9101
    stages:
      - {use: kiti, drive: x}
      - {use: encode, qualty: 24}
      - {use: send, connect: "tcp://127.0.0.1:5555", mode: lossles}
"""


def _main(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    validate.add_arguments(parser)
    return validate.main(parser.parse_args(arguments))


def test_good_file_is_ok(capsys):
    assert _main("kitti", "--set", "drive=somewhere") == 0
    assert capsys.readouterr().out == (
        "ok: encoder (kitti -> encode -> send); "
        "decoder (receive -> pair -> decode -> quality -> write_video -> write_panels)\n"
    )


def test_five_mistakes_are_five_lines_with_exit_code_2(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(FIVE_MISTAKES)
    with pytest.raises(ConfigError) as error:
        _main(str(path))
    lines = str(error.value).replace(f"{tmp_path}/", "").splitlines()
    assert error.value.exit_code == 2
    assert [line.split(" ")[:2] for line in lines] == [
        ["wrong.yaml:1:", "vars.drive:"],
        ["wrong.yaml:4:", "nodes.encoder.http:"],
        ["wrong.yaml:6:", "nodes.encoder.stages[0].use:"],
        ["wrong.yaml:7:", "nodes.encoder.stages[1].qualty:"],
        ["wrong.yaml:8:", "nodes.encoder.stages[2].mode:"],
    ]
    assert "did you mean 'kitti'?" in lines[2]
    assert "did you mean 'quality'?" in lines[3]
    assert "did you mean 'lossless'?" in lines[4]


@pytest.mark.parametrize("given", ["drive", "=x"])
def test_set_without_name_or_value_is_refused(given):
    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        _main("kitti", "--set", given)


def test_set_keeps_what_follows_the_first_equals_sign():
    assert validate.overrides(["a=b=c", "d=", "a=e=f"]) == {"a": "e=f", "d": ""}


def test_light_commands_leave_heavy_libraries_alone():
    code = """
import argparse, sys
from tools import graph, stages, validate
for command, arguments in [(validate, ["demo"]), (graph, ["demo"]), (stages, []), (stages, ["encode"])]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.main(parser.parse_args(arguments)) == 0
print("heavy:", [name for name in ("torch", "cv2", "av", "zmq", "matplotlib", "compressai") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"
