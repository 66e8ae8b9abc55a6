"""YAML read as plain data, with the line of every value and every mistake of the file collected, not only the first.

The rules of `yaml.safe_load`, less what surprises or attacks: no tags, no aliases, no merge keys, no repeated keys, no
dates, no base-60 numbers (`frames: 10:20` stays text), a limit on size and depth.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError, Fault

__all__ = ["Document", "Place", "nearest", "parse", "parse_scalar", "read", "shown"]

Place = tuple[str | int, ...]
"""The keys and indices that lead to a value."""

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24


@dataclass
class Document:
    """A YAML file as data, and the faults found in it so far."""

    name: str
    """As the user wrote it; starts each fault."""
    data: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    found: list[tuple[int, Fault]] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)
    """Where something is wrong, said or silenced."""

    def line(self, place: Place) -> int:
        """The line, from 1, of the nearest thing to `place` that the file has."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def fault(self, place: Place, what: str, line: int | None = None) -> None:
        """Collect a mistake; one place gets one fault, the first."""
        if place in self.places:
            return
        line = line or self.line(place)
        where = f"{self.name}:{line}"
        self.found.append((line, Fault(f"{where}: {written(place)}" if place else where, what)))
        self.places.add(place)

    def outside(self, where: str, what: str) -> None:
        """Collect a mistake that is not in the file, such as a wrong `--set`."""
        self.found.append((0, Fault(where, what)))

    def silence(self, place: Place) -> None:
        """Say nothing about `place`: its cause is another fault."""
        self.places.add(place)

    def faulty(self, place: Place) -> bool:
        """Whether something is known to be wrong at or below `place`, so that what follows from it need not be said."""
        return any(other[: len(place)] == place for other in self.places)

    def check(self) -> None:
        """Raise ConfigError with all faults, in the order of the file."""
        if self.found:
            raise ConfigError([fault for _, fault in sorted(self.found, key=lambda pair: pair[0])])


def written(place: Place) -> str:
    """A place as people write it: `nodes.decoder.stages[2].quality`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def shown(value: object) -> str:
    """A value as it would stand in YAML, cut to a length that a line bears."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one of the known names is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def read(path: Path) -> Document:
    """Read a file; raise ConfigError where it cannot be read or is no YAML."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"the configuration {path} is larger than {MAX_BYTES // 1024} KiB, which is the limit")
    return parse(raw, str(path))


def parse(raw: bytes | str, name: str) -> Document:
    """Turn YAML text into a Document; raise ConfigError where it is no YAML. Lesser mistakes are collected in it."""
    document = Document(name)
    try:
        loader = _Loader(raw)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_fault(name, error)]) from None
    if root is not None:
        document.data = _value(document, loader, root, ())
    return document


def parse_scalar(text: str) -> Any:
    """What a plain word means in YAML: a number, true or false, null, else the text itself."""
    tag = _Loader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    try:
        return _Loader("").construct_object(yaml.ScalarNode(tag, text))
    except ValueError:
        return text


class _Loader(yaml.SafeLoader):
    """Builds the node tree; refuses aliases, tags and deep nesting before anything grows from them."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark, tag = event.start_mark, getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*) are not allowed", problem_mark=mark)
        if tag not in (None, "!"):
            raise yaml.MarkedYAMLError(problem=f"tags ({tag}) are not allowed", problem_mark=mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="this is nested too deeply", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_INT = re.compile(r"^[-+]?(?:0x[0-9a-fA-F]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    kept = {"tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"}
    table = {
        first: [pair for pair in pairs if pair[0] in kept]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-+.0123456789":
        table.setdefault(first, []).extend(
            [("tag:yaml.org,2002:int", _INT), ("tag:yaml.org,2002:float", _FLOAT)],
        )
    return table


_Loader.yaml_implicit_resolvers = _resolvers()


def _value(document: Document, loader: _Loader, node: yaml.Node, place: Place) -> Any:
    document.lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, loader, node, place)
    if isinstance(node, yaml.SequenceNode):
        return [_value(document, loader, item, (*place, i)) for i, item in enumerate(node.value)]
    try:
        value = loader.construct_object(node)
    except ValueError:
        value = node.value
    if isinstance(value, float) and not math.isfinite(value):
        document.fault(place, f"{node.value} is not allowed, expected a finite number")
    return value


def _mapping(document: Document, loader: _Loader, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            document.fault(place, "a key must be a plain word", line)
            continue
        inner = (*place, key.value)
        if key.value in values:
            document.fault(inner, f"this key is here twice, first in line {document.lines[inner]}; keep one", line)
            continue
        document.lines[inner] = line
        values[key.value] = _value(document, loader, value, inner)
    return values


def _syntax_fault(name: str, error: yaml.YAMLError) -> Fault:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
    context = getattr(error, "context", None)
    where = name if mark is None else f"{name}:{mark.line + 1}"
    return Fault(where, f"not a configuration that can be read: {problem}" + (f" ({context})" if context else ""))
