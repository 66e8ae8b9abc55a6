"""The dashboard's picture: every view in its tile, small enough, and errors as bright as they are large."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.dashboard import Composite
from pipeline.types import Decoded, Frame, Packet, StereoPair
from stages.composite import ERROR_FULL_SCALE, HIGHEST_PX, WIDEST_PX, compose


def frame(level: int, view="left", width: int = 96, height: int = 32) -> Frame:
    return Frame(np.full((height, width, 3), level, np.uint8), view, 7, 0, 0)


def decoded(width: int = 96, height: int = 32, **changes) -> Decoded:
    size = {"width": width, "height": height}
    packet = Packet(7, "left", "primary", 0, 0, b"x" * 8, width, height, 24.0, b"")
    values = {
        "frame": frame(100, **size),
        "side": frame(50, "right", **size),
        "without_side": frame(80, **size),
        "reference": frame(110, **size),
        "packet": packet,
    }
    return Decoded(**{**values, **changes})


def tiles(composite: Composite) -> dict[str, np.ndarray]:
    """Each tile as (H, W, 3) uint8 RGB."""
    picture = cv2.imdecode(np.frombuffer(composite.jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    return {t.name: picture[t.y : t.y + t.height, t.x : t.x + t.width] for t in composite.tiles}


def test_every_picture_of_a_decoded_frame_has_its_tile():
    composite = compose(decoded())
    assert composite.frame_id == 7
    means = {name: tile.mean() for name, tile in tiles(composite).items()}
    assert list(means) == ["decoded", "side", "original", "error", "without", "error_without"]
    for name, level in (("decoded", 100), ("side", 50), ("original", 110), ("without", 80)):
        assert means[name] == pytest.approx(level, abs=2)
    assert means["error"] < means["error_without"]  # 10 levels and 30 levels
    assert [t.title for t in composite.tiles][:2] == ["Decoded, left view", "Side view, right"]


def test_no_error_is_black_and_a_large_one_is_bright():
    none = tiles(compose(decoded(reference=frame(100))))["error"]
    large = tiles(compose(decoded(reference=frame(100 + ERROR_FULL_SCALE))))["error"]
    assert none.mean() < 8
    assert large.mean() > 150


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"reference": None}, ["decoded", "side", "without"]),
        ({"without_side": None}, ["decoded", "side", "original", "error"]),
        ({"side": None, "without_side": None, "reference": None}, ["decoded"]),
    ],
)
def test_what_is_unknown_has_no_tile(changes, names):
    composite = compose(decoded(**changes))
    assert [tile.name for tile in composite.tiles] == names
    assert ("no side view" in composite.tiles[0].title) == ("side" in changes)


def test_an_encoder_shows_its_original_and_the_side_view_if_it_has_it():
    assert [tile.name for tile in compose(frame(9)).tiles] == ["original"]
    pair = StereoPair(frame(9), frame(8, "right", 64, 48))
    assert {t.name: (t.width, t.height) for t in compose(pair).tiles} == {"original": (96, 32), "side": (96, 32)}


@pytest.mark.parametrize(("width", "height"), [(1242, 375), (1920, 1080), (301, 4001), (1, 1)])
def test_pictures_of_any_size_fit(width, height):
    composite = compose(decoded(width, height))
    tile = composite.tiles[0]
    assert 1 <= tile.width <= min(WIDEST_PX, width)
    assert 1 <= tile.height <= min(HIGHEST_PX, height)
    assert len(tiles(composite)) == 6
    assert abs(tile.width / tile.height / (width / height) - 1) < 0.02


def test_what_has_no_picture_is_refused():
    with pytest.raises(ValueError, match="Packet"):
        compose(decoded().packet)
