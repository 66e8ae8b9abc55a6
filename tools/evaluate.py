"""`sidecast evaluate`: rate-distortion of our codecs and classical rivals on stereo pictures, by real bytes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.evaluation.preprocess import PREPROCESSES
from tools.evaluation.samples import SIDE_KINDS, Selection, Side, read_data_sets

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _add_data(parser.add_argument_group("pictures"))
    _add_codecs(parser.add_argument_group("codecs"))
    parser.add_argument("--out", type=Path, default=Path("out/rd"), help="folder of the results (default out/rd)")
    parser.add_argument("--panels", type=_count, default=2, help="sample panels of each data set (default 2)")
    parser.add_argument("--linear-rate", action="store_true", help="plot over a linear axis of bits per pixel")
    parser.add_argument("--threads", type=_positive, help="cores to use (default: all that there are)")


def main(args: argparse.Namespace) -> int:
    """Measure, write rd.csv, rd.png, rd.svg, bd_rate.csv, side.csv and panels/, and print the tables."""
    import cv2
    import torch

    from pipeline.launcher import usable_cores
    from pipeline.log import set_up
    from tools.evaluation.measure import Bench
    from tools.evaluation.models import load_models
    from tools.evaluation.rivals import rivals_of
    from tools.evaluation.session import Session

    cores = args.threads or usable_cores()
    torch.set_num_threads(cores)
    cv2.setNumThreads(cores)
    terminal = set_up(verbose=args.verbose)
    rivals = rivals_of(args.rivals)
    selection = _selection(args)
    data = read_data_sets(args.data, selection)
    models = load_models(args.models, args.qualities or (), args.device)
    session = Session(
        data, selection, Bench(models, rivals), args.out, terminal, args.anchor, args.panels, not args.linear_rate
    )
    print("\n".join(session.run()), flush=True)
    return 0


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="drives, folders of drives, left/ and right/, or Cityscapes; each is averaged over on its own",
    )
    group.add_argument("--scenes", nargs="+", default=[], metavar="NAME", help="only these drives or scenes (globs)")
    group.add_argument(
        "--pairs", type=Path, metavar="LIST", help="take these pairs of --data: two lines a pair, primary view first"
    )
    group.add_argument("--view", choices=("left", "right"), default="left", help="the primary view (default left)")
    group.add_argument(
        "--preprocess",
        choices=PREPROCESSES,
        default="paper",
        help="paper: middle 370 x 740 to 128 x 256; native: middle 352 x 1216; full: as it is (default paper)",
    )
    group.add_argument("--limit", type=_positive, metavar="N", help="at most N pictures of each, evenly spread")
    group.add_argument(
        "--side",
        nargs="+",
        choices=SIDE_KINDS,
        default=["paired"],
        help="side views to decode with: the right one, none, or another scene's (default paired)",
    )
    group.add_argument(
        "--side-offset",
        nargs="+",
        type=_count,
        default=[0],
        metavar="N",
        help="side views N frames older than the primary view (drives only; default 0)",
    )


def _add_codecs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--models",
        nargs="*",
        default=["default"],
        metavar="[NAME=]WEIGHTS",
        help="names of shipped weights or files; single-rate weights of one name make up a curve (default: default)",
    )
    group.add_argument("--qualities", nargs="+", type=float, metavar="Q", help="of variable-rate models (default: six)")
    group.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    group.add_argument(
        "--rivals",
        nargs="*",
        default=["hevc444"],
        metavar="NAME",
        help="hevc444, hevc420, av1, h264, jpeg, webp, jpeg2000 (default hevc444)",
    )
    group.add_argument("--anchor", metavar="NAME", help="what BD-rates are against (default hevc444, else the first)")


def _selection(args: argparse.Namespace) -> Selection:
    sides = [Side("paired", older) for older in dict.fromkeys(args.side_offset)] if "paired" in args.side else []
    sides += [Side(kind) for kind in dict.fromkeys(args.side) if kind != "paired"]
    return Selection(args.preprocess, tuple(sides), args.view, tuple(args.scenes), args.pairs, args.limit)


def _positive(text: str) -> int:
    if (number := _count(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed, expected at least 1")
    return number


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not allowed, expected a whole number from 0")
    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true")
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
