"""`sidecast train`: train a codec, resumably; `--finish` decays a copy and writes weights, or refits a part."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_arguments", "main"]

DEFAULT_WEIGHTS = Path(__file__).resolve().parent.parent / "stages" / "codec" / "weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "config", type=Path, help="a training configuration, for example configs/train-disparity-mse-fast.yaml"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of stereo drives, left/right folders, pictures"
    )
    parser.add_argument("--state", type=Path, default=Path(".train"), help="where state.pt is kept (default .train)")
    parser.add_argument("--log", type=Path, default=Path("training"), help="where log.csv and the trunk go")
    parser.add_argument("--minutes", type=float, default=7 * 24 * 60, help="stop after this long (default a week)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--threads", type=int, default=1, help="cores to use on a CPU (default 1)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--finish", action="store_true", help="decay a copy for --minutes and write weights to --weights")
    what.add_argument(
        "--context", action="store_true", help="only fit the context model of --weights anew; takes some five minutes"
    )
    what.add_argument(
        "--unaided",
        action="store_true",
        help="only fit the network of --weights for pictures without a side view, for --minutes more",
    )
    parser.add_argument("--weights", type=Path, help="the file that those three write (default: beside the codec)")


def main(args: argparse.Namespace) -> int:
    """Train until the time is over or Ctrl-C; the state is saved on the way out."""
    import numpy as np
    import torch

    from tools.training import session

    torch.set_num_threads(args.threads)
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # looked up once now, because numpy warns when denormals are off already
    torch.set_flush_denormal(True)
    places = session.Places(args.config, args.data, args.state, args.log, args.device)
    weights = args.weights or DEFAULT_WEIGHTS / f"{places.name}.safetensors"
    if args.finish:
        session.finish(places, args.minutes, weights)
    elif args.context:
        session.fit_context(places, weights)
    elif args.unaided:
        session.fit_unaided(places, weights, args.minutes)
    else:
        session.train(places, args.minutes)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
