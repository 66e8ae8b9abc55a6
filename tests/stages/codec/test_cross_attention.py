"""A network of one size codes pictures of any size, and says how."""

import pytest
import torch

from stages.codec import BitstreamError, WeightsError, load_codec
from stages.codec.attention import PatchAttention
from stages.codec.cross_attention import CrossAttention


@pytest.fixture(scope="module")
def resizing(weights_paths):
    return load_codec(weights_paths["cross_attention"], fit="resize")


def test_codec_says_what_it_works_on(codecs, resizing):
    assert codecs["cross_attention"].description["works_on"] == "tiles of 64 x 32 pixels"
    assert resizing.description["works_on"] == "the picture resized to 64 x 32 pixels"
    assert "works_on" not in codecs["bls17"].description


def test_tiles_are_coded_each_for_itself(codecs, picture):
    codec, x, side = codecs["cross_attention"], picture(64, 128), picture(64, 128, 1)
    payload = codec.encode(x)
    x_hat = codec.decode(payload, side)
    for top, left in ((0, 0), (0, 64), (32, 64)):
        part = (..., slice(top, top + 32), slice(left, left + 64))
        alone = codec.encode(x[part])
        latent = (..., slice(top // 16, top // 16 + 2), slice(left // 16, left // 16 + 4))
        assert torch.equal(codec.symbols(payload)[latent], codec.symbols(alone))
        torch.testing.assert_close(codec.decode(alone, side[part]), x_hat[part])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (32, 64), (100, 300)])
def test_resized_pictures_have_as_many_symbols_whatever_their_size(resizing, picture, height, width):
    payload = resizing.encode(picture(height, width))
    assert resizing.symbols(payload).shape == (8, 2, 4)
    assert resizing.decode(payload, picture(height, width, 1)).shape == (1, 3, height, width)


def test_both_ways_agree_at_the_network_s_own_size(codecs, resizing, picture):
    x, side = picture(32, 64), picture(32, 64, 1)
    payload = codecs["cross_attention"].encode(x)
    assert resizing.encode(x) == payload
    assert torch.equal(resizing.decode(payload, side), codecs["cross_attention"].decode(payload, side))


def test_encoder_and_decoder_that_fit_differently_are_told_apart(codecs, resizing, weights_paths):
    assert resizing.model_id != codecs["cross_attention"].model_id
    same = load_codec(weights_paths["cross_attention"], fit="tiles")
    assert same.model_id == codecs["cross_attention"].model_id


def test_forged_size_of_a_resized_picture_is_refused(resizing, picture):
    payload = resizing.encode(picture(32, 64))
    with pytest.raises(BitstreamError, match="max_pixels"):
        resizing.decode(b"\xff\xff\xff\xff" + payload[4:], torch.zeros(1, 3, 65535, 1).expand(1, 3, 65535, 65535))
    with pytest.raises(BitstreamError, match="damaged"):
        resizing.decode(b"\x09\x00\x08\x00" + payload[4:], torch.zeros(1, 3, 8, 9))


def test_fit_is_refused_for_models_that_take_any_size(weights_paths):
    with pytest.raises(WeightsError, match="bls17 has no setting 'fit'"):
        load_codec(weights_paths["bls17"], fit="tiles")


def test_unknown_fit_is_refused(weights_paths):
    with pytest.raises(WeightsError, match="expected one of tiles, resize"):
        load_codec(weights_paths["cross_attention"], fit="stretch")


@pytest.mark.parametrize("size", [{"height": 40}, {"width": 0}, {"width": 2048}])
def test_impossible_size_is_refused(size):
    with pytest.raises(ValueError, match="expected a multiple of 32 up to 1024"):
        CrossAttention(4, **size)


def test_attention_computes_what_the_paper_says():
    """Patch by patch, head by head."""
    torch.manual_seed(0)
    attention = PatchAttention((8, 12)).eval()
    x, y = torch.randn(2, 1, 3, 8, 12).unbind(0)
    with torch.no_grad():
        tokens = [patches(v) for v in (x, y)]
        q = torch.stack([attention.query(attention.norm(attention.embed_x(t))) for t in tokens[0]])
        kv = torch.stack([attention.key_value(attention.norm(attention.embed_y(t))) for t in tokens[1]])
        heads = []
        for head in range(8):
            part = slice(256 * head, 256 * head + 256)
            weights = (q[:, part] @ kv[:, :2048][:, part].T / 16).softmax(1)
            heads.append(weights @ kv[:, 2048:][:, part])
        expected = attention.unembed(attention.merge(torch.cat(heads, 1)))
        found = torch.stack(patches(attention(x, y)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def patches(x):
    """The 4 x 4 patches of every channel of (1, C, H, W), flat, row by row."""
    rows, columns = x.shape[2] // 4, x.shape[3] // 4
    return [
        channel[rows * i : rows * (i + 1), columns * j : columns * (j + 1)].flatten()
        for channel in x[0]
        for i in range(4)
        for j in range(4)
    ]
