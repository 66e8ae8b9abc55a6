"""Pictures of any size come to the network's size and back."""

import pytest
import torch

from stages.codec.fit import Padded, Resized, fixed_fit


@pytest.mark.parametrize(("size", "expected"), [((1, 1), (32, 64)), ((32, 64), (32, 64)), ((33, 129), (64, 192))])
def test_padding_goes_to_the_next_multiple_and_back(size, expected):
    fit, x = Padded(32, 64), torch.rand(1, 3, *size)
    padded = fit.apply(x)
    assert padded.shape[2:] == fit.size(*size) == expected
    assert torch.equal(fit.undo(padded, *size), x)
    assert torch.equal(padded[..., -1, -1], x[..., -1, -1])


@pytest.mark.parametrize("size", [(1, 1), (32, 64), (100, 90)])
def test_resizing_goes_to_one_size_and_back(size):
    fit, x = Resized(32, 64), torch.rand(1, 3, *size)
    resized = fit.apply(x)
    assert resized.shape[2:] == fit.size(*size) == (32, 64)
    assert fit.undo(resized, *size).shape == x.shape


def test_the_size_itself_is_left_alone():
    x = torch.rand(1, 3, 32, 64)
    for fit in (Padded(32, 64), Resized(32, 64)):
        assert fit.apply(x) is x


def test_resizing_keeps_what_is_smooth():
    rows = torch.linspace(0, 1, 80)[:, None].expand(80, 100)[None, None].expand(1, 3, 80, 100)
    fit = Resized(32, 64)
    torch.testing.assert_close(fit.undo(fit.apply(rows), 80, 100), rows, rtol=0, atol=0.02)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'stretch', expected one of tiles, resize"):
        fixed_fit("stretch", 32, 64)
