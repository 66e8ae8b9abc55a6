"""`sidecast bench`: what a codec takes on this machine, at several sizes.

Milliseconds are those of one picture alone with all cores; frames a second those of a stage, which works on several
pictures at the same time (`stages.cores`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.stage import Context
from pipeline.types import Frame
from stages.sources.synthetic import Synthetic
from stages.tensors import to_tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.codec import Codec
    from stages.cores import Cores

__all__ = ["add_arguments", "main"]

LEAST_SIZE = 16
"""Of a picture that the synthetic drive renders."""
SIZES = ("256x128", "640x368", "1242x375")
PAPER_SIZE = (256, 128)
"""The one size of cross_attention."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--weights", nargs="+", default=["default"], help="names or files of weights (default: default)"
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WxH", type=_size, help="picture sizes")
    parser.add_argument("--quality", type=float, help="quality (default: the codec's own)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--threads", type=int, help="cores to use (default: torch's choice)")
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each part, of which the median counts")


def main(args: argparse.Namespace) -> int:
    """Print one line per codec and size; pictures are of the synthetic drive."""
    import torch

    from stages.codec import load_codec
    from stages.cores import Cores

    threads = args.threads or torch.get_num_threads()
    cores = Cores(threads)
    print(
        f"{threads} threads, torch {torch.__version__}, medians of {args.runs} runs; fps with {cores.at_once} at once"
    )
    columns = ("size", "device", "bpp", "encode", "prepare", "decode", "encode fps", "decode fps")
    print("codec".ljust(16), *(f"{c:>{w}}" for c, w in zip(columns, (9, 6, 7, 9, 9, 9, 11, 11), strict=True)))
    sizes = [_size(size) if isinstance(size, str) else size for size in args.sizes]
    decode_ms = {}
    for name in args.weights:
        codec = load_codec(name, device=args.device)
        for size in sizes:
            decode_ms[name, size] = _bench(codec, size, args.quality, args.runs, threads, cores)
    if PAPER_SIZE in sizes:
        runs = min(args.runs, 3)
        published = _bench(_published_cross_attention(codec.device), PAPER_SIZE, None, runs, threads, cores)
        for name in args.weights:
            ratio = published / decode_ms[name, PAPER_SIZE]
            print(f"{name} decodes {ratio:.0f} times as fast as *cross_attention as published: 192 channels, float32")
    return 0


def _published_cross_attention(device: torch.device) -> Codec:
    """The papers' best model at its published width, with random weights and all symbols 0."""
    import torch

    from stages.codec import Codec
    from stages.codec.cross_attention import CrossAttentionTraining

    torch.manual_seed(0)
    model, tables = CrossAttentionTraining(channels=192).exported()
    for parameter in model.g_a.conv[-1].parameters():
        torch.nn.init.zeros_(parameter)
    model.to(device).eval()
    return Codec(model, tables, model_id=bytes(8), name="cross_attention*", description={}, device=device)


def _bench(codec: Codec, size: tuple[int, int], quality: float | None, runs: int, threads: int, cores: Cores) -> float:
    """One line: encode, prepare(side), decode after the packet's arrival (entropy decoding included); returns that."""
    width, height = size
    x, side = _views(width, height, str(codec.device))
    payload = codec.encode(x, quality)
    prepared = codec.prepare(side)
    parts = (
        lambda: codec.encode(x, quality),
        lambda: codec.prepare(side),
        lambda: codec.decode(payload, prepared=prepared),
    )
    encode, prepare, decode = (_median_ms(part, codec, runs, threads) for part in parts)
    encode_fps = _fps(parts[0], codec, runs, cores)
    decode_fps = _fps(lambda: codec.decode(payload, side), codec, runs, cores)
    bpp = len(payload) * 8 / (width * height)
    print(
        f"{codec.name:<16} {f'{width}x{height}':>9} {codec.device.type:>6} {bpp:7.4f} "
        f"{encode:6.1f} ms {prepare:6.1f} ms {decode:6.1f} ms {encode_fps:11.1f} {decode_fps:11.1f}",
        flush=True,
    )
    return decode


def _views(width: int, height: int, device: str) -> list[Tensor]:
    """Primary and side view of the synthetic drive, (1, 3, H, W) each."""
    drive = Synthetic(size=(width, height), length=1, with_side=True)
    drive.open(Context(node="bench", out=Path()))
    frames = [item for item in drive.read() if isinstance(item, Frame)]
    drive.close()
    return [to_tensor(frame.pixels, device) for frame in frames]


def _median_ms(part: Callable[[], object], codec: Codec, runs: int, threads: int) -> float:
    """Of one picture alone. In a thread of its own, whose team of threads ends with it and slows nobody down later."""
    import torch

    def timed() -> float:
        began = time.perf_counter()
        part()
        _finish(codec)
        return time.perf_counter() - began

    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as alone:
        times = [alone.submit(timed).result() for _ in range(runs + 1)]
    return statistics.median(times[1:]) * 1e3


def _fps(part: Callable[[], object], codec: Codec, runs: int, cores: Cores) -> float:
    """Pictures a second, side by side."""
    with ThreadPoolExecutor(cores.at_once, initializer=cores.claim) as together:
        list(together.map(lambda _: part(), range(cores.at_once)))
        began, count = time.perf_counter(), runs * cores.at_once
        list(together.map(lambda _: part(), range(count)))
        _finish(codec)
        return count / (time.perf_counter() - began)


def _finish(codec: Codec) -> None:
    import torch

    if codec.device.type == "cuda":
        torch.cuda.synchronize()


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(n) for n in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, for example 1242x375, found {text!r}") from error
    if min(width, height) < LEAST_SIZE:
        raise argparse.ArgumentTypeError(f"expected at least {LEAST_SIZE}x{LEAST_SIZE}, found {text!r}")
    return width, height


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
