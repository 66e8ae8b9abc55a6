"""`sidecast run CONFIG`: all nodes of a configuration on this machine, or one of them with `--node`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import report
from pipeline.config import Config, Node, expand, find
from pipeline.config.addresses import without_passwords
from pipeline.dashboard import Dashboard, LiveStream, Pictures
from pipeline.errors import ConfigError, SidecastError
from pipeline.http import HttpServer, require_free_port
from pipeline.interrupt import interruptible
from pipeline.launcher import Launcher, is_launched, thread_environment, usable_cores, watch_launcher
from pipeline.ledger import OUT
from pipeline.log import Terminal, complain, set_up
from pipeline.progress import Progress
from pipeline.runner import Runner, originates, settles
from pipeline.stage import Context
from stages import TABLE
from stages.receive import Receive
from tools.arguments import positive
from tools.validate import add_config_arguments, overrides

__all__ = ["add_arguments", "main"]

DRAINING = "finishing what is on its way, Ctrl-C again to stop at once"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_config_arguments(parser)
    parser.add_argument("--node", metavar="NAME", help="run this node only; the others run elsewhere")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where outputs go (default: out/NAME OF THE FILE)")
    parser.add_argument("--threads", type=positive, metavar="N", help="cores to use (default: all that there are)")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # how a launched node learns which of several drives it runs


def main(args: argparse.Namespace) -> int:
    """Run one drive after another. Raises ConfigError and SourceError; a drive that fails doesn't stop the rest."""
    path = find(args.config)
    # Threads are decided before anything numerical is loaded: the libraries read them once.
    cores = args.threads or usable_cores()
    for name, value in thread_environment(cores).items():
        os.environ.setdefault(name, value)
    parts = expand(path, TABLE, overrides(args.set))
    out = args.out or Path("out") / path.stem
    terminal = set_up(verbose=args.verbose, node=args.node or "")
    if args.part is not None:
        parts = [(name, config) for name, config in parts if name == args.part]
    elif args.node is not None and len(parts) > 1 and len(parts[0][1].nodes) > 1:
        # A drive that fails on one side only would leave the other a drive behind, pairing views of different drives.
        names = ", ".join(name for name, _ in parts)
        raise ConfigError(f"--node runs one drive and `drive` matches {len(parts)} ({names}): give one of them")
    session = _Session(args, path, cores, terminal)
    if len(parts) == 1:
        return session.run(*parts[0], out)
    return _run_all(session, parts, out)


def _run_all(session: _Session, parts: Sequence[tuple[str, Config]], out: Path) -> int:
    """One run after another, and a table of all."""
    code, reports = 0, dict[str, Any]()
    for i, (name, config) in enumerate(parts):
        session.terminal.line(f"drive {i + 1} of {len(parts)}: {name}")
        folder = out / name
        try:
            one = session.run(name, config, folder)
        except SidecastError as error:
            complain(str(error))
            one = error.exit_code
        code = code or one
        if name in session.reported:
            file = folder / "report.json"
            reports[name] = json.loads(file.read_text()) if file.is_file() else None
        if session.interrupted:
            break
    if any(reports.values()):
        print(f"\n{report.table(reports)}", flush=True)
    return code


@dataclass
class _Session:
    """What all runs of one command share."""

    args: argparse.Namespace
    path: Path
    cores: int
    terminal: Terminal
    interrupted: bool = False
    reported: set[str] = field(default_factory=set)

    def run(self, name: str, config: Config, out: Path) -> int:
        """One drive, in this process if there is one node to run."""
        nodes = self._nodes(config)
        if len(nodes) > 1:
            _require_free_ports(nodes)
        if any(settles(node) for node in nodes.values()):
            _prepare(out)
            self.reported.add(name)
        if len(nodes) == 1:
            return self._run_here(next(iter(nodes.values())), config, out)
        launcher = Launcher(
            nodes,
            lambda node, threads: self._command(node, threads, name, out),
            self.cores,
            lambda: self.terminal.line(DRAINING),
        )
        try:
            return launcher.run()
        finally:
            self.interrupted = launcher.interrupted

    def _nodes(self, config: Config) -> dict[str, Node]:
        if self.args.node is None:
            return config.nodes
        if self.args.node not in config.nodes:
            known = ", ".join(config.nodes)
            raise ConfigError(f"{config.path} has no node '{self.args.node}', expected one of {known}")
        return {self.args.node: config.nodes[self.args.node]}

    def _command(self, node: Node, threads: int, part: str, out: Path) -> list[str]:
        command = [sys.executable, "-P", "-m", "tools.cli", "run", str(self.path), f"--node={node.name}"]
        command += [f"--out={out}", f"--threads={threads}", f"--part={part}"]
        command += [f"--set={text}" for text in self.args.set]
        return command + (["--verbose"] if self.args.verbose else [])

    def _run_here(self, node: Node, config: Config, out: Path) -> int:
        context = Context(node.name, out, threads=self.cores, config=_text(config))
        runner = Runner(node, context)
        if is_launched():
            watch_launcher()

        def drain() -> None:
            self.interrupted = True
            if not is_launched():
                self.terminal.line(DRAINING)
            context.stop.set()

        with interruptible(drain), ExitStack() as stack:
            if node.http:
                dashboard = _dashboard(node, context, runner) if node.dashboard else None
                server = HttpServer(
                    node.http, context, runner.ready.is_set, insecure=node.insecure, dashboard=dashboard
                )
                stack.enter_context(server)
                if dashboard:
                    context.log.info("dashboard: %s", server.url)
            if settles(node):
                stack.enter_context(Progress(context, runner.meter, self.terminal))
            try:
                runner.run()
            finally:
                stack.close()
                if settles(node):
                    self._write_report(context, config)
        _complain_if_all_is_lost(context)
        return 0

    def _write_report(self, context: Context, config: Config) -> None:
        """Also after an error, which stands if the report fails as well; not of a run without any frame."""
        if not context.ledger.counts():
            context.log.info("no frame came, there is nothing to report")
            return
        try:
            written = report.write(context, _summary(config))
        except SidecastError as error:
            if context.error is None:
                raise
            context.log.warning("%s", error)
            return
        print("\n".join(written.summary_lines()), flush=True)


def _dashboard(node: Node, context: Context, runner: Runner) -> Dashboard:
    """The page of a node, with pictures of what passes through it."""
    from stages.composite import compose

    pictures = Pictures(compose)
    runner.meter.watcher = pictures.offer
    relay, sends = not originates(node), not settles(node)
    stream = LiveStream(context, relay=relay, sends=sends, pictures=pictures, ready=runner.ready.is_set)
    return Dashboard(context, [stream])


def _text(config: Config) -> str:
    """The file, with the values that its variables have in this run."""
    values = "".join(f"# {name} = {json.dumps(value)}\n" for name, value in config.vars.items())
    return without_passwords(f"# As run with:\n{values}{config.path.read_text()}")


def _summary(config: Config) -> dict[str, Any]:
    """What a report says about its configuration."""
    chains = {node.name: [entry.label for entry in node.stages] for node in config.nodes.values()}
    shown = {name: without_passwords(v) if isinstance(v, str) else v for name, v in config.vars.items()}
    return {"file": config.path.name, "vars": shown, "nodes": chains}


def _complain_if_all_is_lost(context: Context) -> None:
    """Raises SidecastError where frames came and none of them came through, unless the user has stopped the run."""
    counts = context.ledger.counts()
    if counts and not counts[OUT] and not context.stop.is_set():
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        raise SidecastError(f"no frame came through: {reasons}")


def _require_free_ports(nodes: Mapping[str, Node]) -> None:
    """Raises LinkError at once: a node notices when it starts, but the other ones are loading their libraries then."""
    for node in nodes.values():
        if node.http:
            require_free_port(node.name, node.http)
        for entry in node.stages:
            if isinstance(entry.stage, Receive):
                entry.stage.require_free_port()


def _prepare(out: Path) -> None:
    """Make the folder of the outputs, without an earlier run's report. Raises ConfigError where that is impossible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            report.clear(out)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from error
