"""Weights on disk, and everything that can be wrong with them."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stages.codec import WeightsError, load_codec, weights_file
from stages.codec.entropy import TOTAL, CodingTables


def read(path):
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["sidecast"]), load_file(path)


def rewrite(source, target, change):
    """Copy a weights file, `change(about, tensors)` altering it on the way."""
    about, tensors = read(source)
    change(about, tensors)
    save_file(tensors, target, {"sidecast": json.dumps(about)})
    return target


@pytest.fixture
def good(weights_paths):
    return weights_paths["ndic_bls17"]


def test_saved_weights_load_with_their_description(good):
    codec = load_codec(good)
    assert codec.name == "small-ndic_bls17"
    assert codec.description == {"note": "random"}
    assert len(codec.model_id) == 8


def test_model_id_ignores_the_description_and_the_file_name(good, tmp_path):
    other = rewrite(good, tmp_path / "other.safetensors", lambda about, _: about.update(description={"a": 1}))
    assert load_codec(other).model_id == load_codec(good).model_id


@pytest.mark.parametrize("changed", ["model.g_a.conv.0.bias", "tables.offsets", "config"])
def test_model_id_changes_with_what_decides_the_result(good, tmp_path, changed):
    def change(about, tensors):
        if changed == "config":
            about["config"]["repeat_second"] = True
            for leaf in ("weight", "bias"):
                tensors[f"model.g_s.deconv.2.{leaf}"] = tensors.pop(f"model.g_s.deconv.3.{leaf}")
        else:
            tensors[changed] = tensors[changed] + 1

    other = rewrite(good, tmp_path / "other.safetensors", change)
    assert load_codec(other).model_id != load_codec(good).model_id


def test_half_precision_is_restored_to_float32(good, tmp_path, picture):
    loaded = weights_file.load(good)
    small = tmp_path / "small.safetensors"
    identity = weights_file.save(small, loaded.model, loaded.tables, {}, float16=True)
    assert small.stat().st_size < 0.7 * good.stat().st_size
    codec = load_codec(small)
    assert codec.model_id == identity != loaded.model_id
    assert {p.dtype for p in codec._model.parameters()} == {torch.float32}
    assert all(
        (a == b).all() for a, b in zip(codec._tables.tensors().values(), loaded.tables.tensors().values(), strict=True)
    )
    assert codec.decode(codec.encode(picture(16, 16)), picture(16, 16)).isfinite().all()


def test_training_only_tensors_are_not_stored(tmp_path, monkeypatch):
    class Doubled(nn.Module):
        name = "doubled"
        config = {}  # noqa: RUF012
        quality_range = (0.0, 0.0)
        training_only = ("prior.",)

        def __init__(self):
            super().__init__()
            self.prior, self.used = nn.Linear(2, 2), nn.Linear(2, 2)

        def table_index(self, quality, h, w):
            return np.zeros(1, int)

    monkeypatch.setitem(weights_file.MODELS, "doubled", "unused")
    monkeypatch.setattr(weights_file, "model_class", lambda name: Doubled)
    model, path = Doubled(), tmp_path / "doubled.safetensors"
    weights_file.save(path, model, CodingTables([1, TOTAL - 1], [2], [0]), {})
    assert not any("prior" in name for name in load_file(path))
    assert torch.equal(weights_file.load(path).model.used.weight, model.used.weight)


FAULTS = {
    "'mystery'": lambda about, t: about.update(model="mystery"),
    "format 2": lambda about, t: about.update(format=2),
    "no config": lambda about, t: about.update(config=None),
    "no setting 'chanels'": lambda about, t: about.update(config={"chanels": 8}),
    "expected int": lambda about, t: about["config"].update(channels="8"),
    "expected bool": lambda about, t: about["config"].update(repeat_second=1),
    "expected 0 to 1024": lambda about, t: about["config"].update(channels=10**9),
    "600 channels": lambda about, t: about["config"].update(channels=600),
    "0 channels": lambda about, t: about["config"].update(channels=0),
    r"'common.conv.0.bias' of ndic_bls17 has shape \(8,\), expected \(9,\)": lambda about, t: about["config"].update(
        channels=9
    ),
    "lacks 1 tensors": lambda about, t: t.pop("model.g_a.conv.0.bias"),
    "has 1 tensors": lambda about, t: t.update({"model.g_a.conv.9.bias": torch.zeros(3)}),
    "not finite": lambda about, t: t["model.g_a.conv.0.bias"].fill_(float("inf")),
    "int32, not": lambda about, t: t.update({"model.g_a.conv.0.bias": torch.zeros(8, dtype=torch.int32)}),
    "lacks 'tables.lengths'": lambda about, t: t.pop("tables.lengths"),
    "add up": lambda about, t: t.update({"tables.frequencies": t["tables.frequencies"].int() + 1}),
    "integers": lambda about, t: t.update({"tables.offsets": t["tables.offsets"].float()}),
    "BFloat16": lambda about, t: t.update({"tables.offsets": t["tables.offsets"].bfloat16()}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faulty_weights_are_one_sentence(good, tmp_path, message):
    bad = rewrite(good, tmp_path / "bad.safetensors", FAULTS[message])
    with pytest.raises(WeightsError, match=message) as caught:
        load_codec(bad)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_few_tables_are_refused(good, tmp_path):
    def change(about, tensors):
        lengths = tensors["tables.lengths"]
        tensors["tables.frequencies"] = tensors["tables.frequencies"][: int(lengths[:-1].sum())]
        tensors["tables.lengths"], tensors["tables.offsets"] = lengths[:-1], tensors["tables.offsets"][:-1]

    with pytest.raises(WeightsError, match="7 coding tables"):
        load_codec(rewrite(good, tmp_path / "bad.safetensors", change))


def test_safetensors_without_our_description_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="no description of ours"):
        load_codec(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02garbage",
        b"\xff" * 64,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 1 << 40) + b"{" * 100,
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 6) + b'{"a":\xff',
    ],
)
def test_file_that_is_no_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "junk.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"safetensors file|truncated"):
        load_codec(path)


def test_truncated_or_mutated_file_is_weights_error_or_loads(good, tmp_path):
    data, path = good.read_bytes(), tmp_path / "bad.safetensors"
    rng = np.random.default_rng(5)
    header = 8 + struct.unpack_from("<Q", data)[0]
    refused = 0
    for _ in range(300):
        bad = bytearray(data[: rng.integers(0, len(data))] if rng.random() < 0.3 else data)
        for _ in range(rng.integers(1, 4)):
            if bad:
                bad[rng.integers(0, min(len(bad), header))] = rng.integers(0, 256)
        path.write_bytes(bad)
        try:
            weights_file.load(path)
        except WeightsError:
            refused += 1
    assert refused > 250


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        load_codec(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="is a folder"):
        load_codec(tmp_path)


def test_unknown_name_lists_what_is_there():
    with pytest.raises(WeightsError, match="'nonesuch' are shipped"):
        load_codec("nonesuch")


def test_failed_save_leaves_the_old_file(good, tmp_path):
    loaded, path = weights_file.load(good), tmp_path / "kept.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        weights_file.save(path, loaded.model, loaded.tables, {"unserialisable": object()})
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", sorted(weights_file.shipped()))
def test_shipped_weights_decode(name, picture):
    codec, x, side = load_codec(name), picture(48, 64), picture(48, 64, 1)
    payload = codec.encode(x)
    assert codec.decode(payload, side).isfinite().all()
    assert codec.description
