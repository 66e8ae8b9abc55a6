"""The network of the default codec, with random weights: shapes, exactness, what the side view may and may not do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.codec.disparity.model import Disparity
from stages.codec.disparity.tables import probabilities
from stages.codec.disparity.unaided import Unaided
from stages.codec.entropy import CodingTables


@pytest.fixture
def model() -> Disparity:
    torch.manual_seed(0)
    model = Disparity(latent=8, trunk=16, head=16).eval()
    with torch.no_grad():
        model.analysis.normal_(0, 0.02)
        model.synthesis.normal_(0, 0.02)
    model.set_steps(0.5, 0.05)
    return model


def views(height: int = 48, width: int = 80) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, height, width, generator=rng), torch.rand(1, 3, height, width, generator=rng)


def test_analysis_is_the_same_with_and_without_gradients(model: Disparity) -> None:
    x, _ = views()
    with torch.no_grad():
        inference = model.g_a(x)
    torch.testing.assert_close(model.g_a(x).detach(), inference, rtol=1e-4, atol=1e-4)


def test_linear_synthesis_is_the_transposed_convolution(model: Disparity) -> None:
    latent = torch.randn(2, 8, 3, 5)
    expected = F.conv_transpose2d(latent, model.synthesis, stride=16)[:, :, 8:-8, 8:-8]
    torch.testing.assert_close(
        F.pixel_shuffle(model.linear_cells(latent), 8), expected + model.mean[:, None, None], rtol=1e-4, atol=1e-4
    )


def test_steps_fall_with_quality_and_span_what_was_set(model: Disparity) -> None:
    steps = model.step(torch.linspace(0, 63, 127))[:, :, 0, 0]
    assert (steps.diff(dim=0) < 0).all()
    torch.testing.assert_close(steps[0], torch.full((8,), 0.5))
    torch.testing.assert_close(steps[-1], torch.full((8,), 0.05))


def test_forward_reaches_every_parameter_of_the_decoder(model: Disparity) -> None:
    x, side = views()
    out = model(x, side, torch.tensor([20.0]), torch.tensor([True]))
    (out.bits.sum() + out.picture.x_hat.square().sum() + out.picture.rough.sum() + out.picture.aligned.sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_missing_side_view_is_the_same_as_an_unused_one(model: Disparity) -> None:
    x, side = views()
    quality = torch.tensor([20.0])
    latent = model.g_a(x)
    with torch.no_grad():
        unused = model.g_s(latent, quality, model.prepare_side(side, torch.tensor([False])))
        missing = model.g_s(latent, quality, None)
    torch.testing.assert_close(unused.x_hat, missing.x_hat)


@pytest.fixture(params=[False, True], ids=["shared", "unaided"])
def decoder(model: Disparity, request: pytest.FixtureRequest) -> Disparity:
    """With and without a network of its own for pictures without a side view."""
    if not request.param:
        return model
    found = Disparity(latent=8, trunk=16, head=16, unaided=True).eval()
    found.load_state_dict(found.state_dict() | model.state_dict())
    return found


def test_side_view_that_matches_nowhere_is_left_out(decoder: Disparity) -> None:
    model = decoder
    x, side = views()
    symbols = model.analyse(x, 20.0)
    missing = model.synthesise(symbols, 20.0, None)
    with torch.no_grad():
        model.match_8.no_match.fill_(-50.0)
        matched = model.synthesise(symbols, 20.0, model.prepare(side))
        model.match_8.no_match.fill_(50.0)
        foreign = model.synthesise(symbols, 20.0, model.prepare(side))
    assert (matched - missing).abs().max() > 1e-3
    torch.testing.assert_close(foreign, missing)


def test_network_without_side_view_begins_as_what_both_cases_share(model: Disparity) -> None:
    x, _ = views()
    latent, quality = model.g_a(x), torch.tensor([20.0])
    with torch.no_grad():
        model.film.normal_(0, 0.3)
    unaided = Unaided(latent=8, trunk=16, head=16, anchors=8)
    unaided.take_over(model.state_dict())
    with torch.no_grad():
        shared = model.g_s(latent, quality, None)
        at_8 = model.linear_cells(latent)
        own = unaided(latent, None, at_8, F.pixel_shuffle(at_8, 8), quality / 63)
    torch.testing.assert_close(own, shared.x_hat, rtol=1e-4, atol=1e-4)


def test_network_without_side_view_does_not_touch_pictures_with_one(model: Disparity) -> None:
    x, side = views()
    model.match_8.no_match.data.fill_(-50.0)
    both = Disparity(latent=8, trunk=16, head=16, unaided=True).eval()
    both.load_state_dict(both.state_dict() | model.state_dict())
    symbols = model.analyse(x, 20.0)
    assert torch.equal(
        both.synthesise(symbols, 20.0, both.prepare(side)), model.synthesise(symbols, 20.0, model.prepare(side))
    )
    assert not torch.equal(both.synthesise(symbols, 20.0, None), model.synthesise(symbols, 20.0, None))


def test_synthesis_undoes_analysis_shapes_at_any_multiple(model: Disparity) -> None:
    for height, width in ((16, 16), (16, 160), (112, 32)):
        x, side = views(height, width)
        symbols = model.analyse(x, 10.0)
        assert symbols.shape == (8, height // 16, width // 16)
        assert symbols.dtype == torch.int32
        assert model.synthesise(symbols, 10.0, model.prepare(side)).shape == x.shape


def test_matches_do_not_depend_on_where_in_the_picture_they_are(model: Disparity) -> None:
    """Positions are counted in cells: a picture twice as wide gives the same inside."""
    x, side = views(32, 256)
    wide = [torch.cat([t, t.flip(3)], 3) for t in (x, side)]
    symbols = model.analyse(x, 10.0), model.analyse(wide[0], 10.0)
    narrow = model.synthesise(symbols[0], 10.0, model.prepare(side))
    inside = model.synthesise(symbols[1], 10.0, model.prepare(wide[1]))[..., :64]
    torch.testing.assert_close(narrow[..., :64], inside, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    "config",
    [{"latent": 0}, {"trunk": -1}, {"anchors": 1}, {"head": 10**6}, {"features": 0}, {"blocks_2": 0}, {"columns": 0}],
)
def test_impossible_sizes_are_refused(config: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        Disparity(**config)


def test_tables_cover_every_quality_and_cost_what_the_density_says(model: Disparity) -> None:
    pmfs, offsets = probabilities(model)
    tables = CodingTables.build(pmfs, offsets)
    assert len(tables) == 64 * 8
    x, _ = views(112, 208)
    for quality in (0.0, 31.4, 63.0):
        symbols = model.analyse(x, quality)
        step = model.step(torch.tensor([round(quality)], dtype=torch.float32))
        estimate = model.bits(symbols[None] * step, step).item()
        index = model.table_index(quality, *symbols.shape[1:])
        assert tables.bits(symbols.numpy(), index) == pytest.approx(estimate, rel=0.02, abs=16)
