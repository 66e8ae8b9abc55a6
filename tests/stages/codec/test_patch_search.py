"""Patches of the side view are found where they resemble the decoded picture."""

import pytest
import torch

from stages.codec.patch_search import PATCH, _colours, _correlation, _mask, _places, _spread, aligned_patches


def textured(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


def test_shifted_view_is_put_back():
    """A side view that is the picture moved by (2, 7) pixels: all inner patches come back exactly."""
    scene = textured(100, 136)
    x, side = scene[..., :80, :120], scene[..., 2:82, 7:127]
    found = aligned_patches(x, side, side)
    assert torch.equal(found[..., 20:, 24:], x[..., 20:, 24:])


def test_what_is_taken_is_the_original_side_view():
    scene = textured(60, 96)
    found = aligned_patches(scene, scene, 1 - scene)
    assert torch.equal(found, 1 - scene)


def test_nearer_of_two_equal_patches_is_taken():
    """Without the mask the first of them would win."""
    tile = textured(20, 24, 1)
    scene = tile.repeat(1, 1, 3, 4)
    side = scene.clone()
    mark = torch.arange(12).reshape(1, 1, 3, 4).repeat_interleave(20, 2).repeat_interleave(24, 3)
    assert torch.equal(aligned_patches(scene, side, mark.expand(1, 3, 60, 96).float())[0, 0], mark[0, 0].float())


def test_correlation_is_pearson_s():
    side, patches = textured(48, 60)[0], torch.rand(2, 3, *PATCH)
    found = _correlation(patches, side, _spread(side))
    for row, column in ((0, 0), (13, 30), (28, 36)):
        window = side[:, row : row + PATCH[0], column : column + PATCH[1]]
        for patch, value in zip(patches, found[:, row, column], strict=True):
            expected = torch.corrcoef(torch.stack([patch.flatten(), window.flatten()]))[0, 1]
            assert float(value) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.5, float("nan"), float("inf")])
def test_flat_or_forged_pictures_give_patches_all_the_same(value):
    side = textured(40, 48)
    found = aligned_patches(torch.full((1, 3, 40, 48), value), side, side)
    assert set(found.unique().tolist()) <= set(side.unique().tolist())


@pytest.mark.parametrize("size", [(1, 1), (19, 25), (40, 48), (41, 100)])
def test_any_size_and_batch(size):
    pictures = torch.rand(2, 3, *size)
    assert aligned_patches(pictures, pictures, pictures).shape == pictures.shape


def test_settling_early_changes_nothing():
    """The whole of every correlation, times the whole of its mask, has its maximum at the same place."""
    x, side = textured(120, 96, 3), textured(120, 96, 4)
    x[..., :40, :48] = side[..., 60:100, 20:68]
    where, colours = _colours(side[0]), _colours(x[0])
    spread = _spread(where)
    for top in (0, 40, 100):
        patches = torch.stack(colours[:, top : top + PATCH[0]].split(PATCH[1], 2))
        mask = _mask(top, torch.arange(4), range(spread.shape[0]), where)
        expected = (_correlation(patches, where, spread) * mask).flatten(1).argmax(1)
        assert _places(patches, where, spread, top) == expected.tolist()
