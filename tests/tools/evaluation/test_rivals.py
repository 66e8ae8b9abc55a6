"""Every classical codec codes and decodes for real."""

from __future__ import annotations

import pytest
from conftest import texture

from pipeline.errors import ConfigError
from stages.similarity import psnr_db
from tools.evaluation.rivals import RIVALS, rivals_of


@pytest.mark.parametrize("name", RIVALS)
def test_more_bytes_bring_the_picture_nearer(name: str) -> None:
    rival, pixels = RIVALS[name], texture(65, 131, seed=3)
    coded = [rival.encode(pixels, quality) for quality in (rival.qualities[0], rival.qualities[-1])]
    coded.sort(key=lambda parts: len(parts.picture))
    worse, better = (psnr_db(rival.decode(parts, 65, 131), pixels) for parts in coded)
    assert len(coded[0].picture) < len(coded[1].picture)
    assert 10 < worse < better


@pytest.mark.parametrize("name", ["hevc444", "hevc420", "h264", "av1"])
def test_parameters_are_the_same_for_all_pictures_of_a_stream(name: str) -> None:
    rival = RIVALS[name]
    first, second = (rival.encode(texture(64, 64, seed), rival.qualities[2]) for seed in (1, 2))
    assert first.parameters == second.parameters
    assert 4 < len(first.parameters) < 150
    assert first.picture != second.picture


def test_hevc_444_at_the_papers_crop_is_what_it_was(data) -> None:
    """Measured on seq04 and seq09 with the first version: .1008 bpp without parameters, 25.67 dB at QP 48."""
    from tools.evaluation.samples import Selection, read_data_sets

    selection = Selection("paper", scenes=("seq04", "seq09"))
    (data_set,) = read_data_sets([data / "kitti_odom_color"], selection)
    rates, qualities = [], []
    for sample in data_set.samples:
        pixels = sample.load(selection).primary
        coded = RIVALS["hevc444"].encode(pixels, 48)
        rates.append(len(coded.picture) * 8 / pixels[..., 0].size)
        qualities.append(psnr_db(RIVALS["hevc444"].decode(coded, 128, 256), pixels))
    assert len(rates) == 17
    assert sum(rates) / 17 == pytest.approx(0.1008, rel=0.02)
    assert sum(qualities) / 17 == pytest.approx(25.67, abs=0.05)


def test_an_unknown_rival_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"no rival called 'vvc' .there are: hevc444"):
        rivals_of(["jpeg", "vvc"])
    assert [rival.name for rival in rivals_of(["jpeg", "av1", "jpeg"])] == ["jpeg", "av1"]
