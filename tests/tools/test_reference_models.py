"""Imported checkpoints compute what the reference computed.

Where nothing of the reference is at hand (bls17 and the hyperprior models), its description is written down here as
plain formulas over the published tensors.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stages.codec import load_codec
from tools.reference_checkpoint import convert, read_training_model

LEAST = 1e-9


class Formulas:
    """The published tensors of a checkpoint, and what the models compute with them."""

    def __init__(self, path, decoder="fixed"):
        self.p = torch.load(path, weights_only=True)["model_state_dict"]
        self.decoder = decoder

    def conv(self, x, name, stride, padding):
        return F.conv2d(x, self.p[f"{name}.weight"], self.p.get(f"{name}.bias"), stride, padding)

    def deconv(self, x, name, stride, padding):
        return F.conv_transpose2d(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"], stride, padding, stride - 1)

    def norm(self, x, name):
        beta = self.p[f"{name}.beta"].clamp_min((1e-6 + 2**-36) ** 0.5) ** 2 - 2**-36
        gamma = self.p[f"{name}.gamma"].clamp_min(2**-18) ** 2 - 2**-36
        return (beta[:, None, None] + torch.einsum("ij,bihw->bjhw", gamma, x**2)).sqrt()

    def analysis(self, x, suffix=""):
        for i in (1, 2, 3):
            x = self.conv(x, f"conv{i}{suffix}", 2, 2)
            x = x / self.norm(x, f"gdn{i}{suffix}")
        return self.conv(x, f"conv4{suffix}", 2, 2)

    def synthesis(self, x, suffix=""):
        for i in (1, 2, 3):
            layer = 2 if i == 3 and self.decoder == "published" else i
            x = self.deconv(x, f"deconv{layer}{suffix}", 2, 2)
            x = x * self.norm(x, f"igdn{i}{suffix}")
        return self.deconv(x, f"deconv4{suffix}", 2, 2)

    def hyper_analysis(self, latent, name):
        z = self.conv(self.conv(F.relu(latent.abs()), f"{name}.conv_h1", 1, 1), f"{name}.conv_h2", 2, 2)
        return self.conv(F.relu(z), f"{name}.conv_h3", 2, 2)

    def sigma(self, z, name):
        x = F.relu(self.deconv(F.relu(self.deconv(z, f"{name}.conv_h4", 2, 2)), f"{name}.conv_h5", 2, 2))
        return self.deconv(x, f"{name}.conv_h6", 1, 1).clamp_min(0.11)

    def cumulative(self, values, name):
        """Of the factorised density; values (C, 1, n), in float64."""
        for i in range(4):
            matrix, bias = (self.p[f"{name}.{kind}{i}"].double() for kind in ("matrix", "bias"))
            values = F.softplus(matrix) @ values + bias
            if i < 3:
                values = values + torch.tanh(self.p[f"{name}.factors"][i].double()) * torch.tanh(values)
        return torch.sigmoid(values)

    def factorised_bits(self, symbols, name):
        values = symbols.double().transpose(0, 1).flatten(1)[:, None]
        mass = self.cumulative(values + 0.5, name) - self.cumulative(values - 0.5, name)
        return float(-mass.clamp_min(LEAST).log2().sum())


def gaussian_bits(symbols, sigma):
    normal = torch.distributions.Normal(0, sigma.double())
    distance = -symbols.double().abs()
    return float(-(normal.cdf(distance + 0.5) - normal.cdf(distance - 0.5)).clamp_min(LEAST).log2().sum())


def imported(path, model, folder):
    convert(path, model, folder / "ref.safetensors")
    return load_codec(folder / "ref.safetensors")


def check(codec, views, symbols, x_hat, bits, tolerance):
    """Symbols equal, x_hat within 1e-3 of its scale, bits within the tolerance and 64 bytes."""
    x, side = views
    payload = codec.encode(x)
    assert np.array_equal(codec.symbols(payload).numpy(), symbols)
    found = codec.decode(payload, side, clamp=False).numpy()
    assert np.abs(found - x_hat).max() <= 1e-3 * np.abs(x_hat).max()
    assert abs(len(payload) - bits / 8) <= tolerance * bits / 8 + 64
    return payload


@pytest.mark.parametrize("model", ["ndic_bls17", "cross_attention"])
def test_the_reference_is_reproduced(checkpoint, expected, views, tmp_path, model):
    codec, reference = imported(checkpoint(model), model, tmp_path), expected(model)
    check(codec, views, reference["symbols"][0], reference["x_hat"], float(reference["transmitted_bits"]), 0.02)


def test_bls17_computes_what_its_description_says(checkpoint, views, tmp_path):
    f = Formulas(checkpoint("bls17"))
    latent = f.conv(views[0], "conv1", 4, 4)
    latent = f.conv(latent / f.norm(latent, "gdn1"), "conv2", 2, 2)
    symbols = f.conv(latent / f.norm(latent, "gdn2"), "conv3", 2, 2).round()
    x_hat = f.deconv(symbols, "deconv1", 2, 2)
    x_hat = f.deconv(x_hat * f.norm(x_hat, "igdn2"), "deconv2", 2, 2)
    x_hat = f.deconv(x_hat * f.norm(x_hat, "igdn3"), "deconv3", 4, 4)
    bits = f.factorised_bits(symbols, "entropy_bottleneck")
    codec = imported(checkpoint("bls17"), "bls17", tmp_path)
    check(codec, views, symbols[0].numpy(), x_hat.numpy(), bits, 0.02)


@pytest.mark.parametrize(
    ("model", "h_a", "h_s", "density"),
    [
        ("bmshj18", "ha", "hs", "entropy_bottleneck"),
        ("ndic_bmshj18", "ha_primary_image", "hs_primary_image", "entropy_bottleneck_sigma_x"),
    ],
)
def test_hyperprior_models_compute_what_their_description_says(
    checkpoint, views, tmp_path, model, h_a, h_s, density, record_property
):
    f = Formulas(checkpoint(model))
    latent = f.analysis(views[0])
    symbols, z = latent.round(), f.hyper_analysis(latent, h_a).round()
    decoded = torch.cat([symbols, f.analysis(views[1], "_w")], 1) if model == "ndic_bmshj18" else symbols
    bits = gaussian_bits(symbols, f.sigma(z, h_s)) + f.factorised_bits(z, density)
    codec = imported(checkpoint(model), model, tmp_path)
    payload = check(codec, views, symbols[0].numpy(), f.synthesis(decoded).numpy(), bits, 0.03)
    assert 8 * len(payload) < 1.01 * bits, "integer h_s and tables together should cost less than 1 %"


@pytest.mark.parametrize("model", ["ndic_bls17", "cross_attention"])
def test_side_views_own_reconstruction_agrees_with_the_reference(checkpoint, expected, views, model):
    training, reference = read_training_model(checkpoint(model), model), expected(model)
    of_side = training.codec if model == "cross_attention" else training
    with torch.no_grad():
        joined = torch.cat([of_side.side_g_a(views[1]), training.codec.common(views[1])], 1)
        y_hat = of_side.side_g_s(joined).numpy()
        bits = -training.density(torch.from_numpy(reference["symbols"]).float()).log2().sum()
    assert np.abs(y_hat - reference["y_hat"]).max() <= 1e-4 * np.abs(reference["y_hat"]).max()
    assert float(bits) == pytest.approx(float(reference["transmitted_bits"]), rel=1e-4)


def test_published_decoder_of_the_hyperprior_model_repeats_its_second_layer(checkpoint, views, tmp_path):
    path = checkpoint("ndic_bmshj18")
    content = torch.load(path, weights_only=True)
    names = list(content["model_state_dict"])
    touched = {i: {} for i, name in enumerate(names) if not name.startswith(("deconv3.", "deconv3_cor."))}
    content["optimizer_state_dict"] = {"state": touched, "param_groups": [{"params": list(range(len(names)))}]}
    # As in the published files, z stands for w.
    content["model_state_dict"] = {k.replace("_w.", "_z."): v for k, v in content["model_state_dict"].items()}
    torch.save(content, tmp_path / "published.pt")
    codec = imported(tmp_path / "published.pt", "ndic_bmshj18", tmp_path)
    assert codec.description["decoder"] == "published"
    f = Formulas(path, "published")
    expected = f.synthesis(torch.cat([f.analysis(views[0]).round(), f.analysis(views[1], "_w")], 1))
    x_hat = codec.decode(codec.encode(views[0]), views[1], clamp=False)
    torch.testing.assert_close(x_hat, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
