"""The command line: help without delay, errors as sentences."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types

import pytest

from pipeline.errors import ConfigError, SourceError
from tools import cli


def fake(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    module = types.ModuleType("fake_command")

    def main(args) -> int:
        if error:
            raise error
        print(args.thing)
        return 5

    module.add_arguments = lambda parser: parser.add_argument("thing", nargs="?")
    module.main = main
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setitem(cli.COMMANDS, "fake", ("fake_command", "does nothing"))


def test_help_answers_at_once_and_loads_nothing_heavy():
    script = "import sys; from tools.cli import main; main(['--help']); print(*sys.modules)"
    times = []
    for _ in range(3):
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
        times.append(time.monotonic() - begin)
    assert all(name in done.stdout for name in cli.COMMANDS)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "numpy", "cv2", "av", "zmq", "pydantic", "yaml", "matplotlib", "prometheus_client"}
    assert min(times) < 0.3


def test_every_command_can_be_asked_for_help(capsys):
    for name in cli.COMMANDS:
        assert cli.main([name, "--help"]) == 0
        assert f"usage: sidecast {name}" in capsys.readouterr().out


def test_the_version_is_that_of_the_distribution(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sidecast 0.")


def test_an_unknown_command_names_the_nearest(capsys):
    assert cli.main(["rnu"]) == 2
    assert "there is no command 'rnu', did you mean 'run'?" in capsys.readouterr().err


def test_no_command_prints_the_help(capsys):
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().out


def test_a_command_gets_its_arguments_and_gives_its_exit_code(monkeypatch, capsys):
    fake(monkeypatch)
    assert cli.main(["fake", "hello", "--verbose"]) == 5
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (SourceError("no drive"), 1, "sidecast: error: no drive\n"),
        (ConfigError("one\ntwo"), 2, "sidecast: error: one\nsidecast: error: two\n"),
        (KeyboardInterrupt(), 130, "sidecast: error: stopped by the user\n"),
        (PermissionError(13, "Permission denied", "a/b"), 1, "sidecast: error: a/b: Permission denied\n"),
        (
            ZeroDivisionError("division by zero"),
            70,
            "sidecast: error: internal error, ZeroDivisionError: division by zero (--verbose shows where)\n",
        ),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(monkeypatch, capsys, error, code, sentence):
    fake(monkeypatch, error)
    assert cli.main(["fake"]) == code
    assert capsys.readouterr().err == sentence


def test_verbose_shows_the_traceback(monkeypatch, capsys):
    fake(monkeypatch, SourceError("no drive"))
    cli.main(["fake", "-v"])
    assert "Traceback" in capsys.readouterr().err


def test_errors_of_the_codec_library_are_sentences_too(monkeypatch, capsys):
    from stages.codec.errors import CodecError

    fake(monkeypatch, CodecError("no weights"))
    assert cli.main(["fake"]) == 1
    assert capsys.readouterr().err == "sidecast: error: no weights\n"


def test_a_launched_node_leaves_its_sentence_in_the_folder(monkeypatch, capsys, tmp_path):
    fake(monkeypatch, SourceError("no drive"))
    monkeypatch.setenv("SIDECAST_ERRORS_DIR", str(tmp_path))
    assert cli.main(["fake"]) == 1
    assert capsys.readouterr().err == ""
    assert (tmp_path / str(os.getpid())).read_text() == "no drive\n"


def test_a_closed_pipe_is_no_error():
    script = "import sys; sys.argv = ['sidecast', '--help']; from tools.cli import entry; entry()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-P", "-c", script], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.stderr == b""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams_do_not_matter(closed):
    line = f"{sys.executable} -P -m tools.cli stages kitti {closed}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("drive" in done.stdout) == (not closed.startswith(">"))
