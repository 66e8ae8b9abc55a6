"""From a YAML file to a Config, or to all of its faults at once."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.build import Catalogue, build, build_stage
from pipeline.config.checks import DraftNode, DraftStage, check
from pipeline.config.document import Document, Place, nearest, read, shown
from pipeline.config.model import ChannelSpec, Config, Node, StageEntry
from pipeline.config.variables import resolve_variables, substitute
from pipeline.errors import ConfigError, SourceError

__all__ = ["expand", "load"]

NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class _NodeKeys:
    http: str | None = None
    insecure: bool = False
    dashboard: bool = False
    stages: list[Any]


def load(path: Path, table: Mapping[str, str], overrides: Mapping[str, str]) -> Config:
    """Read, check and build everything a file describes, without opening anything.

    `table` maps short names to dotted paths of stages, `overrides` holds the `--set` of the command line.
    Raises ConfigError with every fault of the file.
    """
    document, variables = _prepare(path, overrides)
    return _build(document, variables, table)


def expand(path: Path, table: Mapping[str, str], overrides: Mapping[str, str]) -> list[tuple[str, Config]]:
    """One (name, Config) per run: one per match where `drive` is a glob, else one with the name ''.

    The glob is the variable `drive`, or the key `drive` of stages. Raises ConfigError as `load` does, SourceError where
    nothing matches.
    """
    document, variables = _prepare(path, overrides)
    pattern = _drive_pattern(document, variables)
    if pattern is None:
        return [("", _build(document, variables, table))]
    drives = sorted(match for match in glob.glob(str(Path(pattern).expanduser())) if Path(match).is_dir())
    if not drives:
        raise SourceError(f"no drive matches {pattern}: there is no such folder")
    names = _names(drives)
    return [
        (name, _with_drive(path, table, overrides, pattern, drive)) for name, drive in zip(names, drives, strict=True)
    ]


def _prepare(path: Path, overrides: Mapping[str, str]) -> tuple[Document, dict[str, Any]]:
    """The document with its variables put in; top-level mistakes are collected."""
    document = read(path)
    if not isinstance(document.data, dict):
        document.fault((), "a configuration is a mapping with `nodes` and, if it likes, `vars`")
        document.check()
    for key in document.data:
        if key not in ("vars", "nodes"):
            what = f"unknown key; a configuration has vars and nodes{nearest(key, ('vars', 'nodes'))}"
            document.fault((key,), what)
    variables = resolve_variables(document, overrides)
    nodes = substitute(document, document.data.get("nodes"), variables, ("nodes",))
    document.data = {**document.data, "nodes": nodes}
    return document, variables


def _build(document: Document, variables: dict[str, Any], table: Mapping[str, str]) -> Config:
    nodes = document.data["nodes"]
    if not isinstance(nodes, dict) or not nodes:
        document.fault(("nodes",), f"{shown(nodes)} is not allowed, expected at least one node with its stages")
        nodes = {}
    catalogue = Catalogue(table)
    drafts = [_draft_node(document, catalogue, name, data) for name, data in nodes.items()]
    check(document, drafts)
    document.check()
    return Config(Path(document.name), variables, {draft.name: _node(document, draft) for draft in drafts})


def _draft_node(document: Document, catalogue: Catalogue, name: str, data: Any) -> DraftNode:
    place: Place = ("nodes", name)
    if not NODE_NAME.fullmatch(name):
        document.fault(place, "a node's name is made of letters, digits, _ and -, and starts with a letter")
    if not isinstance(data, dict):
        document.fault(place, f"{shown(data)} is not allowed, expected the node's `stages` and, if it likes, `http`")
        return DraftNode(name, None, False)
    build(document, _NodeKeys, data, place, "a node")
    stages = data.get("stages")
    if stages == []:
        document.fault((*place, "stages"), "a node needs at least one stage")
    drafts = [
        _draft_stage(document, catalogue, stage, (*place, "stages", i))
        for i, stage in enumerate(stages if isinstance(stages, list) else [])
    ]
    http = data.get("http")
    flags = data.get("insecure") is True, data.get("dashboard") is True
    return DraftNode(name, http if isinstance(http, str) else None, flags[0], drafts, flags[1])


def _draft_stage(document: Document, catalogue: Catalogue, data: Any, place: Place) -> DraftStage:
    channel = None
    if isinstance(data, dict) and "channel" in data:
        spec, data = data["channel"], {key: value for key, value in data.items() if key != "channel"}
        inner = (*place, "channel")
        if isinstance(spec, dict):
            channel = build(document, ChannelSpec, spec, inner, "a channel")
        elif not document.faulty(inner):
            document.fault(inner, f"{shown(spec)} is not allowed, expected {{policy: block or latest, capacity: N}}")
    return DraftStage(build_stage(document, catalogue, data, place), channel, place)


def _node(document: Document, draft: DraftNode) -> Node:
    entries: list[StageEntry] = []
    for stage in draft.stages:
        if stage.built.stage is None:
            raise ConfigError(f"{document.name}: '{stage.use}' could not be built")
        count = sum(entry.use == stage.use for entry in entries)
        label = f"{stage.use}_{count + 1}" if count else stage.use
        entries.append(StageEntry(stage.use, label, stage.built.stage, stage.channel, document.line(stage.place)))
    return Node(draft.name, draft.http, draft.insecure, entries, draft.dashboard)


def _drive_pattern(document: Document, variables: Mapping[str, Any]) -> str | None:
    """The one glob that `drive` is in this file, or None."""
    if _is_glob(variables.get("drive")):
        return str(variables["drive"])
    found = {drive for drive in _drives(document.data["nodes"]) if _is_glob(drive)}
    if len(found) > 1:
        listed = ", ".join(sorted(found))
        raise ConfigError(f"{document.name}: only one glob of drives is possible in a run, found {listed}")
    return next(iter(found), None)


def _is_glob(drive: object) -> bool:
    return isinstance(drive, str) and glob.has_magic(drive) and not Path(drive).exists()


def _drives(data: Any) -> list[Any]:
    """The value of every key `drive` of the stages, nested ones too."""
    if isinstance(data, list):
        return [drive for inner in data for drive in _drives(inner)]
    if not isinstance(data, dict):
        return []
    own = [data["drive"]] if isinstance(data.get("drive"), str) else []
    return own + [drive for inner in data.values() for drive in _drives(inner)]


def _with_drive(path: Path, table: Mapping[str, str], overrides: Mapping[str, str], pattern: str, drive: str) -> Config:
    document, variables = _prepare(path, overrides)
    if variables.get("drive") == pattern:
        document, variables = _prepare(path, {**overrides, "drive": drive})
    document.data = {**document.data, "nodes": _replaced(document.data["nodes"], pattern, drive)}
    return _build(document, variables, table)


def _replaced(data: Any, pattern: str, drive: str) -> Any:
    if isinstance(data, list):
        return [_replaced(inner, pattern, drive) for inner in data]
    if isinstance(data, dict):
        return {
            key: drive if key == "drive" and inner == pattern else _replaced(inner, pattern, drive)
            for key, inner in data.items()
        }
    return data


def _names(drives: list[str]) -> list[str]:
    """A name per drive: '' for a single one, the folder's name, or the whole path where names repeat."""
    if len(drives) == 1:
        return [""]
    names = [Path(drive).name for drive in drives]
    return names if len(set(names)) == len(names) else ["_".join(Path(drive).parts).strip("/_.") for drive in drives]
