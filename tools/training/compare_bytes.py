"""Real bytes of two weights files on the drives held out, quality by quality, at the papers' crop and at native size.

python -m tools.training.compare_bytes OLD NEW --data DATA
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.types import Pixels
from stages.codec import Codec, load_codec
from tools.training.config import load_training_config
from tools.training.pictures import Library, read_library
from tools.training.samples import paper_crop, tensor

__all__ = ["compare", "held_out_pictures"]

QUALITIES = (0.0, 12.0, 24.0, 36.0, 48.0, 63.0)
CONFIG = Path("configs/train-disparity-mse-fast.yaml")


def held_out_pictures(library: Library) -> dict[str, list[Tensor]]:
    """(1, 3, H, W) left views of the drives held out; every second one at native size."""
    views = [pair.left for name, pairs in library.validation.items() if "odom" in name for pair in pairs]
    return {
        "papers' crop": [_picture(paper_crop(view)) for view in views],
        "native size": [_picture(view) for view in views[::2]],
    }


def compare(old: Codec, new: Codec, pictures: dict[str, list[Tensor]]) -> list[str]:
    """A line for each size and quality."""
    lines = []
    for name, views in pictures.items():
        pixels = sum(x.shape[2] * x.shape[3] for x in views)
        for quality in QUALITIES:
            before = sum(len(old.encode(x, quality)) for x in views)
            began = time.process_time()
            payloads = [new.encode(x, quality) for x in views]
            spent = (time.process_time() - began) / len(views)
            after = sum(len(p) for p in payloads)
            lines.append(
                f"{name:13} q {quality:2g}  {before * 8 / pixels:.4f} -> {after * 8 / pixels:.4f} bpp "
                f"({100 * (after / before - 1):+.1f} %), {after / len(views):.0f} bytes, {spent * 1e3:.0f} ms to encode"
            )
            if any(
                not torch.equal(old.symbols(old.encode(x, quality)), new.symbols(p))
                for x, p in zip(views, payloads, strict=True)
            ):
                lines.append("    the symbols differ: the transforms aren't the same")
    return lines


def _picture(view: Pixels) -> Tensor:
    return tensor(view.astype(np.float32) / 255)[None]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=CONFIG, help="says which scenes are held out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    library = read_library(args.data, load_training_config(args.config).held_out)
    print("\n".join(compare(load_codec(args.old), load_codec(args.new), held_out_pictures(library))))


if __name__ == "__main__":
    main()
