"""Weights on disk: a safetensors file that describes itself.

Tensors: `model.NAME` (the network's state, float32, or float16 to halve the file) and `tables.frequencies` (uint16),
`tables.lengths`, `tables.offsets` (int32), see `stages.codec.entropy`.

Metadata: `sidecast` is a JSON object with `format` (1), `model` (its name), `config` (what the model's constructor
takes) and `description` (an object for people: rate points, training data, validation figures, where it came from).

The model id is the start of a SHA-256 over what determines the codec's results: model, config, coding tables, and the
network's state as float32 (integers as int64). It doesn't change with the description, or with the order of tensors in
the file.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import struct
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from stages.codec.coding import highest_index
from stages.codec.entropy import CodingTables
from stages.codec.errors import WeightsError
from stages.codec.model import MODELS, AnyModel, ConfigValue, Network, model_class

__all__ = ["ALIASES", "FORMAT", "Weights", "find", "load", "model_id", "save", "shipped"]

FORMAT = 1
MODEL_ID_BYTES = 8
ALIASES = {"default": "disparity-mse-fast"}
"""Names that stand for a weights file which is shipped."""

_METADATA = "sidecast"
_MODEL, _TABLES = "model.", "tables."
_MAX_HEADER_BYTES = 4 << 20
_MAX_SETTING = 1024
"""Of integers in `config`, so that a file of a few bytes can't ask for a network that fills the memory."""
_TABLE_TENSORS = ("frequencies", "lengths", "offsets")


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file that has been read and fits together."""

    name: str
    """The file's name without suffix."""
    model: AnyModel
    tables: CodingTables
    model_id: bytes
    description: dict[str, Any]


def save(
    path: Path | str, model: Network, tables: CodingTables, description: Mapping[str, Any], *, float16: bool = False
) -> bytes:
    """Write a weights file and return its model id. The file appears whole or not at all.

    With `float16` the matrices of the network are stored in half precision: what is loaded from the file then differs
    from `model`, which stays as it is. OSError where the file can't be written.
    """
    state = {name: _stored(tensor, float16) for name, tensor in _needed(model).items()}
    tensors = {_MODEL + name: tensor for name, tensor in state.items()}
    tensors |= {_TABLES + name: torch.from_numpy(array.copy()) for name, array in tables.tensors().items()}
    about = {"format": FORMAT, "model": model.name, "config": dict(model.config), "description": dict(description)}
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(save_tensors(tensors, {_METADATA: json.dumps(about)}))
    os.replace(partial, target)
    return model_id(model.name, model.config, tables, state)


def load(path: Path, settings: Mapping[str, ConfigValue] | None = None) -> Weights:
    """Read a weights file; WeightsError, in one sentence, for whatever is wrong with it.

    `settings` replace those of the file's config; the model id is then another one.
    """
    about, tensors = _read(path)
    name, config = about.get("model"), about.get("config")
    if name not in MODELS:
        raise WeightsError(f"{path} holds weights of {name!r}, known models are {', '.join(MODELS)}")
    if settings and isinstance(config, dict):
        config = {**config, **settings}
    model = _built(path, str(name), config)
    state = {k.removeprefix(_MODEL): _restored(v) for k, v in tensors.items() if k.startswith(_MODEL)}
    _check_state(path, model, state)
    model.load_state_dict(state, strict=False)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()
    tables = _tables(path, tensors)
    _check_indices(path, model, tables)
    description = about.get("description")
    identity = model_id(model.name, model.config, tables, state)
    return Weights(path.stem, model, tables, identity, description if isinstance(description, dict) else {})


def model_id(name: str, config: Mapping[str, Any], tables: CodingTables, state: Mapping[str, Tensor]) -> bytes:
    """8 bytes that differ between codecs whose results differ."""
    digest = hashlib.sha256(json.dumps([FORMAT, name, dict(config)], sort_keys=True).encode())
    for key, array in sorted(tables.tensors().items()):
        digest.update(f"{_TABLES}{key} {array.shape}".encode())
        digest.update(array.astype("<i4").tobytes())
    for key, tensor in sorted(state.items()):
        digest.update(f"{_MODEL}{key} {tuple(tensor.shape)}".encode())
        floats = tensor.is_floating_point()
        values = tensor.detach().cpu().float() if floats else tensor.detach().cpu()
        digest.update(values.contiguous().numpy().astype("<f4" if floats else "<i8").tobytes())
    return digest.digest()[:MODEL_ID_BYTES]


def find(path_or_name: Path | str) -> Path:
    """The weights file meant: an existing path, or the name of one that is shipped. WeightsError if there is none."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    name = str(path_or_name)
    if path.suffix == ".safetensors" or path.name != name:
        what = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"the weights file {path} {what}")
    names = shipped()
    found = names.get(ALIASES.get(name, name))
    if found is None:
        known = ", ".join([*(a for a, n in ALIASES.items() if n in names), *names]) or "none"
        raise WeightsError(f"no weights called {name!r} are shipped (there are: {known}), and no file is called so")
    return found


def shipped() -> dict[str, Path]:
    """The weights that come with the package, by name."""
    folder = resources.files("stages.codec") / "weights"
    return {Path(f.name).stem: Path(str(f)) for f in folder.iterdir() if f.name.endswith(".safetensors")}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the weights file {path} can't be read: {error.strerror}") from error
    length = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise WeightsError(f"{path} is not a safetensors file, or a truncated one ({len(data)} bytes)")
    try:
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        about = json.loads(metadata.get(_METADATA, "null"))
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or a truncated one: {error}") from error
    if not isinstance(about, dict):
        raise WeightsError(
            f"{path} holds no description of ours ({_METADATA!r} in the metadata), so no codec's weights"
        )
    if about.get("format") != FORMAT:
        raise WeightsError(f"{path} has weights format {about.get('format')!r}, this version reads {FORMAT}")
    return about, tensors


def _built(path: Path, name: str, config: Any) -> AnyModel:
    cls = model_class(name)
    if not isinstance(config, dict):
        raise WeightsError(f"{path} has no config object for {name}")
    parameters = inspect.signature(cls).parameters
    if unknown := sorted(set(config) - set(parameters)):
        raise WeightsError(f"{path}: {name} has no setting {unknown[0]!r}, it has {', '.join(parameters)}")
    hints = typing.get_type_hints(cls.__init__)
    for key, value in config.items():
        expected = hints.get(key)
        if expected in (bool, int, float, str) and type(value) is not expected:
            raise WeightsError(f"{path}: setting {key!r} of {name} is {value!r}, expected {expected.__name__}")
        if isinstance(value, int) and not 0 <= value <= _MAX_SETTING:
            raise WeightsError(f"{path}: setting {key!r} of {name} is {value}, expected 0 to {_MAX_SETTING}")
    try:
        model: AnyModel = cls(**config)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise WeightsError(f"{path}: {name} can't be built: {error}") from error
    return model


def _check_state(path: Path, model: Network, state: Mapping[str, Tensor]) -> None:
    expected = _needed(model)
    if missing := sorted(set(expected) - set(state)):
        raise WeightsError(f"{path} lacks {len(missing)} tensors of {model.name}, the first is {missing[0]!r}")
    if extra := sorted(set(state) - set(expected)):
        raise WeightsError(f"{path} has {len(extra)} tensors that {model.name} doesn't, the first is {extra[0]!r}")
    for key, tensor in sorted(state.items()):
        if tensor.shape != expected[key].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[key].shape)
            raise WeightsError(f"{path}: tensor {key!r} of {model.name} has shape {found}, expected {wanted}")
        if tensor.is_floating_point() != expected[key].is_floating_point():
            raise WeightsError(f"{path}: tensor {key!r} of {model.name} is {tensor.dtype}, not {expected[key].dtype}")
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: tensor {key!r} of {model.name} holds values that are not finite")


def _tables(path: Path, tensors: Mapping[str, Tensor]) -> CodingTables:
    if missing := [_TABLES + t for t in _TABLE_TENSORS if _TABLES + t not in tensors]:
        raise WeightsError(f"{path} lacks {missing[0]!r}, so there are no coding tables")
    try:
        return CodingTables.from_tensors({t: tensors[_TABLES + t].numpy() for t in _TABLE_TENSORS})
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _check_indices(path: Path, model: AnyModel, tables: CodingTables) -> None:
    """Whatever the quality, its tables must be there."""
    for quality in model.quality_range:
        highest = highest_index(model, quality)
        if highest >= len(tables):
            raise WeightsError(f"{path} has {len(tables)} coding tables, {model.name} uses at least {highest + 1}")


def _needed(model: Network) -> dict[str, Tensor]:
    """The state that encoding and decoding need."""
    unused = tuple(getattr(model, "training_only", ()))
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(unused)}


def _restored(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _stored(tensor: Tensor, float16: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    return tensor.half() if float16 and tensor.is_floating_point() and tensor.ndim >= 2 else tensor
