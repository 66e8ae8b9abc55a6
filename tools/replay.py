"""`sidecast replay FILE`: a recording through a decoder into sinks, or onto a link."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError, SidecastError
from pipeline.launcher import usable_cores
from pipeline.recording.index import Index, open_index
from pipeline.types import other_view
from stages.decode_image import PICTURES
from tools import run
from tools.arguments import positive

__all__ = ["add_arguments", "add_decoding_arguments", "chain", "main", "play"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a recording; all of its files, in order")
    parser.add_argument("--rate", type=float, default=1.0, help="1: the pace of capture, 0: as fast as possible")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds of capture time to leave out")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds of capture time to play")
    parser.add_argument("--loop", action="store_true", help="begin anew at the end, until Ctrl-C")
    parser.add_argument("--step", action="store_true", help="wait for Enter before each frame; q and Enter ends")
    add_decoding_arguments(parser)
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--sink",
        action="append",
        metavar="STAGE",
        help="what follows the decoder: a name or '{use: NAME, ...}'; may be repeated (default: write_video)",
    )
    end.add_argument(
        "--to",
        metavar="ADDRESS",
        help="send the packets to the decoder that listens there instead; "
        "side views that are stored in the recording are not sent: that decoder has its own",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="allow an ADDRESS on another machine; nothing is encrypted"
    )
    parser.add_argument("--out", type=Path, default=Path("out/replay"), metavar="DIR", help="where outputs go")


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """How a recording is decoded."""
    parser.add_argument(
        "--side",
        default="recorded",
        metavar="SOURCE",
        help="the side view: recorded, none, a KITTI drive, or any source as '{use: NAME, ...}'",
    )
    parser.add_argument(
        "--policy",
        choices=("exact", "nearest", "latest"),
        help="pair with SOURCE anew (default: the decision that was recorded, else the same frame numbers)",
    )
    parser.add_argument("--weights", default="default", help="name of shipped weights, or path of a .safetensors file")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="cores to use (default: as many as the recorded run, for equal frames)",
    )


def main(args: argparse.Namespace) -> int:
    """Write OUT/replay.yaml and run it. Raises SourceError for a file that cannot be played, ConfigError else."""
    index = open_index(args.files)
    head = {
        "use": "replay",
        "file": [str(path) for path in args.files],
        "rate": args.rate,
        "start_s": args.start,
        "duration_s": args.duration,
        "loop": args.loop,
        "step": args.step,
    }
    if args.to:
        send = {"use": "send", "connect": args.to, **({"insecure": True} if args.insecure else {})}
        stages = [{**head, "packets_only": True}, send]
    else:
        stages = chain(head, index, args) + [_mapping(text) for text in args.sink or ["write_video"]]
    return play(stages, args.out, index, args)


def chain(head: dict[str, Any], index: Index, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The stages from `replay` to the decoder."""
    stages = _with_side(head, index, args.side, args.policy)
    if any(model_id in PICTURES for model_id in index.model_ids):
        return [*stages, {"use": "decode_image"}]
    if args.side == "recorded" and not index.paired and not index.roles["side"]:
        print(f"{index.paths[0]} has no side views: it is decoded without, --side names a source", file=sys.stderr)
    return [*stages, {"use": "decode", "weights": args.weights, "device": args.device}]


def play(stages: list[dict[str, Any]], out: Path, index: Index, args: argparse.Namespace) -> int:
    """Run the chain as a node, the configuration of which is left in `out`. Raises SidecastError."""
    path = out / "replay.yaml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"nodes": {"player": {"stages": stages}}}, sort_keys=False))
    except OSError as error:
        raise SidecastError(f"{path} cannot be written: {error.strerror or error}") from error
    given = argparse.Namespace(
        config=str(path), set=[], node=None, out=out, part=None, threads=_threads(index, args), verbose=args.verbose
    )
    return run.main(given)


def _threads(index: Index, args: argparse.Namespace) -> int:
    recorded = index.stream.get("threads")
    if args.threads is not None or not isinstance(recorded, int):
        return int(args.threads or usable_cores())
    return max(1, min(recorded, usable_cores()))


def _with_side(head: dict[str, Any], index: Index, side: str, policy: str | None) -> list[dict[str, Any]]:
    if policy is not None and side in ("none", "recorded"):
        raise ConfigError(f"--policy {policy} pairs anew with the frames of a source, name it with --side")
    if side == "none":
        return [{**head, "packets_only": True}]
    if side == "recorded":
        return _with_recorded_side(head, index)
    source = _source(side, index)
    if policy is None:
        return [{**head, "side": source}]
    return [{**head, "packets_only": True}, {"use": "pair", "policy": policy, "side": source}]


def _with_recorded_side(head: dict[str, Any], index: Index) -> list[dict[str, Any]]:
    if index.sides_named and not index.sides_stored:
        raise ConfigError(
            f"{index.paths[0]} names the side frames and does not have them: give their drive or source with --side, "
            "or decode without them with --side none"
        )
    if index.paired or not index.roles["side"]:
        return [head]
    return [head, {"use": "decode_image"}, {"use": "pair", "policy": "exact"}]


def _source(text: str, index: Index) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        return _mapping(text)
    return {"use": "kitti", "drive": text, "view": other_view(min(index.views, default="left"))}


def _mapping(text: str) -> dict[str, Any]:
    """A stage as the user wrote it."""
    if not text.lstrip().startswith("{"):
        return {"use": text}
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(_no_stage(text)) from error
    if not isinstance(found, dict) or "use" not in found:
        raise ConfigError(_no_stage(text))
    return found


def _no_stage(text: str) -> str:
    return f"{text!r} is no stage, expected one such as '{{use: write_images}}'"
