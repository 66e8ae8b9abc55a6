"""`vars` and `${name}`: the few values of a file that change from run to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.config.document import Document, Place, nearest, parse, parse_scalar, shown
from pipeline.errors import ConfigError

__all__ = ["resolve_variables", "substitute"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = re.compile(r"\$\{([^}]*)\}?")


def resolve_variables(document: Document, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The file's variables with those of `--set` put in; faults go to the document."""
    declared = document.data.get("vars")
    if declared is None:
        declared = {}
    if not isinstance(declared, dict):
        document.fault(("vars",), f"{shown(declared)} is not allowed, expected names with their default values")
        declared = {}
    values = {name: _declared(document, name, value) for name, value in declared.items()}
    for name, text in overrides.items():
        if name in values:
            values[name] = _given(text, values[name])
        else:
            has = f"this file has {', '.join(values)}" if values else "this file has no vars"
            document.outside(f"--set {name}={text}", f"there is no variable '{name}'; {has}{nearest(name, values)}")
    for name, value in values.items():
        if value is None:
            document.fault(("vars", name), f"has no value; give it with --set {name}=VALUE")
    return values


def _declared(document: Document, name: str, value: Any) -> Any:
    place: Place = ("vars", name)
    if not NAME.fullmatch(name):
        document.fault(place, "a variable's name is made of letters, digits and _, and starts with no digit")
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict | list) for v in value)):
        document.fault(place, f"{shown(value)} is not allowed, expected text, a number, true, false or a list of those")
    elif isinstance(value, str) and "${" in value:
        document.fault(place, f"{shown(value)} is not allowed, a variable cannot refer to another one")
    return value


def _given(text: str, default: Any) -> Any:
    """The text of `--set` as the type of the default; text where the default is text or null."""
    if default is None or isinstance(default, str):
        return text
    if isinstance(default, list):
        try:
            return parse(text, "--set").data
        except ConfigError:
            return text
    return parse_scalar(text)


def substitute(document: Document, value: Any, values: Mapping[str, Any], place: Place) -> Any:
    """`value` with every `${name}` replaced. One that is the whole value keeps the variable's type."""
    if isinstance(value, dict):
        return {key: substitute(document, inner, values, (*place, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [substitute(document, inner, values, (*place, i)) for i, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    names = REFERENCE.findall(value)
    if not _known(document, value, names, values, place):
        return None
    if value == f"${{{names[0]}}}":
        return values[names[0]]
    return REFERENCE.sub(lambda match: _text(values[match[1]]), value)


def _known(document: Document, value: str, names: list[str], values: Mapping[str, Any], place: Place) -> bool:
    for name in names:
        if f"${{{name}}}" not in value:
            document.fault(place, f"{shown(value)}: `${{` without `}}`")
            return False
        if name not in values:
            has = f"vars has {', '.join(values)}" if values else "this file has no vars"
            document.fault(place, f"{shown(value)}: there is no variable '{name}'; {has}{nearest(name, values)}")
            return False
        if values[name] is None:
            document.silence(place)
            return False
    return True


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
