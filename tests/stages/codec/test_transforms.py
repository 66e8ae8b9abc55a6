"""Transforms and densities against the formulas they come from."""

import numpy as np
import pytest
import torch

from stages.codec.density import FactorizedDensity
from stages.codec.ndic_bls17 import NdicBls17Training
from stages.codec.training import bits_of
from stages.codec.transforms import FIVE_FIVE, NINE_FIRST, Analysis, Synthesis


@pytest.mark.parametrize("steps", [FIVE_FIVE, NINE_FIRST])
def test_synthesis_has_the_size_that_the_analysis_took(steps):
    latent = Analysis(3, 4, steps)(torch.rand(2, 3, 48, 80))
    assert latent.shape == (2, 4, 3, 5)
    assert Synthesis(4, 4, steps)(latent).shape == (2, 3, 48, 80)


def test_gdn_is_the_published_formula():
    """beta = max(beta_s, sqrt(1e-6 + 2^-36))^2 - 2^-36, gamma alike; x_j / sqrt(beta_j + sum_i gamma_ji x_i^2)."""
    gdn = Analysis(3, 5, FIVE_FIVE).gdn[0]
    with torch.no_grad():
        gdn.beta.copy_(torch.rand(5) - 0.2)
        gdn.gamma.copy_(torch.rand(5, 5) - 0.2)
    x = torch.randn(1, 5, 4, 6)
    beta = gdn.beta.clamp_min((1e-6 + 2**-36) ** 0.5) ** 2 - 2**-36
    gamma = gdn.gamma.clamp_min(2**-18) ** 2 - 2**-36
    norm = beta[:, None, None] + torch.einsum("ji,bihw->bjhw", gamma, x**2)
    torch.testing.assert_close(gdn(x), x / norm.sqrt())


def test_only_parameters_are_part_of_the_state():
    model = NdicBls17Training(4)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_repeated_second_layer_stands_in_the_thirds_place():
    published = Synthesis(4, 6, FIVE_FIVE, repeat_second=True)
    fixed = Synthesis(4, 6, FIVE_FIVE)
    fixed.igdn.load_state_dict(published.igdn.state_dict())
    for ours, theirs in zip(fixed.deconv, [published.deconv[i] for i in (0, 1, 1, 2)], strict=True):
        ours.load_state_dict(theirs.state_dict())
    latent = torch.randn(1, 4, 2, 3)
    assert torch.equal(published(latent), fixed(latent))


def test_likelihoods_add_up_to_one():
    torch.manual_seed(0)
    density = FactorizedDensity(3).double()
    symbols = torch.arange(-400, 401, dtype=torch.float64).expand(3, 1, -1)
    torch.testing.assert_close(density.interval(symbols).sum(-1), torch.ones(3, 1, dtype=torch.float64))


def test_tail_likelihoods_are_exact():
    """In both tails, where 1 - cumulative is lost in rounding; the derivative of the cumulative is the witness."""
    density = FactorizedDensity(2).double()
    for value in (-300.0, 300.0):
        points = torch.full((2, 1, 1), value, dtype=torch.float64, requires_grad=True)
        logits = density.logits(points)
        slope = torch.autograd.grad(logits.sum(), points)[0]
        sigmoid = torch.sigmoid(-logits.abs())
        middle = sigmoid * (1 - sigmoid) * slope
        likelihood = density.interval(points)
        assert (likelihood > 0).all()
        torch.testing.assert_close(likelihood, middle, rtol=0.05, atol=0)


def test_tables_cost_what_the_density_says():
    torch.manual_seed(0)
    density = FactorizedDensity(4)
    symbols = torch.randn(1, 4, 30, 40).mul(8).round()
    tables = density.tables()
    expected = float(bits_of(density(symbols)).detach())
    assert tables.bits(symbols.numpy(), np.arange(4)) == pytest.approx(expected, rel=0.005)
