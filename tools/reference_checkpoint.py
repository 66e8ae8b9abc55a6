"""Read checkpoints of the public NDIC and NDIC-CAM code (arXiv:2106.11723, 2207.08489), write them as weights of ours.

The published names of tensors appear here and nowhere else. What such a checkpoint must hold follows from the model's
layout: one `Part` for each transform or density.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import SidecastError
from stages.codec import weights_file
from stages.codec.bls17 import Bls17Training
from stages.codec.ndic_bls17 import NdicBls17Training

__all__ = ["LAYOUTS", "convert", "read_training_model"]

State = dict[str, Tensor]
STACKED = 3
"""The density's factors are one published tensor."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of ours and where it comes from."""

    ours: str
    published: str
    transposed: bool = False
    layer: int | None = None
    """Which of the three layers' tensors it is that the published one stacks."""

    def published_shape(self, shape: torch.Size) -> tuple[int, ...]:
        """The shape of the published tensor, where ours has `shape`."""
        return (STACKED, *shape) if self.layer is not None else tuple(shape)

    def take(self, published: Tensor) -> Tensor:
        """Our tensor."""
        tensor = published if self.layer is None else published[self.layer]
        return tensor.t() if self.transposed else tensor


@dataclass(frozen=True, slots=True)
class Part:
    """A transform or density of a model: where it stands in our training model, and in theirs."""

    kind: Callable[[Part], Iterator[Entry]]
    ours: str
    suffix: str = ""
    layers: int = 4
    first_gdn: int = 1
    repeats_second: bool = False

    def entries(self) -> Iterator[Entry]:
        """Every tensor of the part."""
        return self.kind(self)


def _analysis(part: Part) -> Iterator[Entry]:
    for i in range(part.layers):
        yield from _named(f"{part.ours}.conv.{i}", f"conv{i + 1}{part.suffix}", "weight", "bias")
    yield from _gdns(part, "gdn", "gdn")


def _synthesis(part: Part) -> Iterator[Entry]:
    used = [i for i in range(part.layers) if not (part.repeats_second and i == 2)]
    for ours, theirs in enumerate(used):
        yield from _named(f"{part.ours}.deconv.{ours}", f"deconv{theirs + 1}{part.suffix}", "weight", "bias")
    yield from _gdns(part, "igdn", "igdn")


def _gdns(part: Part, ours: str, theirs: str) -> Iterator[Entry]:
    for i in range(part.layers - 1):
        published = f"{theirs}{i + part.first_gdn}{part.suffix}"
        yield from _named(f"{part.ours}.{ours}.{i}", published, "beta")
        # Theirs is indexed [input, output].
        yield Entry(f"{part.ours}.{ours}.{i}.gamma", f"{published}.gamma", transposed=True)


def _density(part: Part) -> Iterator[Entry]:
    published = f"entropy_bottleneck{part.suffix}"
    for i in range(4):
        yield Entry(f"{part.ours}.matrix.{i}", f"{published}.matrix{i}")
        yield Entry(f"{part.ours}.bias.{i}", f"{published}.bias{i}")
    for i in range(STACKED):
        yield Entry(f"{part.ours}.factor.{i}", f"{published}.factors", layer=i)


def _named(ours: str, theirs: str, *leaves: str) -> Iterator[Entry]:
    return (Entry(f"{ours}.{leaf}", f"{theirs}.{leaf}") for leaf in leaves)


def _bls17(repeat_second: bool) -> list[Part]:
    return [
        Part(_analysis, "codec.g_a", layers=3),
        Part(_synthesis, "codec.g_s", layers=3, first_gdn=2),
        Part(_density, "density"),
    ]


def _ndic_bls17(repeat_second: bool) -> list[Part]:
    return [
        Part(_analysis, "codec.g_a"),
        Part(_analysis, "codec.common", "_w"),
        Part(_analysis, "side_g_a", "_cor"),
        Part(_synthesis, "codec.g_s", repeats_second=repeat_second),
        Part(_synthesis, "side_g_s", "_cor", repeats_second=repeat_second),
        Part(_density, "density", "_hx"),
        Part(_density, "side_density", "_hy"),
        Part(_density, "common_density"),
    ]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a published model maps to one of ours."""

    build: Callable[[int, bool], nn.Module]
    parts: Callable[[bool], list[Part]]
    has_quirk: bool
    """Whether files exist that were trained with the second deconvolution in the third's place."""
    paper: str


LAYOUTS = {
    "bls17": Layout(lambda channels, _: Bls17Training(channels), _bls17, False, "arXiv:1611.01704"),
    "ndic_bls17": Layout(NdicBls17Training, _ndic_bls17, True, "arXiv:2106.11723"),
}


def convert(checkpoint: Path, model: str, out: Path, decoder: str = "auto") -> str:
    """Write the checkpoint's weights to `out` and return one line about them; SidecastError if that is impossible."""
    training, repeats_second = read_training_model(checkpoint, model, decoder)
    codec, tables = training.codec, training.tables()
    how = "published" if repeats_second else "fixed"
    description = {
        "origin": f"imported from {checkpoint.name}, a checkpoint of the NDIC-CAM reference code",
        "paper": LAYOUTS[model].paper,
        "decoder": how,
        "rate_point": "as trained by the checkpoint's authors",
    }
    try:
        identity = weights_file.save(out, codec, tables, description)
    except OSError as error:
        raise SidecastError(f"{out} can't be written: {error.strerror}") from error
    about = f"{model}, {codec.latent_channels} channels" + (f", decoder {how}" if LAYOUTS[model].has_quirk else "")
    return f"{out}: {about}, {len(tables.frequencies)} table entries, model id {identity.hex()}"


def read_training_model(checkpoint: Path, model: str, decoder: str = "auto") -> tuple[Any, bool]:
    """The training model of ours with the checkpoint's weights, and whether its decoder repeats the second layer."""
    layout = LAYOUTS[model]
    state, optimizer = _read(checkpoint)
    repeats_second = layout.has_quirk and _repeats_second(checkpoint, state, optimizer, decoder)
    _check_names(checkpoint, model, state)
    channels = int(state["conv1.bias"].shape[0]) if state["conv1.bias"].ndim else 0
    try:
        training = layout.build(channels, repeats_second)
    except ValueError as error:
        raise SidecastError(f"{checkpoint} can't be a {model}: {error}") from error
    expected = training.state_dict()
    ours = {
        e.ours: _taken(checkpoint, state, e, expected[e.ours])
        for p in layout.parts(repeats_second)
        for e in p.entries()
    }
    training.load_state_dict(ours)
    return training.eval(), repeats_second


def _read(checkpoint: Path) -> tuple[State, Mapping[str, Any]]:
    if not checkpoint.is_file():
        raise SidecastError(f"there is no checkpoint {checkpoint}")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SidecastError(f"{checkpoint} can't be read as a checkpoint of plain tensors: {first_line}") from error
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise SidecastError(
            f"{checkpoint} has no 'model_state_dict' of tensors, as the reference's training loop saves it"
        )
    optimizer = content.get("optimizer_state_dict")
    # The files that NDIC's authors publish call w z; no name of the models contains another z.
    return {str(k).replace("z", "w"): v for k, v in state.items()}, optimizer if isinstance(optimizer, dict) else {}


def _repeats_second(checkpoint: Path, state: State, optimizer: Mapping[str, Any], decoder: str) -> bool:
    """Whether the second deconvolution stands in the third's place.

    In files that were trained so, the third one's parameters never got a gradient, so Adam has no entry for them.
    """
    if decoder != "auto":
        return decoder == "published"
    try:
        touched = optimizer.get("state") or {}
        order = [index for group in optimizer.get("param_groups") or [] for index in group["params"]]
        third = [index in touched for index, key in zip(order, state, strict=False) if key.startswith("deconv3.")]
    except (TypeError, KeyError, AttributeError):
        raise SidecastError(
            f"{checkpoint} doesn't tell its decoder, for its optimiser's state is none of Adam's: choose "
            "--decoder fixed or --decoder published"
        ) from None
    if not touched:
        return False  # nothing is known of the training: take it for the fixed one
    if len(order) != len(state):
        raise SidecastError(
            f"{checkpoint} doesn't tell its decoder, for its optimiser has {len(order)} parameters and its model "
            f"{len(state)}: choose --decoder fixed or --decoder published"
        )
    return not any(third)


def _check_names(checkpoint: Path, model: str, state: State) -> None:
    expected = _published_names(model)
    missing, extra = sorted(expected - set(state)), sorted(set(state) - expected)
    if not (missing or extra):
        return
    likely = [name for name in LAYOUTS if _published_names(name) == set(state)]
    if likely:
        raise SidecastError(f"{checkpoint} is a checkpoint of {likely[0]}, not of {model}")
    faults = [f"lacks {len(missing)} tensors (first {missing[0]!r})"] if missing else []
    faults += [f"has {len(extra)} tensors too many (first {extra[0]!r})"] if extra else []
    raise SidecastError(f"{checkpoint} is no checkpoint of {model}: it {' and '.join(faults)}")


def _published_names(model: str) -> set[str]:
    return {entry.published for part in LAYOUTS[model].parts(False) for entry in part.entries()}


def _taken(checkpoint: Path, state: State, entry: Entry, expected: Tensor) -> Tensor:
    published = state[entry.published]
    found, wanted = tuple(published.shape), entry.published_shape(expected.shape)
    if found != wanted:
        raise SidecastError(f"{checkpoint}: tensor {entry.published!r} has shape {found}, expected {wanted}")
    if not torch.isfinite(published).all():
        raise SidecastError(f"{checkpoint}: tensor {entry.published!r} holds values that are not finite")
    return entry.take(published.float())
