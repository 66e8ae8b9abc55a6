"""`sidecast encode PICTURE -o FILE.sdc`: one picture as one packet of the wire format."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipeline.launcher import thread_environment, usable_cores
from pipeline.types import Packet
from pipeline.wire import serialize
from tools.arguments import positive, spare

__all__ = ["add_arguments", "add_codec_arguments", "main", "use_threads"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="a PNG or JPEG file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.sdc")
    parser.add_argument("--quality", type=float, help="rate point, 0 = fewest bits (default: that of the weights)")
    parser.add_argument("--view", choices=("left", "right"), default="left", help="which camera took it")
    add_codec_arguments(parser)


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    """Which codec, and where it runs."""
    parser.add_argument("--weights", default="default", help="name of shipped weights, or path of a .safetensors file")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=positive, metavar="N", help="cores to use (default: all that there are)")


def use_threads(count: int | None) -> None:
    """Before anything numerical is loaded: the libraries read it once."""
    for name, value in thread_environment(count or usable_cores()).items():
        os.environ[name] = value


def main(args: argparse.Namespace) -> int:
    """Write the packet. Raises UnreadablePictureError, CodecError, SidecastError, each with one sentence."""
    spare(args.output, [args.picture])
    use_threads(args.threads)
    from stages.codec import load_codec
    from stages.picture import read_picture
    from stages.sinks.atomic import write_atomically
    from stages.tensors import to_tensor

    pixels = read_picture(args.picture)
    codec = load_codec(args.weights, device=args.device)
    quality = codec.default_quality if args.quality is None else args.quality
    payload = codec.encode(to_tensor(pixels, codec.device, primary=args.view), quality=quality)
    height, width = pixels.shape[:2]
    packet = Packet(0, args.view, "primary", 0, 0, codec.model_id, width, height, quality, payload)
    write_atomically(args.output, serialize(packet), "encode")
    bpp = 8 * len(payload) / (width * height)
    print(f"{args.output}: {width}x{height}, {len(payload)} bytes of payload, {bpp:.4f} bpp, model {codec.name}")
    return 0
