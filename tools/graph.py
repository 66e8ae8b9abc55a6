"""`sidecast graph CONFIG`: nodes, stages, channels and links as a Mermaid flowchart."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator

from pipeline.config import Config, Node, StageEntry, find, load
from pipeline.config.addresses import link_endpoint, may_reach
from pipeline.stage import Stage
from stages import TABLE
from tools.validate import add_config_arguments, overrides

__all__ = ["add_arguments", "main", "mermaid"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print the chart. Raises ConfigError where the file is faulty."""
    print(mermaid(load(find(args.config), TABLE, overrides(args.set))))
    return 0


def mermaid(config: Config) -> str:
    """A flowchart: a subgraph per node; thin arrows are channels, thick ones links, dotted ones nested sources."""
    lines = ["flowchart LR"]
    for node in config.nodes.values():
        lines += [f"  {line}" for line in _node(node)]
    lines += [f"  {line}" for line in _links(config)]
    return "\n".join(lines)


def _node(node: Node) -> Iterator[str]:
    http = f", http://{node.http}" if node.http else ""
    yield f"subgraph {node.name}_node[{_quoted(node.name + http)}]"
    for i, entry in enumerate(node.stages):
        own = _id(node, i)
        yield f"  {own}[{_label(entry.label, entry.stage)}]"
        if i:
            yield f"  {_id(node, i - 1)} -->{_channel(entry)} {own}"
        for name, nested in _nested(entry.stage):
            yield f"  {own}_{name}([{_label(_use(nested), nested)}]) -.->|{name}| {own}"
    yield "end"


def _links(config: Config) -> Iterator[str]:
    """From every `send` to the `receive` that it can reach, or to its bare address."""
    inlets = [(_id(node, i), text) for node, i, text in _addresses(config, "bind")]
    for node, i, text in _addresses(config, "connect"):
        end = link_endpoint(text)
        reached = [own for own, bind in inlets if end and (to := link_endpoint(bind)) and may_reach(end, to)]
        if reached:
            yield f"{_id(node, i)} ==>|{_quoted(text)}| {reached[0]}"
        else:
            yield f"{_id(node, i)} ==> {_id(node, i)}_to([{_quoted(text)}])"


def _addresses(config: Config, name: str) -> Iterator[tuple[Node, int, str]]:
    for node in config.nodes.values():
        for i, entry in enumerate(node.stages):
            text = getattr(entry.stage, name, None)
            if isinstance(text, str):
                yield node, i, text


def _nested(stage: Stage) -> Iterator[tuple[str, Stage]]:
    for name, value in vars(stage).items():
        if isinstance(value, Stage) and not name.startswith("_"):
            yield name, value


def _use(stage: Stage) -> str:
    """The short name of a nested stage, by its class; its class's name for one from another package."""
    path = f"{type(stage).__module__}:{type(stage).__qualname__}"
    return next((name for name, known in TABLE.items() if known == path), type(stage).__name__)


def _label(title: str, stage: Stage) -> str:
    """The stage with the keys that differ from their defaults."""
    keys = [title]
    for field in dataclasses.fields(stage):  # type: ignore[arg-type]
        value = getattr(stage, field.name, None)
        if field.init and value != field.default and not isinstance(value, Stage):
            keys.append(f"{field.name}: {value}")
    return _quoted("<br/>".join(map(_escaped, keys)), escape=False)


def _channel(entry: StageEntry) -> str:
    if entry.channel is None:
        return ""
    words = [entry.channel.policy or "", "" if entry.channel.capacity is None else str(entry.channel.capacity)]
    return f"|{' '.join(filter(None, words))}|"


def _id(node: Node, i: int) -> str:
    return f"{node.name}_{i}"


def _escaped(text: str) -> str:
    """Mermaid reads markup and its own marks in labels; entities stand for them."""
    marks = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;", "|": "#124;"}
    return "".join(marks.get(char, char) for char in text)


def _quoted(text: str, *, escape: bool = True) -> str:
    return f'"{_escaped(text) if escape else text}"'
