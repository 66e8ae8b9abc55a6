"""Read checkpoints of the public NDIC and NDIC-CAM code (arXiv:2106.11723, 2207.08489), write them as weights of ours.

The published names of tensors appear here and nowhere else. What such a checkpoint must hold follows from the model's
layout: one `Part` for each transform or density.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import SidecastError
from stages.codec import weights_file
from stages.codec.attention import GRID, INNER
from stages.codec.bls17 import Bls17Training
from stages.codec.bmshj18 import Bmshj18Training
from stages.codec.cross_attention import CrossAttentionTraining
from stages.codec.ndic_bls17 import NdicBls17Training
from stages.codec.ndic_bmshj18 import NdicBmshj18Training

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
    rows: slice | None = None
    """Which rows of the published tensor it is; of q, k and v there is one for all three."""

    def published_shape(self, shape: torch.Size) -> tuple[int, ...]:
        """The shape of the published tensor, where ours has `shape`."""
        if self.rows is not None:
            return (3 * INNER, *shape[1:])
        return (STACKED, *shape) if self.layer is not None else tuple(shape)

    def take(self, published: Tensor) -> Tensor:
        """Our tensor."""
        tensor = published if self.layer is None else published[self.layer]
        tensor = tensor if self.rows is None else tensor[self.rows]
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


def _hyper_analysis(part: Part) -> Iterator[Entry]:
    for i in range(3):
        yield from _named(
            f"{part.ours}.conv.{i}", f"ha{part.suffix}.conv_h{i + 1}", "weight", *(["bias"] if i < 2 else [])
        )


def _hyper_synthesis(part: Part) -> Iterator[Entry]:
    for i in range(3):
        yield from _named(f"{part.ours}.deconv.{i}", f"hs{part.suffix}.conv_h{i + 4}", "weight", "bias")


def _attention(part: Part) -> Iterator[Entry]:
    theirs = f"ca{part.suffix}"
    for ours, published in (
        ("embed_x", "to_patch_embedding_x.1"),
        ("embed_y", "to_patch_embedding_y.1"),
        ("norm", "norm"),
        ("merge", "attn.to_out.0"),
        ("unembed", "unpack_embedding_y.0"),
    ):
        yield from _named(f"{part.ours}.{ours}", f"{theirs}.{published}", "weight", "bias")
    # One matrix each for q, k and v; x gives the q, y the k and v.
    yield Entry(f"{part.ours}.query.weight", f"{theirs}.attn.to_qkv_x.weight", rows=slice(INNER))
    yield Entry(f"{part.ours}.key_value.weight", f"{theirs}.attn.to_qkv_y.weight", rows=slice(INNER, None))


def _named(ours: str, theirs: str, *leaves: str) -> Iterator[Entry]:
    return (Entry(f"{ours}.{leaf}", f"{theirs}.{leaf}") for leaf in leaves)


def _bls17(repeat_second: bool) -> list[Part]:
    return [
        Part(_analysis, "codec.g_a", layers=3),
        Part(_synthesis, "codec.g_s", layers=3, first_gdn=2),
        Part(_density, "density"),
    ]


def _bmshj18(repeat_second: bool) -> list[Part]:
    return [
        Part(_analysis, "codec.g_a"),
        Part(_hyper_analysis, "codec.h_a"),
        Part(_hyper_synthesis, "prior.h_s"),
        Part(_density, "prior.density"),
        Part(_synthesis, "codec.g_s"),
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


def _ndic_bmshj18(repeat_second: bool) -> list[Part]:
    return [
        Part(_analysis, "codec.g_a"),
        Part(_analysis, "codec.common", "_w"),
        Part(_analysis, "side_g_a", "_cor"),
        Part(_hyper_analysis, "codec.h_a", "_primary_image"),
        Part(_hyper_analysis, "side_h_a", "_cor_image"),
        Part(_hyper_synthesis, "prior.h_s", "_primary_image"),
        Part(_hyper_synthesis, "side_prior.h_s", "_cor_image"),
        Part(_synthesis, "codec.g_s", repeats_second=repeat_second),
        Part(_synthesis, "side_g_s", "_cor", repeats_second=repeat_second),
        Part(_density, "prior.density", "_sigma_x"),
        Part(_density, "side_prior.density", "_sigma_y"),
        Part(_density, "common_density", "_common_info"),
    ]


def _cross_attention(repeat_second: bool) -> list[Part]:
    return [
        Part(_analysis, "codec.g_a"),
        Part(_analysis, "codec.common", "_w"),
        Part(_analysis, "codec.side_g_a", "_cor"),
        Part(_synthesis, "codec.g_s"),
        Part(_synthesis, "codec.side_g_s", "_cor"),
        *(Part(_attention, f"codec.attend.{i}", str(i + 1)) for i in range(3)),
        Part(_density, "density", "_hx"),
        Part(_density, "side_density", "_hy"),
        Part(_density, "common_density"),
    ]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What isn't in a checkpoint and has to be said, or guessed."""

    decoder: str = "auto"
    """auto, fixed or published"""
    size: tuple[int, int] | None = None
    """Width and height of the pictures that the network was made for, where it has one size."""
    fit: str | None = None
    """What such a network does with other pictures: tiles (also if None) or resize."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a published model maps to one of ours."""

    build: Callable[..., nn.Module]
    parts: Callable[[bool], list[Part]]
    paper: str
    has_quirk: bool = False
    """Whether files exist that were trained with the second deconvolution in the third's place."""
    has_size: bool = False


LAYOUTS = {
    "bls17": Layout(Bls17Training, _bls17, "arXiv:1611.01704"),
    "bmshj18": Layout(Bmshj18Training, _bmshj18, "arXiv:1802.01436"),
    "ndic_bls17": Layout(NdicBls17Training, _ndic_bls17, "arXiv:2106.11723", has_quirk=True),
    "ndic_bmshj18": Layout(NdicBmshj18Training, _ndic_bmshj18, "arXiv:2106.11723", has_quirk=True),
    "cross_attention": Layout(CrossAttentionTraining, _cross_attention, "arXiv:2207.08489", has_size=True),
}


def convert(checkpoint: Path, model: str, out: Path, wanted: Wanted = Wanted()) -> str:
    """Write the checkpoint's weights to `out` and return one line about them; SidecastError if that is impossible."""
    training = read_training_model(checkpoint, model, wanted)
    try:
        codec, tables = training.exported()
    except ValueError as error:
        raise SidecastError(f"{checkpoint} can't be coded with integers: {error}") from error
    config = dict(codec.config)
    description = {
        "origin": f"imported from {checkpoint.name}, a checkpoint of the NDIC-CAM reference code",
        "paper": LAYOUTS[model].paper,
        "decoder": "published" if config.get("repeat_second") else "fixed",
        "rate_point": "as trained by the checkpoint's authors",
    }
    try:
        identity = weights_file.save(out, codec, tables, description)
    except OSError as error:
        raise SidecastError(f"{out} can't be written: {error.strerror}") from error
    about = [model, f"{codec.latent_channels} channels"]
    about += [f"decoder {description['decoder']}"] if LAYOUTS[model].has_quirk else []
    about += [f"works on {codec.works_on}"] if LAYOUTS[model].has_size else []
    return f"{out}: {', '.join(about)}, {len(tables.frequencies)} table entries, model id {identity.hex()}"


def read_training_model(checkpoint: Path, model: str, wanted: Wanted = Wanted()) -> Any:
    """The training model of ours with the checkpoint's weights."""
    layout = LAYOUTS[model]
    _check_wanted(model, layout, wanted)
    state, optimizer = _read(checkpoint)
    repeats_second = layout.has_quirk and _repeats_second(checkpoint, state, optimizer, wanted.decoder)
    _check_names(checkpoint, model, state)
    settings: dict[str, Any] = {"channels": int(state["conv1.bias"].shape[0]) if state["conv1.bias"].ndim else 0}
    if layout.has_quirk:
        settings["repeat_second"] = repeats_second
    if layout.has_size:
        width, height = wanted.size or _size(checkpoint, state)
        settings |= {"height": height, "width": width, "fit": wanted.fit or "tiles"}
    try:
        training = layout.build(**settings)
    except ValueError as error:
        raise SidecastError(f"{checkpoint} can't be a {model}: {error}") from error
    expected = training.state_dict()
    ours = {
        e.ours: _taken(checkpoint, state, e, expected[e.ours])
        for p in layout.parts(repeats_second)
        for e in p.entries()
    }
    # What has no published counterpart, such as an integer h_s, is made on export.
    training.load_state_dict({**expected, **ours})
    return training.eval()


def _check_wanted(model: str, layout: Layout, wanted: Wanted) -> None:
    """Nothing may be asked for that makes no difference."""
    if wanted.decoder == "published" and not layout.has_quirk:
        raise SidecastError(f"--decoder published is for {_names('has_quirk')} only: {model} was never trained so")
    if (wanted.size or wanted.fit) and not layout.has_size:
        raise SidecastError(f"--size and --fit are for {_names('has_size')} only: {model} takes pictures of any size")


def _names(trait: str) -> str:
    return " and ".join(name for name, layout in LAYOUTS.items() if getattr(layout, trait))


def _size(checkpoint: Path, state: State) -> tuple[int, int]:
    """Width and height that a network of one size was made for, if they are as 2 to 1, as in the papers.

    The checkpoint tells their product only, in the length of the patches at an eighth.
    """
    embedding = state["ca1.to_patch_embedding_x.1.weight"]
    length = int(embedding.shape[1]) if embedding.ndim == 2 else 0
    rows = math.isqrt(length // 2)
    if 2 * rows * rows != length or not length:
        raise SidecastError(
            f"{checkpoint} was made for pictures of {length * (8 * GRID) ** 2} pixels which aren't twice as wide as "
            "high: give --size WxH"
        )
    return 2 * rows * 8 * GRID, rows * 8 * GRID


def _read(checkpoint: Path) -> tuple[State, Mapping[str, Any]]:
    if not checkpoint.is_file():
        raise SidecastError(f"there is no checkpoint {checkpoint}")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise SidecastError(
            f"{checkpoint}: expected a checkpoint of plain tensors, found {_found(checkpoint)}"
        ) from error
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


def _found(checkpoint: Path) -> str:
    """What a file is that can't be read as a checkpoint."""
    try:
        with checkpoint.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        return f"a file that can't be opened ({error.strerror})"
    size = checkpoint.stat().st_size
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(checkpoint):
            return f"a truncated one ({size} bytes)"
        return "objects of other kinds in it, or a damaged one; such objects could run code and are never loaded"
    if start.startswith(b"\x80"):
        return f"an old or damaged pickle ({size} bytes), which is never loaded where it holds more than tensors"
    return f"a file of another kind ({size} bytes, beginning with {start!r})"
