"""`sidecast decode FILE.sdc --side PICTURE -o PICTURE`: one packet of the wire format back to a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SidecastError, SourceError, WireError
from pipeline.types import Packet, Pixels
from pipeline.wire import MAX_MESSAGE, parse
from stages.decode_image import PICTURES
from tools.arguments import spare
from tools.encode import add_codec_arguments, use_threads

if TYPE_CHECKING:
    from stages.codec import Codec

__all__ = ["add_arguments", "main"]

JPEG = (".jpg", ".jpeg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path, metavar="FILE.sdc")
    parser.add_argument("--side", type=Path, metavar="PICTURE", help="what the other camera saw at that time")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PICTURE", help="a .png or .jpg file")
    add_codec_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Write the picture. Raises SourceError, CodecError, SidecastError, each with one sentence."""
    if args.output.suffix.lower() not in (".png", *JPEG):
        raise SourceError(f"{args.output}: expected a name that ends in .png or .jpg")
    spare(args.output, [args.file, *([args.side] if args.side else [])])
    packet = _read(args.file)
    use_threads(args.threads)
    from stages.picture import encode_jpeg, encode_png
    from stages.sinks.atomic import write_atomically

    pixels = _pixels(packet, args)
    encode = encode_jpeg if args.output.suffix.lower() in JPEG else encode_png
    write_atomically(args.output, encode(pixels), "decode")
    print(f"{args.output}: {packet.width}x{packet.height}, decoded {'with' if args.side else 'without'} a side view")
    return 0


def _read(path: Path) -> Packet:
    try:
        with path.open("rb") as file:
            message = parse(file.read(MAX_MESSAGE + 1))
    except WireError as error:
        raise SourceError(f"{path} is no packet: {error}") from error
    if not isinstance(message, Packet):
        raise SourceError(f"{path} is a {type(message.body).__name__} message, expected a packet with a picture")
    return message


def _pixels(packet: Packet, args: argparse.Namespace) -> Pixels:
    import torch

    from stages.codec import load_codec
    from stages.picture import decode_picture, read_picture
    from stages.tensors import to_pixels, to_tensor

    if packet.model_id in PICTURES:
        if args.side is not None:
            raise SourceError(f"{args.file} holds a picture that is decoded alone: leave out --side {args.side}")
        return decode_picture(packet.payload)
    codec = load_codec(args.weights, device=args.device)
    _check(packet, codec, args)
    side = None if args.side is None else read_picture(args.side)
    if side is not None and side.shape[:2] != (packet.height, packet.width):
        raise SourceError(
            f"{args.side} is {side.shape[1]}x{side.shape[0]}, the packet {packet.width}x{packet.height}: "
            "the views must have one size"
        )
    with torch.inference_mode():
        tensor = None if side is None else to_tensor(side, codec.device, primary=packet.view)
        return to_pixels(codec.decode(packet.payload, tensor), primary=packet.view)


def _check(packet: Packet, codec: Codec, args: argparse.Namespace) -> None:
    if packet.model_id != codec.model_id:
        raise SidecastError(
            f"{args.file} was coded with weights {packet.model_id.hex()}, {args.weights} is {codec.model_id.hex()} "
            f"({codec.name}): name the right ones with --weights"
        )
    header = codec.header(packet.payload)
    if (header.width, header.height) != (packet.width, packet.height):
        raise SourceError(
            f"{args.file} says {packet.width}x{packet.height}, its payload {header.width}x{header.height}"
        )
