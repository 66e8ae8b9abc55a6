"""The command line: `sidecast COMMAND ...`. A command's module is imported when it is called, not before."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence

from pipeline.errors import ConfigError, SidecastError
from pipeline.interrupt import CLOSING
from pipeline.log import complain

__all__ = ["COMMANDS", "entry", "main"]

COMMANDS = {
    "run": ("tools.run", "run the nodes of a configuration, all on this machine or one of them"),
    "validate": ("tools.validate", "check a configuration; every mistake with its line and what is allowed"),
    "graph": ("tools.graph", "draw a configuration as a Mermaid diagram"),
    "stages": ("tools.stages", "list the stages that there are, with their keys"),
    "replay": ("tools.replay", "play a recording through a decoder into sinks, or onto a link"),
    "dashboard": ("tools.dashboard", "recordings in a browser: what they cost, and their pictures"),
    "info": ("tools.info", "what a recording holds, and whether all of it is there"),
    "repair": ("tools.repair", "make a truncated or damaged recording whole"),
    "export": ("tools.export", "a recording as mp4, png or csv"),
    "encode": ("tools.encode", "one picture to one packet, a .sdc file"),
    "decode": ("tools.decode", "a .sdc file back to a picture"),
    "calibrate-offset": ("tools.calibrate_offset", "by how much the clocks of two cameras differ, from their pictures"),
    "synthesize": ("tools.synthesize", "write the rendered drive as files, in the layout of a KITTI recording"),
    "cameras": ("tools.cameras", "list the cameras of this machine, or measure what one sends"),
    "bench": ("tools.bench", "measure how long each part of a codec takes on this machine"),
    "train": ("tools.train", "train a codec"),
    "evaluate": ("tools.evaluate", "compare codecs and classical rivals: rate-distortion, BD-rate, sample panels"),
    "cards": ("tools.cards", "measure the shipped weights and write their model cards"),
    "import-reference": ("tools.import_reference", "bring in a checkpoint of the reference implementation"),
}
"""Name: (module with `add_arguments(parser)` and `main(args) -> int`, what it does)."""

INTERRUPTED = 130
INTERNAL = 70


def entry() -> None:
    """The console script."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever has started this: `sidecast ... >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lives
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `sidecast stages | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.stderr.flush()
    if any(thread.name.startswith(CLOSING) for thread in threading.enumerate()):
        os._exit(code)  # a stage hangs, and what it holds would keep the interpreter from ending
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code, after the error in one sentence if there was one."""
    verbose = "--verbose" in argv or "-v" in argv
    try:
        return _call(argv)
    except SystemExit as end:  # argparse, after --help or a wrong argument
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt:
        complain("stopped by the user")
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:  # noqa: BLE001 - the other of the two places that catch everything
        if verbose:
            traceback.print_exc()
        sentence, code = _explained(error)
        complain(sentence)
        return code


def _call(argv: Sequence[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        return _top_level(argv)
    module_name, summary = COMMANDS[argv[0]]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(f"sidecast {argv[0]}", description=summary, conflict_handler="resolve")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more, show where errors come from")
    module.add_arguments(parser)
    return int(module.main(parser.parse_args(argv[1:])))


def _top_level(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "sidecast",
        usage="sidecast [--help] [--version] COMMAND ...",
        description="Live stereo video at the bitrate of one eye: one view is coded, the other helps to decode it.",
        epilog="commands:\n" + "\n".join(f"  {name:18}{text}" for name, (_, text) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="`sidecast COMMAND --help` shows what it takes")
    args, _ = parser.parse_known_args(argv)
    if args.version:
        from importlib import metadata

        print(f"sidecast {metadata.version('sidecast')}")
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    close = difflib.get_close_matches(args.command, COMMANDS, 1)
    hint = f", did you mean '{close[0]}'?" if close else ""
    raise ConfigError(f"there is no command '{args.command}'{hint} (there are {', '.join(COMMANDS)})")


def _explained(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code of an error."""
    if isinstance(error, SidecastError):
        return str(error), error.exit_code
    if isinstance(error, _codec_error()):
        return str(error), 1
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror or error}", 1
    told = " ".join(str(error).split())
    return f"internal error, {type(error).__name__}: {told} (--verbose shows where)", INTERNAL


def _codec_error() -> type[Exception] | tuple[()]:
    """The base of the codec library's own errors, which are sentences too; nothing if it was never loaded."""
    found = getattr(sys.modules.get("stages.codec.errors"), "CodecError", None)
    return found if isinstance(found, type) and issubclass(found, Exception) else ()


if __name__ == "__main__":
    entry()
