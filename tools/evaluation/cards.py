"""Model cards: what shipped weights do on scenes that they were not trained on, as one Markdown document."""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.errors import ConfigError
from tools.evaluation.bd_rate import Delta, delta_of
from tools.evaluation.samples import Side
from tools.evaluation.side import worth_of
from tools.evaluation.table import MEAN, Curve, Row, curves_of

__all__ = ["Card", "Held", "document", "held_out", "read_card", "read_rows"]

ANCHOR = "hevc444"
BRIEF_HOURS = 3.0
"""Less training than this is called brief."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a weights file says of itself."""

    name: str
    path: Path
    model_id: str
    model: str
    works_on: str
    needs_side: bool
    description: Mapping[str, Any]

    @property
    def training(self) -> Mapping[str, Any]:
        """How it was trained; empty where that isn't known."""
        found = self.description.get("training")
        return found if isinstance(found, Mapping) else {}

    @property
    def label(self) -> str:
        """How long it was trained, in words."""
        hours = self.training.get("hours")
        if hours is None:
            return "unknown"
        text = f"{60 * hours:.0f} minutes" if hours < 1 else f"{hours:.1f} hours"
        return f"{text}, {self.training.get('steps', '?')} steps" + (", briefly" if hours < BRIEF_HOURS else "")


@dataclass(frozen=True, slots=True)
class Held:
    """What no weights were trained on: drives, and pairs of stills relative to the data folder."""

    drives: list[Path]
    stills: list[tuple[str, str]]


def read_card(path: Path) -> Card:
    """Of a weights file; the codec library's WeightsError where it can't be used."""
    from stages.codec import load_codec, weights_file

    codec = load_codec(path)
    model = weights_file.load(path).model
    settings = ", ".join(f"{key} {value}" for key, value in model.config.items())
    works_on = str(codec.description.get("works_on", "pictures of any size"))
    return Card(
        codec.name,
        path,
        codec.model_id.hex(),
        f"{model.name} ({settings})",
        works_on,
        codec.needs_side,
        codec.description,
    )


def held_out(cards: Sequence[Card], data: Path) -> Held:
    """The drives and stills below `data` that every card names as held out. ConfigError where one names none."""
    patterns: dict[str, int] = {}
    for card in cards:
        named = card.training.get("held_out")
        if not named:
            raise ConfigError(f"{card.path} doesn't say which scenes it was not trained on, expected training.held_out")
        for pattern in named:
            patterns[str(pattern)] = patterns.get(str(pattern), 0) + 1
    places = [place for pattern, n in patterns.items() if n == len(cards) for place in sorted(data.glob(pattern))]
    drives = [place for place in places if (place / "image_02").is_dir()]
    stills = [place for place in places if place.is_file() and place.parent.name == "left"]
    pairs = [(left, left.parent.parent / "right" / left.name) for left in stills]
    return Held(drives, [(_below(data, a), _below(data, b)) for a, b in pairs if b.is_file()])


def read_rows(path: Path) -> list[Row]:
    """The rows of rd.csv, means included."""
    with path.open(newline="") as file:
        return [
            Row(
                line["codec"],
                line["quality"],
                line["data"],
                line["image"],
                float(line["bpp"]),
                float(line["psnr_db"]),
                float(line["ms_ssim"]) if line["ms_ssim"] else None,
                float(line["encode_ms"]),
                float(line["decode_ms"]),
            )
            for line in csv.DictReader(file)
        ]


def document(cards: Sequence[Card], found: Mapping[str, Sequence[Row]], minutes: float) -> str:
    """README.md, from the rows of the evaluations `crop`, `native` and, where there are any, `stills`."""
    crop = [row for row in found["crop"] if row.image != MEAN]
    pictures = list(dict.fromkeys(row.image for row in crop))
    scenes = list(dict.fromkeys(image.rsplit("/", 1)[0] for image in pictures))
    parts = [
        "# The weights that come with sidecast",
        f"Written by `sidecast cards --data DATA` on {datetime.date.today().isoformat()}, in {minutes:.0f} minutes; "
        "don't edit it, run the command again. Rates are real bytes, all overhead included, on pictures that none of "
        f"these weights was trained on: {len(pictures)} of the drives {', '.join(scenes)}. They are few, all of KITTI, "
        "in daylight: compare codecs by them, don't expect the same figures elsewhere.",
        "\n".join(_files(cards)),
        "## At the papers' size",
        "The middle 370 x 740 pixels, shrunk to 128 x 256. BD-rate: bits at equal quality; less is better.",
        "![rate and quality at the papers' size](crop.png)",
        "\n".join(_changes(cards, found["crop"])),
        "## At native size",
        f"The middle 352 x 1216 pixels, {len({r.image for r in found['native']} - {MEAN})} of the same pictures.",
        "![rate and quality at native size](native.png)",
        "\n".join(_changes(cards, found["native"])),
        "## What the side view is worth",
        "The same payloads, decoded with the side view, without, and with one of another scene (papers' size).",
        "\n".join(_worth(cards, found["crop"])),
        "## Where it fails",
        "\n".join(_failures(cards, [*crop, *found.get("stills", ())])),
        "## Cards",
        *(_card(card, found["crop"]) for card in cards),
        *_closing(),
    ]
    return "\n\n".join(parts) + "\n"


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _means(rows: Iterable[Row]) -> list[Curve]:
    return curves_of(row for row in rows if row.image == MEAN)


def _files(cards: Sequence[Card]) -> Iterator[str]:
    yield "| weights | model | file | trained | model id |"
    yield "|---|---|---|---|---|"
    for card in cards:
        size = card.path.stat().st_size / 1e6
        yield f"| `{card.name}` | {card.model} | {size:.1f} MB | {card.label} | `{card.model_id}` |"


def _changes(cards: Sequence[Card], rows: Sequence[Row]) -> Iterator[str]:
    """Everything against HEVC and against the first card."""
    curves = {curve.codec: curve for curve in _means(rows) if " (side" not in curve.codec}
    anchor, own = curves[ANCHOR], curves[cards[0].name]
    yield f"| codec | PSNR, to HEVC 4:4:4 | MS-SSIM | PSNR, to `{own.codec}` | MS-SSIM | bpp | PSNR, dB |"
    yield "|---|---:|---:|---:|---:|---|---|"
    for curve in curves.values():
        cells = [f"{cell}" for against in (anchor, own) for cell in _cells(delta_of(curve, against))]
        ranges = (f"{curve.bpp[0]:.3f} - {curve.bpp[-1]:.3f}", f"{curve.psnr_db[0]:.2f} - {curve.psnr_db[-1]:.2f}")
        yield f"| {curve.codec} | {' | '.join([*cells, *ranges])} |"


def _cells(delta: Delta) -> tuple[str, str]:
    if delta.codec == delta.anchor:
        return "", ""
    return _percent(delta.psnr_percent), _percent(delta.ms_ssim_percent)


def _percent(value: float | None) -> str:
    return "no common quality" if value is None else f"{value:+.1f} %"


def _worth(cards: Sequence[Card], rows: Sequence[Row]) -> Iterator[str]:
    yield "| weights | side view | PSNR at equal bytes | bytes at equal PSNR |"
    yield "|---|---|---:|---:|"
    for worth in worth_of(_means(rows), [card.name for card in cards], (Side("none"), Side("wrong"))):
        if not worth.psnr_change_db:  # a model that doesn't look at the side view
            continue
        yield f"| {worth.codec} | {worth.side} | {worth.psnr_change_db:+.2f} dB | {_percent(worth.psnr_percent)} |"


def _failures(cards: Sequence[Card], rows: Sequence[Row]) -> Iterator[str]:
    """Picture by picture, the worst first: bits at equal PSNR against HEVC."""
    names = [card.name for card in cards]
    by_picture: dict[str, dict[str, float | None]] = {}
    for image in dict.fromkeys(row.image for row in rows if row.image != MEAN):
        curves = {c.codec: c for c in curves_of(row for row in rows if row.image == image)}
        by_picture[image] = {name: delta_of(curves[name], curves[ANCHOR]).psnr_percent for name in names}
    own = names[0]
    order = sorted(by_picture, key=lambda image: _change(by_picture[image][own]), reverse=True)
    yield (
        f"Bits at equal PSNR against HEVC 4:4:4, picture by picture: the ten worst of {len(by_picture)} for `{own}`, "
        "stills of other places and cameras among them, and the median of all. (The first picture of a set carries "
        "HEVC's parameter sets.)\n"
    )
    yield f"| picture | {' | '.join(names)} |"
    yield f"|---|{'---:|' * len(names)}"
    for image in order[:10]:
        yield f"| {image} | {' | '.join(_percent(by_picture[image][name]) for name in names)} |"
    medians = [[c for changes in by_picture.values() if (c := changes[name]) is not None] for name in names]
    yield f"| median | {' | '.join(_percent(median(values) if values else None) for values in medians)} |"


def _change(percent: float | None) -> float:
    """For sorting; pictures without a quality that both reach come first."""
    return math.inf if percent is None else percent


def _card(card: Card, rows: Sequence[Row]) -> str:
    training = card.training
    low, high = (f"{value:g}" for value in training.get("rd_lambda", (0, 0)))
    lines = [f"### {card.name}"]
    if about := card.description.get("about"):
        lines.append(f"- {about}")
    lines += [
        f"- Trained for {card.label}; loss: {'1 - MS-SSIM' if training.get('distortion') == 'ms_ssim' else 'MSE'}, "
        f"lambda {low if low == high else f'{low} to {high}'}. {_drawn_from(training)}",
        f"- `sidecast train configs/train-{card.name}.yaml --data DATA`, then again with `--finish`; log and details "
        f"are in `training/{card.name}/`.",
        f"- Works on {card.works_on}; "
        + ("it can't decode without a side view." if card.needs_side else "decodes without a side view too."),
    ]
    curve = next(c for c in _means(rows) if c.codec == card.name)
    falls = [a for a, b in zip(curve.points, curve.points[1:], strict=False) if b.psnr_db <= a.psnr_db]
    if len(curve.points) == 1:
        lines.append("- It has one rate point; BD-rates are of that point alone.")
    if falls:
        lines.append(f"- Above quality {falls[0].quality} more bits bring no more PSNR.")
    return "\n".join(lines)


def _drawn_from(training: Mapping[str, Any]) -> str:
    counts = training.get("pictures")
    if not isinstance(counts, Mapping):
        return "Data as below."
    return f"Drawn from {', '.join(f'{number} {name}' for name, number in counts.items())}."


def _closing() -> list[str]:
    return [
        "## Data and licence",
        "Trained on stereo drives of KITTI (odometry and raw; Geiger et al., CC BY-NC-SA 3.0: non-commercial, share "
        "alike), on synthetic stereo made of road photographs, and on a few stereo pictures of other cameras, some of "
        "which state no licence. So these weights are for research and trial, not for commercial use; for that, train "
        "on pictures of your own (`sidecast train`). No picture is part of this package.",
        "## What to expect elsewhere",
        "- Views must be rectified, the side view to the right of the primary one (`view: right` mirrors both).\n"
        "- Night, rain, fisheye lenses, very close objects and cameras far apart were never seen in training; a side "
        "view that shows nothing of the scene costs what the table above says.\n"
        "- Weights called brief stand for what their design reaches in that time, with the same data and the same "
        "gains as the default codec; the papers' own are wider and were trained far longer.",
    ]
