"""The fusion network, and decoding without a side view."""

import pytest
import torch

from stages.codec.dsin import Dsin, FusionNet


def test_fusion_starts_with_the_draft():
    torch.manual_seed(0)
    draft, patches = torch.rand(2, 1, 3, 40, 48).unbind(0)
    x_hat = FusionNet(32)(draft, patches)
    assert (x_hat - draft).abs().mean() < 0.02


def test_without_a_side_view_the_draft_is_the_picture(codecs, picture):
    codec = codecs["dsin"]
    payload = codec.encode(picture(40, 56))
    draft = codec._model.g_s(codec.symbols(payload)[None].float())
    torch.testing.assert_close(codec.decode(payload), draft.clamp(0, 1)[..., :40, :56])
    assert not torch.equal(codec.decode(payload), codec.decode(payload, picture(40, 56, 1)))


def test_search_compares_with_the_codec_s_own_reconstruction_of_the_side_view(codecs, picture):
    model, side = codecs["dsin"]._model, picture(48, 64, 1)
    prepared = model.prepare(side)
    assert torch.equal(prepared.picture, side)
    torch.testing.assert_close(prepared.draft, codecs["dsin"].decode(codecs["dsin"].encode(side), clamp=False))


@pytest.mark.parametrize("width", [0, 5, 1000])
def test_impossible_width_is_refused(width):
    with pytest.raises(ValueError, match="6 to 512"):
        Dsin(4, width)
