"""Published checkpoints become weights of ours that compute what the reference computed."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from stages.codec import load_codec
from tools.import_reference import entry
from tools.reference_checkpoint import LAYOUTS, read_training_model


@pytest.fixture(scope="module")
def checkpoints(reference, tmp_path_factory):
    """A checkpoint file of each model, by its name, made by the reference folder's script."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in LAYOUTS:
        command = [sys.executable, str(reference / "make_checkpoint.py"), name, str(folder / f"{name}.pt")]
        subprocess.run(command, check=True, timeout=120)
    return {name: folder / f"{name}.pt" for name in LAYOUTS}


@pytest.fixture(scope="module")
def expected(reference):
    """What the reference computed with ndic_bls17."""
    with np.load(reference / "ndic_bls17.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture
def changed(checkpoints, tmp_path):
    """changed(alter) -> path of ndic_bls17's checkpoint after alter(content)."""

    def make(alter):
        content = torch.load(checkpoints["ndic_bls17"], weights_only=True)
        alter(content)
        torch.save(content, tmp_path / "changed.pt")
        return tmp_path / "changed.pt"

    return make


def imported(checkpoint, out, model="ndic_bls17", *more):
    assert entry([str(checkpoint), "--model", model, "--out", str(out), *more]) == 0
    return load_codec(out)


def refusal(capsys, checkpoint, out, *more):
    """The one sentence that the command ends with."""
    assert entry([str(checkpoint), "--model", "ndic_bls17", "--out", str(out), *more]) == 1
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    assert not out.exists()
    return sentence


def test_ndic_bls17_agrees_with_the_reference(checkpoints, expected, tmp_path):
    codec = imported(checkpoints["ndic_bls17"], tmp_path / "ref.safetensors")
    x, side = torch.from_numpy(expected["x"]), torch.from_numpy(expected["y"])
    payload = codec.encode(x)
    assert np.array_equal(codec.symbols(payload), expected["symbols"][0])
    x_hat = codec.decode(payload, side, clamp=False).numpy()
    assert np.abs(x_hat - expected["x_hat"]).max() <= 1e-4 * np.abs(expected["x_hat"]).max()
    reference_bytes = float(expected["transmitted_bits"]) / 8
    assert abs(len(payload) - reference_bytes) <= 0.02 * reference_bytes + 64


def test_side_views_own_reconstruction_agrees_with_the_reference(checkpoints, expected):
    training, _ = read_training_model(checkpoints["ndic_bls17"], "ndic_bls17")
    side = torch.from_numpy(expected["y"])
    with torch.no_grad():
        y_hat = training.side_g_s(torch.cat([training.side_g_a(side), training.codec.common(side)], 1)).numpy()
        bits = -training.density(torch.from_numpy(expected["symbols"]).float()).log2().sum()
    assert np.abs(y_hat - expected["y_hat"]).max() <= 1e-4 * np.abs(expected["y_hat"]).max()
    assert float(bits) == pytest.approx(float(expected["transmitted_bits"]), rel=1e-4)


def test_bls17_computes_what_its_description_says(checkpoints, tmp_path, expected):
    """No outputs of the reference are known for bls17: its formulas, written down with the published names."""
    codec = imported(checkpoints["bls17"], tmp_path / "ref.safetensors", "bls17")
    p = torch.load(checkpoints["bls17"], weights_only=True)["model_state_dict"]
    f = torch.nn.functional

    def norm(x, name):
        beta = p[f"{name}.beta"].clamp_min((1e-6 + 2**-36) ** 0.5) ** 2 - 2**-36
        gamma = p[f"{name}.gamma"].clamp_min(2**-18) ** 2 - 2**-36
        return (beta[:, None, None] + torch.einsum("ij,bihw->bjhw", gamma, x**2)).sqrt()

    x = torch.from_numpy(expected["x"])
    latent = f.conv2d(x, p["conv1.weight"], p["conv1.bias"], 4, 4)
    latent = f.conv2d(latent / norm(latent, "gdn1"), p["conv2.weight"], p["conv2.bias"], 2, 2)
    latent = f.conv2d(latent / norm(latent, "gdn2"), p["conv3.weight"], p["conv3.bias"], 2, 2)
    out = f.conv_transpose2d(latent.round(), p["deconv1.weight"], p["deconv1.bias"], 2, 2, 1)
    out = f.conv_transpose2d(out * norm(out, "igdn2"), p["deconv2.weight"], p["deconv2.bias"], 2, 2, 1)
    out = f.conv_transpose2d(out * norm(out, "igdn3"), p["deconv3.weight"], p["deconv3.bias"], 4, 4, 3)
    payload = codec.encode(x)
    assert torch.equal(codec.symbols(payload), latent.round()[0].int())
    torch.testing.assert_close(codec.decode(payload, clamp=False), out, rtol=0, atol=1e-4 * float(out.abs().max()))


def test_module_runs_with_the_same_arguments(checkpoints, tmp_path):
    command = [sys.executable, "-m", "tools.import_reference", str(checkpoints["bls17"]), "--model", "bls17"]
    out = tmp_path / "ref.safetensors"
    result = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"model id {load_codec(out).model_id.hex()}" in result.stdout


def rename_to_published(content):
    """Key names as in the files that NDIC's authors publish: z for w."""
    state = content["model_state_dict"]
    content["model_state_dict"] = {k.replace("_w.", "_z.").replace(".weight", ".zeight"): v for k, v in state.items()}


def test_published_key_names_are_understood(checkpoints, changed, tmp_path):
    published = imported(changed(rename_to_published), tmp_path / "a.safetensors")
    assert published.model_id == imported(checkpoints["ndic_bls17"], tmp_path / "b.safetensors").model_id


def adam_state(content, untouched):
    """Adam's state after a training in which no parameter that begins with `untouched` got a gradient."""
    names = list(content["model_state_dict"])
    touched = {i: {"step": 9} for i, name in enumerate(names) if not name.startswith(untouched)}
    content["optimizer_state_dict"] = {"state": touched, "param_groups": [{"params": list(range(len(names)))}]}


@pytest.mark.parametrize(
    ("untouched", "decoder", "repeats"),
    [
        (("deconv3.", "deconv3_cor."), "auto", True),
        (("deconv3.", "deconv3_cor."), "fixed", False),
        (("nothing",), "auto", False),
        (("nothing",), "published", True),
    ],
)
def test_decoder_is_told_by_what_training_touched(changed, tmp_path, untouched, decoder, repeats):
    checkpoint = changed(lambda content: adam_state(content, untouched))
    codec = imported(checkpoint, tmp_path / "ref.safetensors", "ndic_bls17", "--decoder", decoder)
    assert codec.description["decoder"] == ("published" if repeats else "fixed")
    assert len(codec._model.g_s.deconv) == (3 if repeats else 4)
    x = torch.rand(1, 3, 16, 32)
    assert codec.decode(codec.encode(x), x).shape == x.shape


def test_decoder_that_can_not_be_told_is_asked_for(changed, tmp_path, capsys):
    def alter(content):
        adam_state(content, ("nothing",))
        content["optimizer_state_dict"]["param_groups"][0]["params"].pop()

    assert "choose --decoder" in refusal(capsys, changed(alter), tmp_path / "ref.safetensors")


def test_optimiser_of_another_kind_is_one_sentence(changed, tmp_path, capsys):
    checkpoint = changed(lambda content: content.update(optimizer_state_dict={"state": 5, "param_groups": [7]}))
    assert "choose --decoder" in refusal(capsys, checkpoint, tmp_path / "ref.safetensors")


FAULTS = {
    "no 'model_state_dict'": lambda c: c.pop("model_state_dict"),
    "lacks 1 tensors (first 'conv2.bias')": lambda c: c["model_state_dict"].pop("conv2.bias"),
    "1 tensors too many (first 'conv9.bias')": lambda c: c["model_state_dict"].update({"conv9.bias": torch.zeros(2)}),
    "'gdn1.gamma' has shape (48, 7), expected (48, 48)": lambda c: c["model_state_dict"].update(
        {"gdn1.gamma": torch.zeros(48, 7)}
    ),
    "'entropy_bottleneck_hx.factors' has shape (2, 48, 3, 1), expected (3, 48, 3, 1)": lambda c: c[
        "model_state_dict"
    ].update({"entropy_bottleneck_hx.factors": torch.zeros(2, 48, 3, 1)}),
    "'conv3.bias' holds values that are not finite": lambda c: c["model_state_dict"]["conv3.bias"].fill_(float("nan")),
    "0 channels": lambda c: c["model_state_dict"].update({"conv1.bias": torch.zeros(0)}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_checkpoint_is_one_sentence(changed, tmp_path, capsys, fault):
    assert fault in refusal(capsys, changed(FAULTS[fault]), tmp_path / "ref.safetensors")


def test_wrong_model_is_named(checkpoints, tmp_path, capsys):
    sentence = refusal(capsys, checkpoints["bls17"], tmp_path / "ref.safetensors")
    assert "is a checkpoint of bls17, not of ndic_bls17" in sentence


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04" + b"\0" * 60, b"\x80\x02X" * 9])
def test_unreadable_checkpoint_is_one_sentence(tmp_path, capsys, content):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    assert "can't be read" in refusal(capsys, path, tmp_path / "ref.safetensors")


def test_truncated_checkpoint_is_one_sentence(checkpoints, tmp_path, capsys):
    path = tmp_path / "bad.pt"
    path.write_bytes(checkpoints["ndic_bls17"].read_bytes()[:-1000])
    assert "can't be read" in refusal(capsys, path, tmp_path / "ref.safetensors")


def test_missing_checkpoint_is_one_sentence(tmp_path, capsys):
    assert "there is no checkpoint" in refusal(capsys, tmp_path / "none.pt", tmp_path / "ref.safetensors")


def test_checkpoint_with_code_in_it_is_not_run(tmp_path, capsys):
    torch.save({"model_state_dict": subprocess.Popen}, tmp_path / "evil.pt")
    assert "can't be read" in refusal(capsys, tmp_path / "evil.pt", tmp_path / "ref.safetensors")


def test_output_that_can_not_be_written_is_one_sentence(checkpoints, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "can't be written" in refusal(capsys, checkpoints["ndic_bls17"], tmp_path / "file" / "ref.safetensors")
