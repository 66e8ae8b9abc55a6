"""Training for real, briefly, on made-up drives: it starts, saves, resumes, and releases weights that decode."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pipeline.errors import ConfigError, SourceError
from stages.codec import load_codec
from tools.training import context, context_export, session, unaided
from tools.training.config import load_training_config
from tools.training.pictures import read_library
from tools.training.published import PUBLISHED, PublishedRecipe
from tools.training.samples import Batch, Sampler

DISPARITY = """
model: disparity
network: {latent: 16, trunk: 16, head: 16}
rd_lambda: [1.0e-3, 1.0e-2]
held_out: [odom_made_up/seq01]
mixture: {small: 0.3, small_scale: [1.0, 1.2], native: 0.3, native_scale: [1.0, 1.1], layered: 0.2}
crop: [128, 64]
batch: 2
"""
NDIC = """
model: ndic_bls17
network: {channels: 8}
rd_lambda: [1.0e-3, 1.0e-3]
held_out: [odom_made_up/seq01]
mixture: {small: 0.5, small_scale: [1.0, 1.2], native: 0.0, layered: 0.5, no_side: 0.0, wrong_side: 0.0}
crop: [128, 64]
batch: 2
"""
HYPER = NDIC.replace("ndic_bls17", "bmshj18").replace("crop: [128, 64]", "crop: [112, 112]\ndistortion: ms_ssim")
CROSS = NDIC.replace("ndic_bls17", "cross_attention").replace("channels: 8", "channels: 4, height: 64, width: 128")
DSIN = NDIC.replace("ndic_bls17", "dsin").replace("channels: 8", "channels: 8, width: 6")
GAINS = NDIC.replace("channels: 8", "channels: 8, anchors: 4").replace("[1.0e-3, 1.0e-3]", "[1.0e-3, 1.0e-2]")


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives in KITTI layout, of noise that is the same in both views but for a shift."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for sequence in ("seq00", "seq01"):
        for camera, shift in (("image_02", 0), ("image_03", 9)):
            folder = root / "odom_made_up" / sequence / camera / "data"
            folder.mkdir(parents=True)
            rng = np.random.default_rng(0)
            for i in range(2):
                noise = cv2.GaussianBlur(rng.integers(0, 256, (140, 320, 3)).astype(np.float32), (0, 0), 3)
                noise = np.clip((noise - 127) * 6 + 127, 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{i:010d}.png"), noise[:, shift : shift + 300])
    return root


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Context models are fitted to fewer pictures."""
    monkeypatch.setattr(context, "SMALL_CROPS", 10)
    monkeypatch.setattr(context_export, "COUNTED", 10)


def places(tmp_path: Path, text: str, drives: Path) -> session.Places:
    config = tmp_path / "train-tiny.yaml"
    config.write_text(text)
    return session.Places(config, drives, tmp_path / "state", tmp_path / "log")


@pytest.mark.parametrize(
    ("text", "needs_side"), [(DISPARITY, False), (GAINS, True), (HYPER, False), (CROSS, True), (DSIN, False)]
)
def test_a_run_is_saved_resumed_and_released(
    tmp_path: Path, drives: Path, text: str, needs_side: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    here = places(tmp_path, text, drives)
    session.train(here, 0.02)
    saved = torch.load(here.state / "tiny" / "state.pt", weights_only=True)
    assert saved["step"] > 0
    session.finish(here, 0.01, tmp_path / "w.safetensors", context_steps=5)
    said = capsys.readouterr().out
    assert "starting afresh" in said
    assert f"going on from step {saved['step']}" in said
    codec = load_codec(tmp_path / "w.safetensors")
    assert codec.needs_side is needs_side
    assert codec.description["training"]["steps"] > saved["step"]
    x = torch.rand(1, 3, 40, 72)
    assert codec.decode(codec.encode(x), side=x).shape == x.shape
    with (here.log / "tiny" / "released.csv").open() as f:
        (row,) = csv.DictReader(f)
    assert float(row["psnr_db_q27" if text in (DISPARITY, GAINS) else "psnr_db_q0"]) > 5


def test_training_time_is_the_processors(tmp_path: Path, drives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others use of a shared machine is not charged to the run."""
    drawn = Sampler.batch

    def after_a_pause(sampler: Sampler, count: int) -> Batch:
        time.sleep(3)
        return drawn(sampler, count)

    monkeypatch.setattr(Sampler, "batch", after_a_pause)
    here = places(tmp_path, GAINS, drives)
    session.train(here, 0.005)
    saved = torch.load(here.state / "tiny" / "state.pt", weights_only=True)
    assert 0 < saved["seconds"] < 3 * saved["step"]


def test_the_context_model_is_fitted_anew_to_the_same_transforms(drives: Path, tmp_path: Path) -> None:
    here, weights = places(tmp_path, DISPARITY, drives), tmp_path / "w.safetensors"
    session.finish(here, 0.001, weights, context_steps=2)
    before, x = load_codec(weights), torch.rand(1, 3, 40, 72)
    session.fit_context(here, weights, context_steps=20)
    after = load_codec(weights)
    assert after.model_id != before.model_id
    assert torch.equal(after.symbols(after.encode(x)), before.symbols(before.encode(x)))
    assert after.description["training"] == before.description["training"]


def test_the_network_without_side_view_is_gone_on_with_and_leaves_the_bits_as_they_are(
    drives: Path, tmp_path: Path
) -> None:
    here, weights = places(tmp_path, DISPARITY, drives), tmp_path / "w.safetensors"
    session.finish(here, 0.005, weights, context_steps=2)
    before, x = load_codec(weights), torch.rand(1, 3, 48, 80)
    fitted = unaided.fitted_before(weights)
    session.fit_unaided(here, weights, 0.05)
    after, payload = load_codec(weights), before.encode(x)
    assert fitted.keys() == unaided.fitted_before(weights).keys()
    assert after.encode(x) == payload
    assert not torch.equal(after.decode(payload), before.decode(payload))
    assert after.model_id != before.model_id
    assert "unaided" in after.description


def test_a_context_model_is_not_fitted_to_other_codecs(drives: Path, tmp_path: Path) -> None:
    here, weights = places(tmp_path, NDIC, drives), tmp_path / "w.safetensors"
    session.finish(here, 0.001, weights)
    with pytest.raises(ConfigError, match="expected weights of disparity, found ndic_bls17"):
        session.fit_context(here, weights)


def test_a_run_goes_on_from_the_trunk_where_the_state_is_gone(
    tmp_path: Path, drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = places(tmp_path, DISPARITY, drives)
    session.train(here, 0.01)
    (here.state / "tiny" / "state.pt").unlink()
    session.train(here, 0.005)
    assert "going on from the committed trunk" in capsys.readouterr().out


def test_a_fresh_run_starts_from_the_trunk_of_another_or_says_that_there_is_none(tmp_path: Path, drives: Path) -> None:
    here = places(tmp_path, DISPARITY + "start: other\n", drives)
    with pytest.raises(ConfigError, match=r"start: expected the trunk of another run at .*other/trunk"):
        session.train(here, 0.001)
    session.train(places(tmp_path, DISPARITY, drives), 0.01)
    (here.state / "tiny" / "state.pt").unlink()
    (here.log / "tiny").rename(here.log / "other")
    config = places(tmp_path, DISPARITY + "start: other\n", drives)
    session.train(config, 0.001)
    steps = [int(safe_open(here.log / n / "trunk.safetensors", "pt").metadata()["step"]) for n in ("other", "tiny")]
    assert steps[1] >= steps[0] > 0


def test_a_run_starts_from_what_fits_of_another_model(
    tmp_path: Path, drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = places(tmp_path, NDIC, drives)
    session.train(here, 0.001)
    (here.state / "tiny" / "state.pt").unlink()
    (here.log / "tiny").rename(here.log / "other")
    session.train(places(tmp_path, DSIN + "start: other\nlearning_rate: 1.0e-9\nprior_rate: 1.0e-9\n", drives), 0.001)
    said = capsys.readouterr().out
    assert re.search(
        r"starting with \d+ tensors of .*other/trunk\.safetensors, step \d+; \d+ tensors start afresh", said
    )
    before, after = (load_file(here.log / run / "trunk.safetensors") for run in ("other", "tiny"))
    for name in ("codec.g_a.conv.0.weight", "codec.g_s.deconv.1.weight", "density.matrix.0"):
        assert torch.allclose(before[name].float(), after[name].float(), atol=1e-3)
    assert not set(after) <= set(before)


def test_held_out_scenes_are_not_drawn(drives: Path) -> None:
    library = read_library(drives, ("odom_made_up/seq01",))
    assert {Path(p.sequence).name for p in library.pairs} == {"seq00"}
    assert {Path(p.sequence).name for p in library.validation["odom_made_up"]} == {"seq01"}


def test_batches_have_the_size_and_range_that_the_network_expects(drives: Path, tmp_path: Path) -> None:
    config = load_training_config(places(tmp_path, DISPARITY, drives).config)
    library = read_library(drives, config.held_out)
    batch = Sampler(library, config.mixture, config.crop, seed=0).batch(12)
    assert batch.x.shape == batch.side.shape == (12, 3, 64, 128)
    assert 0 <= batch.x.min() <= batch.x.max() <= 1
    assert not batch.use.all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model: disparity", "model: nothing"),
        ("batch: 2", "batch: 0"),
        ("batch: 2", "batsch: 2"),
        ("latent: 16", "latent: 0"),
        ("batch: 2", "schedule: sometimes"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, drives: Path, change: str, sentence: str) -> None:
    here = places(tmp_path, DISPARITY.replace(change, sentence), drives)
    with pytest.raises(ConfigError, match=r"train-tiny\.yaml"):
        session.train(here, 0.01)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (NDIC.replace("[1.0e-3, 1.0e-3]", "[1.0e-3, 1.0e-2]"), "needs gains"),
        (GAINS.replace("[1.0e-3, 1.0e-2]", "[1.0e-2, 1.0e-3]"), "the second one must be greater"),
        (GAINS.replace("anchors: 4", "anchors: 1"), "anchors 1, expected 0"),
    ],
)
def test_lambdas_that_do_not_suit_the_gains_are_refused(tmp_path: Path, drives: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        session.train(places(tmp_path, text, drives), 0.01)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a folder of training data"):
        read_library(tmp_path / "nowhere", ())
    with pytest.raises(SourceError, match="no stereo drives"):
        read_library(tmp_path, ())


@pytest.mark.parametrize(
    ("change", "to", "sentence"),
    [
        ("crop: [112, 112]", "crop: [100, 112]", "crops of 100 x 112 pixels don't fit"),
        ("crop: [112, 112]", "crop: [112, 64]", "too small for MS-SSIM, expected 97 at least"),
    ],
)
def test_crop_that_network_or_loss_can_not_take_is_refused(
    tmp_path: Path, drives: Path, change: str, to: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        session.train(places(tmp_path, HYPER.replace(change, to), drives), 0.01)


def test_schedule_of_the_papers_is_one_key(tmp_path: Path) -> None:
    config = load_training_config(places(tmp_path, NDIC + "schedule: papers\n", tmp_path).config)
    assert (config.learning_rate, config.batch, config.amsgrad, config.patience) == (1e-4, 1, True, 10)


CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("train-*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configuration_can_be_trained(path: Path) -> None:
    """Every model has one; its network can be built and takes its crop."""
    config = load_training_config(path)
    assert path.stem.removeprefix("train-").startswith(config.model)
    assert path.read_text().splitlines()[0].endswith(f"sidecast train configs/{path.name} --data DATA")
    if config.model in PUBLISHED:
        PublishedRecipe(config)


def test_every_model_of_the_papers_has_a_configuration() -> None:
    assert {load_training_config(path).model for path in CONFIGS} >= set(PUBLISHED)
