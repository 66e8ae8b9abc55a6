"""Matching finds a known shift, at both scales, and warps along it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.codec.disparity.match import Match, RowSearch, WindowSearch, warp

USE = torch.tensor([True])


def features(height: int = 6, width: int = 40, channels: int = 32) -> Tensor:
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(3))


def shifted(t: Tensor, left: int, up: int = 0) -> Tensor:
    """The side view of `t`: everything `left` cells further left and `up` cells further up."""
    return torch.roll(t, (-up, -left), (2, 3))


def match_rows(primary: Tensor, side: Tensor, values: Tensor, use: Tensor = USE) -> Match:
    search = RowSearch()
    match: Match = search(primary, search.keys(side, values, use))
    return match


@pytest.mark.parametrize(("left", "up"), [(0, 0), (7, 0), (-3, 0), (5, 1), (31, -1)])
def test_row_search_finds_the_shift(left: int, up: int) -> None:
    primary = features()
    match = match_rows(primary, shifted(primary, left, up), shifted(primary, left, up))
    inner = (slice(None), slice(None), slice(1, -1), slice(max(left, 0), 40 + min(left, 0)))
    expected = torch.tensor([-left, -up]).view(1, 2, 1, 1).expand_as(match.offset[inner])
    torch.testing.assert_close(match.offset[inner].round(), expected.float())
    assert match.found[inner][:, -2].mean() > 0.9


@pytest.mark.parametrize("left", [-6, 34])
def test_row_search_ignores_what_is_out_of_reach(left: int) -> None:
    primary = features(width=80)
    match = match_rows(primary, shifted(primary, left), primary)
    middle = match.found[..., 36:-8]
    assert middle[:, -2].mean() < 0.5


def test_row_search_says_no_match_without_side_view() -> None:
    match = match_rows(features(), features(), features(), torch.tensor([False]))
    assert match.found[:, :-1].abs().max() == 0
    assert (match.found[:, -1] == 1).all()


@pytest.mark.parametrize(("left", "up"), [(8, 0), (9, 1), (7, -1), (10, 0), (6, 0)])
def test_window_search_refines_a_guide(left: int, up: int) -> None:
    primary = features(12, 80)
    guide = torch.tensor([-4.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 6, 40)
    search, side = WindowSearch(), shifted(primary, left, up)
    match = search(primary, search.keys(side, side, USE), guide)
    inner = (slice(None), slice(None), slice(1, -1), slice(10, None))
    expected = torch.tensor([-left, -up]).view(1, 2, 1, 1).expand_as(match.offset[inner])
    torch.testing.assert_close(match.offset[inner].round(), expected.float())
    torch.testing.assert_close(match.found[:, :-2][inner], primary[inner], rtol=0.1, atol=0.6)


def test_warp_brings_the_side_view_back() -> None:
    picture = torch.rand(1, 3, 16, 48)
    offset = torch.tensor([-5.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 16, 48)
    back = warp(torch.roll(picture, (2, -5), (2, 3)), offset)
    torch.testing.assert_close(back[:, :, :13, 5:], picture[:, :, :13, 5:], rtol=1e-3, atol=1e-3)
