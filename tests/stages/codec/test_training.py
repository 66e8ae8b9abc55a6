"""The training sides of the papers' models: what they give the loss, and the codecs that come out of them."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.codec.bls17 import Bls17Training
from stages.codec.bmshj18 import Bmshj18Training
from stages.codec.cross_attention import CrossAttentionTraining
from stages.codec.dsin import DsinTraining
from stages.codec.ndic_bls17 import NdicBls17Training
from stages.codec.ndic_bmshj18 import NdicBmshj18Training
from stages.codec.training import bits_of

LIKELIHOODS = {
    Bls17Training: {"x"},
    Bmshj18Training: {"x", "x_hyper"},
    NdicBls17Training: {"x", "y", "w"},
    NdicBmshj18Training: {"x", "x_hyper", "y", "y_hyper", "w"},
    CrossAttentionTraining: {"x", "y", "w"},
    DsinTraining: {"x"},
}


def built(training, channels=4):
    more = {"height": 32, "width": 32} if training is CrossAttentionTraining else {}
    return training(channels, **more)


@pytest.mark.parametrize("training", LIKELIHOODS)
def test_every_parameter_learns(training):
    model = built(training)
    output = model(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    loss = (output.x_hat - 0.5).square().mean() + sum(bits_of(p) for p in output.likelihoods.values())
    if output.y_hat is not None:
        loss = loss + (output.y_hat - 0.5).square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert set(output.likelihoods) == LIKELIHOODS[training]
    assert (output.draft is not None) == (output.draft_share > 0) == (training is DsinTraining)


@pytest.mark.parametrize("training", LIKELIHOODS)
def test_tables_cost_what_the_densities_say(training):
    """What validation estimates while training is what payloads cost afterwards."""
    torch.manual_seed(0)
    model = built(training, 8)
    with torch.no_grad():
        model.codec.g_a.conv[-1].weight *= 40
        if hasattr(model, "prior"):
            model.prior.h_s.deconv[-1].bias += 3
    x = torch.rand(1, 3, 32, 32)
    symbols, bits = model.transmitted(x)
    codec, tables = model.exported()
    if hasattr(codec, "analyse_both"):
        z, latent = codec.analyse_both(x, 0.0)
        groups = [(z, codec.hyper_index(0.0)), (latent, codec.latent_index(z, 0.0, 2, 2))]
    else:
        groups = [(codec.analyse(x, 0.0), codec.table_index(0.0, 2, 2))]
    assert torch.equal(groups[-1][0], symbols)
    assert sum(tables.bits(*group) for group in groups) == pytest.approx(float(bits), rel=0.02, abs=16)


def test_training_beats_the_first_guess():
    torch.manual_seed(0)
    model, x = Bls17Training(4), torch.rand(2, 3, 16, 16).expand(2, 3, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        output = model(x)
        loss = 1000 * nn.functional.mse_loss(output.x_hat, x) + bits_of(output.likelihoods["x"]) / 256
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
