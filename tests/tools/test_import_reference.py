"""Published checkpoint become weights of ours that compute what the reference computed."""

import subprocess
import sys

import pytest
import torch

from stages.codec import load_codec
from tools.import_reference import MODELS, entry
from tools.reference_checkpoint import LAYOUTS


@pytest.fixture
def changed(checkpoint, tmp_path):
    """changed(alter) -> path of ndic_bls17's checkpoint after alter(content)."""

    def make(alter):
        content = torch.load(checkpoint("ndic_bls17"), weights_only=True)
        alter(content)
        torch.save(content, tmp_path / "changed.pt")
        return tmp_path / "changed.pt"

    return make


def imported(path, out, model="ndic_bls17", *more):
    assert entry([str(path), "--model", model, "--out", str(out), *more]) == 0
    return load_codec(out)


def refusal(capsys, path, out, model="ndic_bls17", *more):
    """The one sentence that the command ends with."""
    assert entry([str(path), "--model", model, "--out", str(out), *more]) == 1
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    assert not out.exists()
    return sentence


def test_module_runs_with_the_same_arguments(checkpoint, tmp_path):
    command = [sys.executable, "-m", "tools.import_reference", str(checkpoint("bls17")), "--model", "bls17"]
    out = tmp_path / "ref.safetensors"
    result = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"model id {load_codec(out).model_id.hex()}" in result.stdout


def rename_to_published(content):
    """Key names as in the files that NDIC's authors publish: z for w."""
    state = content["model_state_dict"]
    content["model_state_dict"] = {k.replace("_w.", "_z.").replace(".weight", ".zeight"): v for k, v in state.items()}


def test_published_key_names_are_understood(checkpoint, changed, tmp_path):
    published = imported(changed(rename_to_published), tmp_path / "a.safetensors")
    assert published.model_id == imported(checkpoint("ndic_bls17"), tmp_path / "b.safetensors").model_id


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


def test_wrong_model_is_named(checkpoint, tmp_path, capsys):
    sentence = refusal(capsys, checkpoint("bls17"), tmp_path / "ref.safetensors")
    assert "is a checkpoint of bls17, not of ndic_bls17" in sentence


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "a file of another kind (0 bytes"),
        (b"no checkpoint at all", "a file of another kind (20 bytes, beginning with b'no check')"),
        (b"PK\x03\x04" + b"\0" * 60, "a truncated one (64 bytes)"),
        (b"\x80\x02X" * 9, "an old or damaged pickle (27 bytes)"),
    ],
)
def test_unreadable_checkpoint_is_one_sentence(tmp_path, capsys, content, found):
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    sentence = refusal(capsys, path, tmp_path / "ref.safetensors")
    assert f"expected a checkpoint of plain tensors, found {found}" in sentence


def test_truncated_checkpoint_is_one_sentence(checkpoint, tmp_path, capsys):
    path = tmp_path / "bad.pt"
    path.write_bytes(checkpoint("ndic_bls17").read_bytes()[:-1000])
    assert "found a truncated one" in refusal(capsys, path, tmp_path / "ref.safetensors")


def test_missing_checkpoint_is_one_sentence(tmp_path, capsys):
    assert "there is no checkpoint" in refusal(capsys, tmp_path / "none.pt", tmp_path / "ref.safetensors")


def test_checkpoint_with_code_in_it_is_not_run(tmp_path, capsys):
    torch.save({"model_state_dict": subprocess.Popen}, tmp_path / "evil.pt")
    assert "found objects of other kinds in it" in refusal(capsys, tmp_path / "evil.pt", tmp_path / "ref.safetensors")


def test_output_that_can_not_be_written_is_one_sentence(checkpoint, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "can't be written" in refusal(capsys, checkpoint("ndic_bls17"), tmp_path / "file" / "ref.safetensors")


@pytest.mark.parametrize("model", MODELS)
def test_models_are_told_apart_by_their_names(checkpoint, tmp_path, capsys, model):
    """cross_attention holds all names of no other, so that each is recognised."""
    other = MODELS[MODELS.index(model) - 1]
    sentence = refusal(capsys, checkpoint(model), tmp_path / "ref.safetensors", other)
    assert f"is a checkpoint of {model}, not of {other}" in sentence


def test_every_layout_can_be_asked_for():
    assert set(MODELS) == set(LAYOUTS)


def test_size_of_cross_attention_is_told_by_the_checkpoint(checkpoint, tmp_path):
    codec = imported(checkpoint("cross_attention"), tmp_path / "ref.safetensors", "cross_attention")
    assert codec.description["works_on"] == "tiles of 128 x 64 pixels"


def test_size_and_fit_of_cross_attention_can_be_given(checkpoint, tmp_path):
    more = ("--size", "64x128", "--fit", "resize")
    codec = imported(checkpoint("cross_attention"), tmp_path / "ref.safetensors", "cross_attention", *more)
    assert codec.description["works_on"] == "the picture resized to 64 x 128 pixels"


def test_size_that_does_not_fit_is_one_sentence(checkpoint, tmp_path, capsys):
    out = tmp_path / "ref.safetensors"
    sentence = refusal(capsys, checkpoint("cross_attention"), out, "cross_attention", "--size", "256x128")
    assert "'ca1.to_patch_embedding_x.1.weight' has shape (256, 8), expected (256, 32)" in sentence
    sentence = refusal(capsys, checkpoint("cross_attention"), out, "cross_attention", "--size", "100x64")
    assert "width 100, expected a multiple of 32" in sentence


def test_size_that_can_not_be_told_is_asked_for(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint("cross_attention"), weights_only=True)
    content["model_state_dict"]["ca1.to_patch_embedding_x.1.weight"] = torch.zeros(256, 9)
    torch.save(content, tmp_path / "changed.pt")
    sentence = refusal(capsys, tmp_path / "changed.pt", tmp_path / "ref.safetensors", "cross_attention")
    assert "give --size" in sentence


@pytest.mark.parametrize("size", ["256", "256x", "axb", "256x128x3"])
def test_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(SystemExit, match="2"):
        entry(["x.pt", "--model", "cross_attention", "--out", str(tmp_path / "a"), "--size", size])


def test_hyperprior_that_integers_can_not_hold_is_one_sentence(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint("bmshj18"), weights_only=True)
    content["model_state_dict"]["hs.conv_h5.weight"][0, 0, 0, 0] = 1e30
    torch.save(content, tmp_path / "changed.pt")
    sentence = refusal(capsys, tmp_path / "changed.pt", tmp_path / "ref.safetensors", "bmshj18")
    assert "can't be coded with integers" in sentence


def test_hyperprior_of_other_widths_is_one_sentence(checkpoint, tmp_path, capsys):
    """h_s always puts out 192 channels, so another number of filters can't have been trained."""
    content = torch.load(checkpoint("bmshj18"), weights_only=True)
    content["model_state_dict"]["conv1.bias"] = torch.zeros(48)
    torch.save(content, tmp_path / "changed.pt")
    sentence = refusal(capsys, tmp_path / "changed.pt", tmp_path / "ref.safetensors", "bmshj18")
    assert "has shape" in sentence


@pytest.mark.parametrize("option", [("--decoder", "published"), ("--size", "256x128"), ("--fit", "tiles")])
def test_option_that_makes_no_difference_is_refused(checkpoint, tmp_path, capsys, option):
    sentence = refusal(capsys, checkpoint("bls17"), tmp_path / "ref.safetensors", "bls17", *option)
    assert option[0] in sentence
    assert "only: bls17 " in sentence
