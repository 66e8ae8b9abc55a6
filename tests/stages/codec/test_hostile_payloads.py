"""Ten thousand damaged payloads in one process of its own: each a BitstreamError or a frame, in bounded memory."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.codec import BitstreamError, load_codec, weights_file
from stages.codec.coding import read
from stages.codec.container import HEADER_BYTES, Header, checksum, pack, parse
from stages.codec.entropy import SymbolReader, encode_groups

ROOT = Path(__file__).parents[3]
MAX_PIXELS = 1 << 15


def mutated(payload, rng):
    """Bits flipped, bytes replaced, cut, lengthened, repeated, or random altogether; sizes and words alike."""
    data = bytearray(payload)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, max(len(data), 1)))
        match int(rng.integers(0, 8)):
            case 0 if data:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1 if data:
                data[at] = int(rng.integers(0, 256))
            case 2:
                del data[at:]
            case 3:
                data += rng.bytes(int(rng.integers(1, 64)))
            case 4:
                data[at:at] = data[at : at + int(rng.integers(1, 32))]
            case 5:
                data[:4] = rng.integers(0, [300, 65536][rng.integers(0, 2)], 2).astype("<u2").tobytes()
            case 6:
                data[HEADER_BYTES:] = rng.bytes(int(rng.integers(0, 400)))
            case 7:
                data[:4] = rng.integers(1, 260, 2).astype("<u2").tobytes()
    return bytes(data)


def made_valid(codec, payload):
    """The payload that stands for whatever symbols the damaged words decode to; unchanged if they don't at all."""
    try:
        header, words = codec.header(payload), payload[HEADER_BYTES:]
        if header.width * header.height > MAX_PIXELS:
            return payload
        h, w = (n // 16 for n in codec._fit.size(header.height, header.width))
        endless = words[: len(words) // 4 * 4] + bytes(1 << 16)  # what a decoder takes missing words for
        coded = read(codec._model, SymbolReader(endless, codec._tables), header.quality, h, w)
    except (BitstreamError, AssertionError, ValueError):
        return payload
    check = checksum(header, *coded.symbols)
    return pack(header, check, encode_groups(coded.groups, codec._tables))


def attack(path, count):
    """What became of `count` mutated payloads, and the peak memory before and after, in KiB."""
    torch.set_num_threads(1)
    codec, rng = load_codec(path, max_pixels=MAX_PIXELS), np.random.default_rng(6)
    rows, columns = np.mgrid[:64, :128] / 25
    x = torch.from_numpy(np.stack([np.sin(rows + columns * k) / 2 + 0.5 for k in range(3)])[None].astype(np.float32))
    payloads = [codec.encode((x * gain).clamp(0, 1)) for gain in (0.3, 0.6, 0.9)]
    for payload in payloads * 5:
        codec.decode(payload, x)
    large = codec.encode(torch.rand(1, 3, 128, 256))
    codec.decode(large, torch.rand(1, 3, 128, 256))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"refused": 0, "frames": 0, "other_sizes": 0}
    for i in range(count):
        payload = mutated(payloads[i % 3], rng)
        if i % 2:
            payload = made_valid(codec, payload)
        try:
            header = codec.header(payload)
            size = (header.height, header.width) if header.width * header.height <= MAX_PIXELS else (1, 1)
            side = torch.zeros(1, 3, *size) if codec.needs_side or i % 3 else None
            x_hat = codec.decode(payload, x if i % 5 == 0 else side)
        except BitstreamError:
            outcomes["refused"] += 1
        else:
            assert x_hat.shape == (1, 3, *size)
            outcomes["frames"] += 1
            outcomes["other_sizes"] += size != (64, 128)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**outcomes, "before": before, "after": after}


SHIPPED = [("default", 1_000)] if weights_file.ALIASES["default"] in weights_file.shipped() else []
OTHERS = [("bmshj18", 300), ("ndic_bmshj18", 300), ("cross_attention", 200), ("dsin", 300)]


@pytest.mark.parametrize(("name", "count"), [("ndic_bls17", 10_000), *OTHERS, *SHIPPED])
def test_mutated_payloads_are_refused_or_decoded(weights_paths, name, count):
    command = [sys.executable, __file__, str(weights_paths.get(name, name)), str(count)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert outcome["refused"] + outcome["frames"] == count
    assert outcome["refused"] > count / 3
    assert outcome["frames"] > count / 50
    assert outcome["other_sizes"] > count / 1000
    assert outcome["after"] < 1.5 * outcome["before"]


@pytest.mark.parametrize("name", ["ndic_bls17", "bmshj18"])
def test_a_valid_checksum_is_what_the_decoder_expects(codecs, picture, name):
    payload = codecs[name].encode(picture(64, 128))
    wrong = payload[:6] + b"\0\0" + payload[HEADER_BYTES:]
    assert made_valid(codecs[name], wrong) == payload
    assert isinstance(parse(payload)[0], Header)


if __name__ == "__main__":
    print(json.dumps(attack(sys.argv[1], int(sys.argv[2]))))
