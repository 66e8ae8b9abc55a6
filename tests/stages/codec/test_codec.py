"""Pictures to payloads and back."""

import pytest
import torch

from stages.codec import BitstreamError, CodecError, load_codec

NAMES = ["bls17", "bmshj18", "ndic_bls17", "ndic_bmshj18", "cross_attention", "dsin"]
WITH_SIDE = ["ndic_bls17", "ndic_bmshj18", "cross_attention", "dsin"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (33, 17), (64, 128)])
def test_any_size_comes_back_with_its_symbols(codecs, picture, name, height, width):
    codec, x = codecs[name], picture(height, width)
    payload = codec.encode(x)
    x_hat = codec.decode(payload, picture(height, width, 1))
    assert x_hat.shape == x.shape
    assert x_hat.dtype == torch.float32
    assert 0 <= x_hat.min() <= x_hat.max() <= 1
    tile = (32, 64) if name == "cross_attention" else (16, 16)
    shape = [-(-n // m) * m // 16 for n, m in zip((height, width), tile, strict=True)]
    assert codec.symbols(payload).shape == (8, *shape)
    assert codec.symbols(payload).dtype == torch.int32


def test_symbols_are_the_rounded_latent(codecs, picture):
    codec, x = codecs["ndic_bls17"], picture(64, 128)
    latent = codec._model.g_a(x)[0]
    assert latent.abs().max() > 2, "the case should have something to code"
    assert torch.equal(codec.symbols(codec.encode(x)), latent.round().int())


def test_overhead_is_at_most_sixteen_bytes(codecs, picture):
    codec = codecs["ndic_bls17"]
    for seed in range(20):
        payload = codec.encode(picture(64, 128, seed))
        bits = codec._tables.bits(codec.symbols(payload).numpy(), range(8))
        assert len(payload) <= bits / 8 + 16


@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_change_symbols(codecs, picture, name):
    codec = codecs[name]
    payload = codec.encode(picture(96, 160))
    before = torch.get_num_threads()
    try:
        symbols = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            symbols.append(codec.symbols(payload))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*symbols)


@pytest.mark.parametrize("name", WITH_SIDE)
def test_prepared_side_view_gives_the_same_picture(codecs, picture, name):
    codec, side = codecs[name], picture(40, 56, 1)
    payload = codec.encode(picture(40, 56))
    prepared = codec.prepare(side)
    assert torch.equal(codec.decode(payload, prepared=prepared), codec.decode(payload, side))
    assert not torch.equal(codec.decode(payload, side), codec.decode(payload, picture(40, 56, 2)))


def test_clamp_can_be_left_out(codecs, picture):
    codec = codecs["bls17"]
    payload = codec.encode(picture(32, 32))
    unclamped = codec.decode(payload, clamp=False)
    assert unclamped.min() < 0 or unclamped.max() > 1
    assert torch.equal(unclamped.clamp(0, 1), codec.decode(payload))


def test_missing_side_view_is_one_sentence(codecs, picture):
    codec = codecs["ndic_bls17"]
    assert codec.needs_side
    with pytest.raises(CodecError, match="can't decode without a side view"):
        codec.decode(codec.encode(picture(32, 32)))


def test_side_view_of_another_size_is_one_sentence(codecs, picture):
    codec = codecs["ndic_bls17"]
    payload, side = codec.encode(picture(32, 32)), picture(32, 31)
    for given in ({"side": side}, {"prepared": codec.prepare(side)}):
        with pytest.raises(BitstreamError, match="32 x 32 pixels, the side view of 31 x 32"):
            codec.decode(payload, **given)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(2, 3, 8, 8),
        torch.zeros(1, 1, 8, 8),
        torch.zeros(1, 3, 0, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_tensor_that_is_no_picture_is_refused(codecs, x):
    with pytest.raises(CodecError, match=r"float32 of shape \(1, 3, H, W\)"):
        codecs["bls17"].encode(x)


def test_picture_that_is_not_finite_is_refused(codecs):
    with pytest.raises(CodecError, match="finite"):
        codecs["bls17"].encode(torch.full((1, 3, 16, 16), float("nan")))


def test_quality_out_of_range_is_refused(codecs, picture):
    with pytest.raises(CodecError, match="only 0"):
        codecs["bls17"].encode(picture(16, 16), quality=3)


def test_quality_of_another_codec_is_refused(codecs, picture):
    payload = bytearray(codecs["bls17"].encode(picture(16, 16)))
    payload[5] = 9
    with pytest.raises(BitstreamError, match="quality 9"):
        codecs["bls17"].decode(bytes(payload))


@pytest.mark.parametrize("limit", [{"max_pixels": 1023}, {}])
def test_more_than_max_pixels_is_refused(weights_paths, picture, limit):
    codec = load_codec(weights_paths["bls17"], max_pixels=1 << 25 if limit else 1023)
    payload = codec.encode(picture(32, 32))
    with pytest.raises(BitstreamError, match="max_pixels"):
        codec.decode(payload, **limit)


def test_huge_size_in_the_header_is_refused_at_once(codecs, picture):
    payload = codecs["bls17"].encode(picture(16, 16))
    with pytest.raises(BitstreamError, match="can't hold"):
        codecs["bls17"].decode(b"\xff\xff\xff\xff" + payload[4:], max_pixels=1 << 33)


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_noticed(codecs, picture, name):
    """16 bits of checksum let one in 65536 damaged payloads pass; none of these is among them."""
    codec = codecs[name]
    payload = codec.encode(picture(32, 48))
    for bit in range(0, 8 * len(payload), 1 if len(payload) < 1000 else 7):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            codec.symbols(bytes(damaged))


def test_header_says_size_and_quality(codecs, picture):
    header = codecs["bls17"].header(codecs["bls17"].encode(picture(20, 30)))
    assert (header.width, header.height, header.quality) == (30, 20, 0)


def test_unknown_devices_are_refused(weights_paths):
    for device in ("tpu-ish", "meta", "cuda:99"):
        with pytest.raises(CodecError, match="device"):
            load_codec(weights_paths["bls17"], device=device)


def test_auto_device_is_there(weights_paths):
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert load_codec(weights_paths["bls17"], device="auto").device.type == expected
