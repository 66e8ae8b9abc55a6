"""`sidecast stages [NAME]`: which stages there are, and which keys each takes."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator

from pipeline.config import Catalogue
from pipeline.config.describe import Key, keys_of, summary_of
from pipeline.config.document import nearest
from pipeline.errors import ConfigError
from stages import TABLE

__all__ = ["add_arguments", "main"]

WIDTH = 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="one stage; without it, all of them in short")


def main(args: argparse.Namespace) -> int:
    """Print the list, or all about one stage. Raises ConfigError for an unknown one."""
    catalogue = Catalogue(TABLE)
    if args.name is None:
        print("\n".join(_list(catalogue)))
        print("\n`sidecast stages NAME` shows the keys of one.")
    else:
        print("\n".join(_details(catalogue, args.name)))
    return 0


def _list(catalogue: Catalogue) -> Iterator[str]:
    width = max(map(len, catalogue.paths))
    for name in catalogue.paths:
        try:
            text = summary_of(catalogue.load(name))
        except ImportError as error:
            text = f"({error})"
        yield f"{name:{width}}  {text}"


def _details(catalogue: Catalogue, name: str) -> Iterator[str]:
    if name not in catalogue.paths:
        known = ", ".join(catalogue.paths)
        raise ConfigError(f"there is no stage '{name}'{nearest(name, catalogue.paths)} (there are {known})")
    try:
        cls = catalogue.load(name)
    except ImportError as error:
        raise ConfigError(str(error)) from error
    yield f"{name}: {summary_of(cls)}"
    for key in sorted(keys_of(cls).values(), key=lambda key: not key.required):
        yield ""
        yield from _key(key)


def _key(key: Key) -> Iterator[str]:
    default = "required" if key.required else f"default {json.dumps(key.default, default=str)}"
    yield f"  {key.name}: {key.allowed} ({default})"
    yield from textwrap.wrap(key.description, WIDTH, initial_indent="      ", subsequent_indent="      ")
