"""`sidecast cards`: measure the weights that are shipped, and write README.md and plots beside them."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.log import Terminal
    from tools.evaluation.cards import Card
    from tools.evaluation.samples import Selection

__all__ = ["add_arguments", "main"]

RIVALS = ["hevc444", "av1", "jpeg"]
NATIVE_PICTURES = 4
"""At native size: there they take ten times as long."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="the folder that training has read")
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="NAME",
        help="names or files, the first is what the others are compared with (default: all shipped)",
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where README.md goes (default: beside the weights)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/cards"), help="folder of the evaluations (default out/cards)"
    )
    parser.add_argument("--threads", type=int, help="cores to use (default: all that there are)")


def main(args: argparse.Namespace) -> int:
    """Evaluate on the scenes that no weights were trained on, and write the document."""
    import cv2
    import torch

    from pipeline.launcher import usable_cores
    from pipeline.log import set_up
    from stages.codec import weights_file
    from tools.evaluation import cards
    from tools.evaluation.samples import Selection, Side

    cores = args.threads or usable_cores()
    torch.set_num_threads(cores)
    cv2.setNumThreads(cores)
    terminal = set_up(verbose=args.verbose)
    first = weights_file.ALIASES["default"]
    names = args.weights or sorted(weights_file.shipped(), key=lambda name: (name != first, name))
    files = [weights_file.find(name) for name in names]
    described = [cards.read_card(path) for path in files]
    held = cards.held_out(described, args.data)
    if not held.drives:
        raise ConfigError(f"--data {args.data}: expected the drives that the weights were not trained on, found none")
    began = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    drives = sorted({drive.parent for drive in held.drives})
    scenes = tuple(drive.name for drive in held.drives)
    plans = [
        ("crop", drives, Selection("paper", (Side(), Side("none"), Side("wrong")), scenes=scenes)),
        ("native", drives, Selection("native", scenes=scenes, limit=NATIVE_PICTURES)),
    ]
    if held.stills:
        listed = args.out / "stills.txt"
        listed.write_text("".join(f"{first}\n{second}\n" for first, second in held.stills))
        plans.append(("stills", [args.data], Selection("paper", pairs=listed)))
    for name, folders, selection in plans:
        _evaluate(name, folders, selection, described, args.out / name, terminal)
    target = args.to or Path(str(weights_file.find("default"))).parent
    target.mkdir(parents=True, exist_ok=True)
    found = {name: cards.read_rows(args.out / name / "rd.csv") for name, _, _ in plans}
    for name in ("crop", "native"):
        shutil.copyfile(args.out / name / "rd.png", target / f"{name}.png")
    (target / "README.md").write_text(cards.document(described, found, (time.monotonic() - began) / 60))
    print(f"written to {target}: README.md, crop.png, native.png")
    return 0


def _evaluate(
    name: str, folders: Sequence[Path], selection: Selection, described: Sequence[Card], out: Path, terminal: Terminal
) -> None:
    from tools.evaluation.measure import Bench
    from tools.evaluation.models import load_models
    from tools.evaluation.rivals import rivals_of
    from tools.evaluation.samples import read_data_sets
    from tools.evaluation.session import Session

    data = read_data_sets(folders, selection)
    models = load_models([f"{card.name}={card.path}" for card in described], (), "cpu")
    bench = Bench(models, rivals_of(RIVALS))
    terminal.line(f"{name}:")
    Session(data, selection, bench, out, terminal, panels=2).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true")
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
