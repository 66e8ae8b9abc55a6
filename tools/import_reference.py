"""`sidecast import-reference`: weights published with NDIC and NDIC-CAM, as a weights file of ours.

sidecast import-reference ref.pt --model ndic_bls17 --out ref.safetensors
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import SidecastError

__all__ = ["add_arguments", "entry", "main"]

SUMMARY = "import a checkpoint of the NDIC or NDIC-CAM reference code"
MODELS = ("bls17", "bmshj18", "ndic_bls17", "ndic_bmshj18", "cross_attention")
DECODERS = ("auto", "fixed", "published")
FITS = ("tiles", "resize")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("checkpoint", type=Path, help="the .pt file, as the reference's training loop saves it")
    parser.add_argument("--model", required=True, choices=MODELS, help="the model that the checkpoint is of")
    parser.add_argument("--out", required=True, type=Path, help="where to write the weights, NAME.safetensors")
    parser.add_argument(
        "--decoder",
        choices=DECODERS,
        default="auto",
        help="published: the second deconvolution stands in the third's place, as in the weights that NDIC's authors "
        "publish; fixed: it doesn't; auto (default): told by whether training ever touched the third",
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="cross_attention: the size of the pictures that it was made for (default: told by the checkpoint, if they "
        "are twice as wide as high)",
    )
    parser.add_argument(
        "--fit",
        choices=FITS,
        help="cross_attention, which has one size: cut other pictures into tiles of it (default), or resize them to it",
    )


def main(args: argparse.Namespace) -> int:
    """Import the checkpoint; 0, or a SidecastError of one sentence."""
    from tools.reference_checkpoint import Wanted, convert  # imports torch, after the command line has been parsed

    print(convert(args.checkpoint, args.model, args.out, Wanted(args.decoder, args.size, args.fit)))
    return 0


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size, expected WIDTHxHEIGHT such as 256x128")
    return int(width), int(height)


def entry(argv: Sequence[str] | None = None) -> int:
    """The command on its own; the exit code."""
    parser = argparse.ArgumentParser(prog="import_reference", description=SUMMARY)
    add_arguments(parser)
    try:
        return main(parser.parse_args(argv))
    except SidecastError as error:
        print(f"import_reference: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(entry())
