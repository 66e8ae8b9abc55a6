"""What is worked on in pieces, or without zeros, is what it would be at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.codec.disparity import blocks
from stages.codec.disparity.blocks import (
    CellConv,
    DepthConvBlock,
    Pointwise,
    cells,
    halved,
    pixels,
    raised,
    used_channels,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("height", [1, 8, 9, 17, 24])
def test_stripes_equal_the_whole(monkeypatch: pytest.MonkeyPatch, height: int) -> None:
    monkeypatch.setattr(blocks, "STRIPE", 1)
    block, x = DepthConvBlock(6), torch.randn(2, 6, height, 5).to(memory_format=torch.channels_last)
    whole = block(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(block(x.clone(memory_format=torch.preserve_format)), whole)


def test_parts_equal_their_concatenation() -> None:
    layer, parts = Pointwise(9, 4), [torch.randn(2, channels, 3, 5) for channels in (4, 2, 3)]
    expected = F.conv2d(torch.cat(parts, 1), layer.weight, layer.bias)
    torch.testing.assert_close(layer(*parts), expected)
    expected.sum().backward()
    by_convolution, layer.weight.grad = layer.weight.grad, None
    layer(*parts).sum().backward()
    torch.testing.assert_close(layer.weight.grad, by_convolution)


@pytest.mark.parametrize("used", [[], [1], [0, 3, 4]])
def test_channels_of_zeros_are_left_out(used: list[int]) -> None:
    latent, up = torch.zeros(2, 5, 3, 4), nn.Sequential(Pointwise(5, 8), nn.PixelShuffle(2))
    latent[1, used] = torch.randn(len(used), 3, 4)
    assert used_channels(latent) is None, "with gradients all count"
    expected = raised(up, latent, None).detach()
    with torch.no_grad():
        found = used_channels(latent)
        assert found is not None
        assert found.tolist() == used
        torch.testing.assert_close(raised(up, latent, found), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_cells_and_pixels_are_the_shuffles_of_torch(layout: torch.memory_format) -> None:
    picture = torch.rand(2, 3, 8, 12).to(memory_format=layout)
    at_4 = cells(picture, 4, torch.float32)
    assert torch.equal(at_4, F.pixel_unshuffle(picture, 4))
    assert at_4.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels(at_4.contiguous(memory_format=layout), 4), picture)
    torch.testing.assert_close(halved(picture), F.avg_pool2d(picture, 2))


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_of_cells_is_that_of_the_unshuffled_picture(kernel: int) -> None:
    layer, picture = CellConv(3, 5, kernel, cell=2), torch.rand(2, 3, 8, 12)
    unshuffled = F.pixel_unshuffle(picture, 2)
    expected = F.conv2d(unshuffled, layer.weight, layer.bias, padding=kernel // 2)
    torch.testing.assert_close(layer(picture), expected)


def test_what_is_added_in_place_is_the_product_whatever_the_type() -> None:
    layer, sums, rows = Pointwise(4, 6), torch.rand(15, 6), torch.rand(15, 4)
    with torch.no_grad():
        expected, mixed = sums + layer.of_rows(rows), sums.clone()
        layer.add_to(sums, rows)
        torch.testing.assert_close(sums, expected)
        with torch.autocast("cpu", torch.bfloat16):
            layer.add_to(mixed, rows.bfloat16())
        torch.testing.assert_close(mixed, expected, atol=0.02, rtol=0.02)
