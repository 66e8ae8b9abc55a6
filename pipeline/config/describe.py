"""The keys of a stage in plain words: type, range, default, description."""

from __future__ import annotations

import dataclasses
import inspect
import pathlib
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from pydantic.fields import FieldInfo

from pipeline.stage import Source, Stage

__all__ = ["Key", "allowed", "keys_of", "stage_type", "summary_of", "words_of"]

WORDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    pathlib.Path: "a path",
    type(None): "null",
    Any: "anything",
    Source: "a source with its own `use`",
    Stage: "a stage with its own `use`",
}


@dataclass(frozen=True)
class Key:
    """One YAML key of a stage."""

    name: str
    annotation: Any
    allowed: str
    """For example `a whole number from 1 to 16`."""
    required: bool
    default: Any
    description: str

    @property
    def stage_type(self) -> type[Stage] | None:
        """Stage or Source where the value is a stage of its own."""
        return stage_type(self.annotation)


def keys_of(cls: type) -> dict[str, Key]:
    """The keys that a stage (or another dataclass of the configuration) takes, in order."""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = _hints(cls, set(fields))
    return {name: _key(field, hints[name]) for name, field in fields.items()}


def _hints(cls: type, names: set[str]) -> dict[str, Any]:
    """The types of some fields. Those of run-time state may name libraries that are not imported here."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        written = {name: hint for name, hint in vars(base).get("__annotations__", {}).items() if name in names}
        bare = type(base.__name__, (), {"__annotations__": written, "__module__": base.__module__})
        hints |= typing.get_type_hints(bare, include_extras=True)
    return hints


def _key(field: dataclasses.Field[Any], annotation: Any) -> Key:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    info = _info(annotation)
    if isinstance(default, FieldInfo):
        info, default = default, default.get_default(call_default_factory=True)
    required = default is dataclasses.MISSING or repr(default) == "PydanticUndefined"
    text = (info.description or "") if info else ""
    return Key(field.name, annotation, allowed(annotation), required, None if required else default, text)


def _info(annotation: Any) -> FieldInfo | None:
    found = [data for data in getattr(annotation, "__metadata__", ()) if isinstance(data, FieldInfo)]
    return found[0] if found else None


def summary_of(cls: type) -> str:
    """The first line of a stage's docstring, or of its file's."""
    text = cls.__doc__ or ""
    if text.startswith(f"{cls.__name__}("):  # what dataclass writes where there is none
        text = inspect.getmodule(cls).__doc__ or ""
    return text.strip().partition("\n")[0]


def stage_type(annotation: Any) -> type[Stage] | None:
    """The stage class that a field's type names, alone or in a union; None if there is none."""
    if typing.get_origin(annotation) is Annotated:
        return stage_type(typing.get_args(annotation)[0])
    if _is_union(annotation):
        return next(filter(None, map(stage_type, typing.get_args(annotation))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Stage) else None


def allowed(annotation: Any) -> str:
    """What values a type takes, in plain words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _with_limits(args[0], _limits(args[1:]))
    if _is_union(annotation):
        return _alternatives(args)
    if origin is Literal:
        return _one_of([_literal(value) for value in args])
    if origin in (list, set, frozenset):
        return f"a list, each item {allowed(args[0])}" if args else "a list"
    if origin is tuple:
        return _tuple(args)
    if isinstance(annotation, type) and issubclass(annotation, Stage):
        return WORDS[Source] if issubclass(annotation, Source) else WORDS[Stage]
    return WORDS.get(annotation) or str(getattr(origin or annotation, "__name__", annotation))


def words_of(annotation: Any) -> list[str]:
    """The fixed words among the values that a type takes."""
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return [value for value in args if isinstance(value, str)]
    if typing.get_origin(annotation) is Annotated:
        return words_of(args[0])
    return [word for arg in args for word in words_of(arg)] if _is_union(annotation) else []


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


def _alternatives(args: tuple[Any, ...]) -> str:
    return " or ".join(allowed(arg) for arg in sorted(args, key=lambda arg: arg is type(None)))


def _one_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tuple(args: tuple[Any, ...]) -> str:
    if len(args) == 2 and args[1] is Ellipsis:
        return f"a list, each item {allowed(args[0])}"
    return f"[{', '.join(allowed(arg).removeprefix('a ') for arg in args)}]"


def _limits(metadata: tuple[Any, ...]) -> dict[str, Any]:
    """The bounds that pydantic's Field and annotated_types carry, by name."""
    limits: dict[str, Any] = {}
    for data in metadata:
        for part in (data, *getattr(data, "metadata", ())):
            for name in ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern"):
                if getattr(part, name, None) is not None:
                    limits[name] = getattr(part, name)
    return limits


def _with_limits(inner: Any, limits: dict[str, Any]) -> str:
    if limits and _is_union(inner):  # the limits are those of the value, not of null
        args = [arg for arg in typing.get_args(inner) if arg is not type(None)]
        null = " or null" if len(args) < len(typing.get_args(inner)) else ""
        return " or ".join(_with_limits(arg, limits) for arg in args) + null
    return f"{allowed(inner)} {_range(limits)}".rstrip()


def _range(limits: dict[str, Any]) -> str:
    if "ge" in limits and "le" in limits:
        words = [f"from {_plain(limits['ge'])} to {_plain(limits['le'])}"]
    else:
        names = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
        bounds = [f"{word} {_plain(limits[name])}" for name, word in names.items() if name in limits]
        words = [" and ".join(bounds)] if bounds else []
    if "multiple_of" in limits:
        words.append(f"that is a multiple of {_plain(limits['multiple_of'])}")
    if "min_length" in limits:
        words.append("that is not empty" if limits["min_length"] == 1 else f"at least {limits['min_length']} long")
    if "max_length" in limits:
        words.append(f"at most {limits['max_length']} long")
    if "pattern" in limits:
        words.append(f"of the form {limits['pattern']}")
    return " ".join(words)


def _plain(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() else f"{limit:g}"
