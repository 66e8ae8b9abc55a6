"""All nodes of a configuration on this machine, as processes of their own.

A node that fails ends the run: the others are asked to drain, then killed. What the nodes have to say at their end
comes through files in a private folder, so that the first failure is printed once, whoever else suffers from it. A node
watches its standard input, a pipe whose other end dies with the launcher.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.config.model import Node
from pipeline.interrupt import interruptible
from pipeline.log import ERRORS_DIR, complain
from pipeline.runner import originates

__all__ = ["Launcher", "divide", "is_launched", "thread_environment", "usable_cores", "watch_launcher"]

Command = Callable[[Node, int], Sequence[str]]
"""The command line that runs a node with so many threads."""

FAILED_GRACE_S = 20.0
"""How long the other nodes may take to write their files when one has failed."""
ABORT_GRACE_S = 8.0
ORPHAN_GRACE_S = 10.0


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divide(cores: int, nodes: Sequence[Node]) -> dict[str, int]:
    """Cores for each node; what cannot be shared evenly goes to those that decode first.

    Up to two are shared by all: decoding takes several times as long as encoding, which would leave its core idle.
    """
    share, rest = divmod(cores, len(nodes))
    ordered = sorted(nodes, key=lambda node: not any(entry.use == "decode" for entry in node.stages))
    return {node.name: max(min(cores, 2), share + (i < rest)) for i, node in enumerate(ordered)}


def thread_environment(threads: int) -> dict[str, str]:
    """What numerical libraries read when they are loaded."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: str(threads) for name in names}


def is_launched() -> bool:
    """Whether this process is a node that a Launcher has started."""
    return ERRORS_DIR in os.environ


def watch_launcher() -> None:
    """Drain this node when its launcher is gone, however it went, and exit if that takes too long."""

    def watch() -> None:
        while os.read(0, 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch-launcher", daemon=True).start()


class Launcher:
    """Runs the nodes of one configuration once."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        command: Command,
        cores: int,
        draining: Callable[[], None] = lambda: None,
        *,
        failed_grace_s: float = FAILED_GRACE_S,
        abort_grace_s: float = ABORT_GRACE_S,
    ) -> None:
        """`draining` is called when the user has asked for the end, before the nodes are."""
        self._draining = draining
        self._nodes, self._command, self._cores = nodes, command, cores
        self._failed_grace_s, self._abort_grace_s = failed_grace_s, abort_grace_s
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._asked: set[str] = set()
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.interrupted = False
        """The user has asked for the end."""

    def run(self) -> int:
        """Start all nodes, wait for all; returns the exit code of the first that failed, after its sentence.

        Raises KeyboardInterrupt when the user aborts.
        """
        with tempfile.TemporaryDirectory(prefix="sidecast-") as folder:
            try:
                with interruptible(self._drain):
                    self._start(folder)
                    order = self._wait()
            finally:
                self._end_all()
            said = [self._sentences(Path(folder), name) for name in order]
        causes = _first_cause(said)
        for sentence in causes:
            complain(sentence)
        code = next((code for name in order if (code := self._exit_code(name))), 0)
        if code and self.interrupted and not causes:
            raise KeyboardInterrupt("a node was stopped before it could drain")
        return code

    def _start(self, folder: str) -> None:
        threads = divide(self._cores, list(self._nodes.values()))
        for name, node in self._nodes.items():
            environment = {**os.environ, **thread_environment(threads[name]), ERRORS_DIR: folder}
            child = subprocess.Popen(
                list(self._command(node, threads[name])),
                env=environment,
                stdin=subprocess.PIPE,
                process_group=0,  # Ctrl-C reaches the launcher alone, which decides who has to know
            )
            self._children[name] = child
            threading.Thread(target=self._await, args=(name, child), daemon=True).start()

    def _await(self, name: str, child: subprocess.Popen[bytes]) -> None:
        child.wait()
        self._ended.put(name)

    def _wait(self) -> list[str]:
        """The names of the nodes in the order of their ends."""
        order: list[str] = []
        deadline: float | None = None
        while len(order) < len(self._children):
            try:
                timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
                order.append(self._ended.get(timeout=timeout))
            except queue.Empty:
                self._kill()
                deadline = None
                continue
            if self._children[order[-1]].returncode and deadline is None:
                self._ask(self._nodes)
                deadline = time.monotonic() + self._failed_grace_s
        return order

    def _drain(self) -> None:
        """The sources end; what is on its way reaches the other nodes, and so does the end."""
        self.interrupted = True
        self._draining()
        heads = [name for name, node in self._nodes.items() if originates(node)]
        self._ask(heads or self._nodes)

    def _ask(self, names: Sequence[str] | Mapping[str, Node]) -> None:
        for name in names:
            child = self._children.get(name)
            if child and name not in self._asked and child.poll() is None:
                self._asked.add(name)
                child.send_signal(signal.SIGTERM)

    def _end_all(self) -> None:
        """Nothing outlives the launcher; does nothing after a run that was waited for."""
        running = [name for name, child in self._children.items() if child.poll() is None]
        for name in running:
            for number in (signal.SIGINT, signal.SIGTERM)[: 1 if name in self._asked else 2]:
                self._children[name].send_signal(number)
        deadline = time.monotonic() + self._abort_grace_s
        for name in running:
            try:
                self._children[name].wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._kill()
        for child in self._children.values():
            if child.stdin:
                child.stdin.close()

    def _kill(self) -> None:
        for child in self._children.values():
            if child.poll() is None:
                child.kill()

    def _exit_code(self, name: str) -> int:
        code = self._children[name].returncode
        return code if code >= 0 else 128 - code

    def _sentences(self, folder: Path, name: str) -> list[str]:
        child = self._children[name]
        file = folder / str(child.pid)
        if not child.returncode:
            return []
        if file.is_file():
            return file.read_text().splitlines()
        if child.returncode > 0:
            return [f"node '{name}' ended with exit code {child.returncode} and no explanation"]
        return [] if name in self._asked else [f"node '{name}' was ended by {_signal(-child.returncode)}"]


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}, is there too little memory?" if number == signal.SIGKILL else name


def _first_cause(said: Sequence[Sequence[str]]) -> list[str]:
    """The sentences of the node that failed first, those of each node given in the order of their ends.

    A node that only repeats another one, with words around it, has not failed first even if it ended first. What other
    nodes have to say besides is the same mistake seen from there, or follows from the first.
    """
    every = {sentence for sentences in said for sentence in sentences}
    causes = ([one for one in sentences if not any(o != one and o in one for o in every)] for sentences in said)
    return next((list(dict.fromkeys(cause)) for cause in causes if cause), [])
