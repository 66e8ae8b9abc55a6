"""Launcher: processes, their ends, their sentences."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chains import Numbers, Step, node

from pipeline.config.model import Node
from pipeline.launcher import Launcher, _first_cause, divide, usable_cores

ROOT = Path(__file__).resolve().parents[2]

PRELUDE = """
import os, pathlib, signal, sys, time
def say(sentence):
    (pathlib.Path(os.environ["SIDECAST_ERRORS_DIR"]) / str(os.getpid())).write_text(sentence + "\\n")
"""


def named(name: str, head: str = "kitti", *others: str) -> Node:
    chain = node(Numbers(), *(Step() for _ in others), uses=dict(enumerate((head, *others))))
    return Node(name, None, False, chain.stages)


ENCODER, DECODER = named("encoder", "kitti", "encode", "send"), named("decoder", "receive", "decode")


def launcher(encoder: str, decoder: str, **graces: float) -> Launcher:
    code = {"encoder": encoder, "decoder": decoder}

    def command(one: Node, threads: int) -> list[str]:
        return [sys.executable, "-c", PRELUDE + textwrap.dedent(code[one.name]), str(threads)]

    return Launcher({"encoder": ENCODER, "decoder": DECODER}, command, 5, **graces)


@pytest.mark.parametrize(
    ("cores", "shares"), [(1, (1, 1)), (2, (2, 2)), (3, (2, 2)), (4, (2, 2)), (7, (3, 4)), (16, (8, 8))]
)
def test_few_cores_are_shared_more_are_divided_and_the_odd_one_decodes(cores, shares):
    assert divide(cores, [ENCODER, DECODER]) == {"encoder": shares[0], "decoder": shares[1]}


def test_usable_cores_are_those_of_this_process():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_nodes_know_their_threads_and_the_run_ends_with_the_last(tmp_path):
    write = f"pathlib.Path({str(tmp_path)!r}, sys.argv[1]).write_text(os.environ['OMP_NUM_THREADS'])"
    assert launcher(write, write).run() == 0
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"2": "2", "3": "3"}


def test_a_failure_that_both_report_is_printed_once_with_the_first_exit_code(capfd):
    encoder = "say('the drive x is missing'); sys.exit(3)"
    decoder = "time.sleep(0.3); say('the encoder node reported: the drive x is missing'); sys.exit(1)"
    # The decoder is told to end as well, and does so by itself.
    code = launcher(encoder, f"signal.signal(signal.SIGTERM, lambda *a: None)\n{decoder}").run()
    assert code == 3
    assert capfd.readouterr().err == "sidecast: error: the drive x is missing\n"


def test_a_dead_node_ends_the_others(capfd):
    begin = time.monotonic()
    code = launcher("os.kill(os.getpid(), signal.SIGKILL)", "time.sleep(60)").run()
    assert code == 128 + signal.SIGKILL
    assert time.monotonic() - begin < 20
    assert "node 'encoder' was ended by SIGKILL" in capfd.readouterr().err


def test_a_node_that_does_not_end_is_killed(capfd):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    assert launcher("time.sleep(0.5); say('no'); sys.exit(2)", deaf, failed_grace_s=0.2).run() == 2
    assert capfd.readouterr().err.splitlines()[0] == "sidecast: error: no"


def test_a_node_without_a_word_is_named(capfd):
    assert launcher("sys.exit(4)", "").run() == 4
    assert capfd.readouterr().err == "sidecast: error: node 'encoder' ended with exit code 4 and no explanation\n"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ([["the decoder node reported: a is missing"], ["a is missing"]], ["a is missing"]),
        ([["a is missing"], ["a is missing"]], ["a is missing"]),
        ([["encode: no weights"], ["decode: no weights"]], ["encode: no weights"]),
        ([[], ["line 1 is wrong", "line 2 is wrong"], ["stopped while the decoder did not answer"]], None),
        ([[], []], []),
    ],
)
def test_the_first_cause_is_shown_and_no_echo(said, shown):
    assert _first_cause(said) == (said[1] if shown is None else shown)


DRIVER = """
import sys
sys.path[:0] = [{here!r}, {root!r}]
from test_launcher import launcher
try:
    sys.exit(launcher({encoder!r}, {decoder!r}, abort_grace_s=1.0).run())
except KeyboardInterrupt:
    sys.exit(130)
"""

WAITS = """
signal.signal(signal.SIGINT, lambda *a: None)
signal.signal(signal.SIGTERM, lambda *a: asked.append(1))
asked = []
open({mark!r}, "w").write(str(os.getpid()))
while not ({end}):
    time.sleep(0.02)
"""


@pytest.fixture
def started(tmp_path) -> Iterator[Callable[[str, str], tuple[subprocess.Popen[bytes], dict[str, int]]]]:
    """Starts a launcher in a process of its own, and returns that with the process ids of its nodes."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(encoder_end: str, decoder_end: str) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
        marks = {name: tmp_path / name for name in ("encoder", "decoder")}
        ends = {"encoder": encoder_end, "decoder": decoder_end}
        code = {name: WAITS.format(mark=str(marks[name]), end=ends[name]) for name in marks}
        driver = DRIVER.format(here=str(Path(__file__).parent), root=str(ROOT), **code)
        with (tmp_path / "stderr").open("wb") as stderr:
            processes.append(subprocess.Popen([sys.executable, "-c", driver], stderr=stderr))
        deadline = time.monotonic() + 20
        while not all(mark.exists() and mark.read_text() for mark in marks.values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return processes[0], {name: int(mark.read_text()) for name, mark in marks.items()}

    yield start
    for process in processes:
        process.kill()
        process.wait()


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0]
    except OSError:
        return False


def gone(pids: dict[str, int]) -> bool:
    deadline = time.monotonic() + 10
    while any(map(alive, pids.values())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids.values()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_node_with_the_source(tmp_path, started, number):
    done = tmp_path / "done"
    encoder_end = f"asked and open({str(done)!r}, 'w')"
    process, pids = started(encoder_end, f"asked or os.path.exists({str(done)!r})")
    process.send_signal(number)
    assert process.wait(20) == 0
    assert (tmp_path / "stderr").read_text() == ""
    assert gone(pids)


def test_a_signal_before_the_nodes_can_drain_ends_the_run_as_stopped_by_the_user(started):
    process, pids = started("asked and os.kill(os.getpid(), signal.SIGKILL)", "asked")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert gone(pids)


def test_the_second_signal_ends_all(started):
    process, pids = started("False", "False")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert gone(pids)


def test_nodes_see_that_their_launcher_was_killed(started):
    end = "os.read(0, 1) == b''"
    process, pids = started(end, end)
    process.kill()
    process.wait(20)
    assert gone(pids)


def test_a_launcher_outside_the_main_thread_works():
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(launcher("", "").run()))
    thread.start()
    thread.join(20)
    assert codes == [0]
