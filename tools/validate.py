"""`sidecast validate CONFIG`: whether a configuration can work, with every mistake in it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pipeline.config import Config, find, load
from pipeline.errors import ConfigError
from stages import TABLE

__all__ = ["add_arguments", "add_config_arguments", "main", "overrides"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_config_arguments(parser)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command takes that reads a configuration."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped one such as demo")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="give a variable of the file a value"
    )


def main(args: argparse.Namespace) -> int:
    """Print `ok` with what the file describes. Raises ConfigError with all faults."""
    config = load(find(args.config), TABLE, overrides(args.set))
    print(f"ok: {described(config)}")
    return 0


def overrides(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping; the last one of a name stands. Raises ConfigError for one without `=`."""
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise ConfigError(f"--set {name}{equals}: expected NAME=VALUE")
    return {name: value for name, _, value in pairs}


def described(config: Config) -> str:
    """The nodes of a configuration with their chains, in one line."""
    chains = (f"{node.name} ({' -> '.join(stage.label for stage in node.stages)})" for node in config.nodes.values())
    return "; ".join(chains)
