"""Stages from their YAML mappings: the class by its short name, the keys checked, the mistakes in plain words."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.config.describe import Key, keys_of, words_of
from pipeline.config.document import Document, Place, nearest, shown
from pipeline.stage import Stage

__all__ = ["Built", "Catalogue", "build", "build_stage"]

T = TypeVar("T")


class Catalogue:
    """The stages that there are: the table handed in, and those of the entry-point group `sidecast.stages`.

    A name of the table stands before an entry point of the same name.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        found = {entry.name: entry.value for entry in metadata.entry_points(group="sidecast.stages")}
        self.paths = {**found, **table}

    def load(self, name: str) -> type[Stage]:
        """The class of that short name. Raises KeyError for an unknown one, ImportError with a sentence else."""
        path = self.paths[name]
        module, _, attribute = path.partition(":")
        try:
            cls: Any = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ImportError(f"the stage '{name}' ({path}) cannot be loaded: {error}") from error
        if not _is_stage(cls):
            raise ImportError(f"the stage '{name}' ({path}) is not a dataclass derived from Stage")
        return cast(type[Stage], cls)


def _is_stage(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Stage) and dataclasses.is_dataclass(found)


@dataclass(frozen=True)
class Built:
    """A stage as far as it could be made: no class if `use` is unknown, no stage if a key is wrong."""

    use: str
    cls: type[Stage] | None
    stage: Stage | None


def build_stage(document: Document, catalogue: Catalogue, data: Any, place: Place) -> Built:
    """Build the stage that a mapping describes, and those nested in it; faults go to the document."""
    use = data.get("use") if isinstance(data, dict) else None
    if not isinstance(use, str):
        if not document.faulty(place):
            document.fault(place, f"{shown(data)} is not allowed, expected a stage such as {{use: kitti, ...}}")
        return Built("", None, None)
    try:
        cls = catalogue.load(use)
    except KeyError:
        known = ", ".join(catalogue.paths)
        document.fault((*place, "use"), f"there is no stage '{use}'{nearest(use, catalogue.paths)} (there are {known})")
        return Built(use, None, None)
    except ImportError as error:
        document.fault((*place, "use"), str(error))
        return Built(use, None, None)
    values = {name: value for name, value in data.items() if name != "use"}
    keys = keys_of(cls)
    for name, key in keys.items():
        if key.stage_type and isinstance(values.get(name), dict):
            values[name] = _nested(document, catalogue, key, values[name], (*place, name))
    return Built(use, cls, build(document, cls, values, place, use))


def _nested(document: Document, catalogue: Catalogue, key: Key, data: Any, place: Place) -> Stage | None:
    built = build_stage(document, catalogue, data, place)
    if built.cls and key.stage_type and not issubclass(built.cls, key.stage_type):
        document.fault((*place, "use"), f"'{built.use}' is not allowed here, expected {key.allowed}")
    if built.stage is None:
        document.silence(place)
    return built.stage


def build(document: Document, cls: type[T], values: Mapping[str, Any], place: Place, name: str) -> T | None:
    """An instance of a dataclass from a mapping, or None and faults in the document; `name` is how it is called."""
    keys = keys_of(cls)
    for unknown in [key for key in values if key not in keys]:
        has = f"{name} has {', '.join(keys)}" if keys else f"{name} has no keys"
        what = f"unknown key (value {shown(values[unknown])}); {has}{nearest(unknown, keys)}"
        document.fault((*place, unknown), what)
    wrong = any(document.faulty((*place, key)) for key in values)
    values = {key: value for key, value in values.items() if not document.faulty((*place, key))}
    try:
        built = TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _explain(document, keys, details, place, name)
        return None
    return None if wrong else built


def _explain(document: Document, keys: Mapping[str, Key], details: Any, place: Place, name: str) -> None:
    """One of pydantic's errors as a fault that says what was found and what is allowed."""
    key = keys.get(str(details["loc"][0])) if details["loc"] else None
    where = (*place, key.name) if key else place
    if document.faulty(where) and key:
        return
    if details["type"] in ("value_error", "assertion_error"):
        document.fault(where, f"{details['ctx']['error']}")
    elif key is None:
        document.fault(where, f"{name} cannot be set up: {details['msg']}")
    elif details["type"].startswith("missing"):
        described = f" ({key.description})" if key.description else ""
        document.fault(where, f"missing, expected {key.allowed}{described}")
    else:
        document.fault(where, f"{_found(details)} is not allowed, expected {key.allowed}{_close(key, details)}")


def _found(details: Any) -> str:
    inner = [part for part in details["loc"][1:] if isinstance(part, int)]
    return shown(details["input"]) + (f" (item {inner[0]})" if inner else "")


def _close(key: Key, details: Any) -> str:
    return nearest(details["input"], words_of(key.annotation)) if isinstance(details["input"], str) else ""
