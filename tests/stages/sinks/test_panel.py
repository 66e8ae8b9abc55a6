"""Panels: what they show, and that pictures in them are not resampled."""

from __future__ import annotations

import numpy as np
import pytest
from specimens import decoded, frame

from stages.sinks.panel import ERROR_FULL_SCALE, HEAD_PX, MARGIN_PX, TITLE_PX, cells_of, draw, error_map

LEFT, TOP = MARGIN_PX, MARGIN_PX + HEAD_PX + TITLE_PX


def side(width: int, height: int):
    return frame(view="right", role="side", width=width, height=height)


def test_everything_that_is_known_has_its_cell():
    item = decoded(frame(), side=side(64, 48), complete=True)
    assert [cell.title for cell in cells_of(item)] == [
        "Original, left view",
        "Side view, right",
        "Decoded without the side view",
        "Decoded with the side view",
        "Error without the side view",
        "Error with the side view",
    ]


def test_without_original_and_side_view_there_is_one_picture_and_no_number():
    (cell,) = cells_of(decoded(frame()))
    assert (cell.title, cell.detail) == ("Decoded, no side view", "PSNR unknown here")


@pytest.mark.parametrize(
    ("width", "height", "columns", "scale"),
    [(1242, 375, 1, 1), (640, 480, 2, 1), (320, 96, 1, 2)],
)
def test_pictures_are_shown_pixel_by_pixel(width: int, height: int, columns: int, scale: int):
    item = decoded(frame(width=width, height=height), side=side(width, height), complete=True)
    panel = draw("Frame 0", "tiny", cells_of(item))
    assert panel.shape[1] == 2 * MARGIN_PX + columns * scale * width + (columns - 1) * 14
    shown = panel[TOP : TOP + scale * height : scale, LEFT : LEFT + scale * width : scale]
    assert np.array_equal(shown, item.reference.pixels)


def test_large_pictures_are_shrunk_to_a_screen():
    item = decoded(frame(width=4000, height=1000), complete=True)
    assert draw("Frame 0", "tiny", cells_of(item)).shape[1] < 2000


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 200), (2, 5000), (5000, 2)])
def test_pictures_of_any_shape_make_a_panel_of_bounded_size(width: int, height: int):
    pixels = np.full((height, width, 3), 128, np.uint8)
    panel = draw("Frame 0", "tiny", cells_of(decoded(frame(0, pixels), complete=True)))
    assert max(panel.shape) < 2500 * 3


def test_error_map_is_dark_without_errors_and_bright_at_full_scale():
    original = np.full((4, 6, 3), 100, np.uint8)
    decoded_pixels = original.copy()
    decoded_pixels[:, 3:] += ERROR_FULL_SCALE
    errors = error_map(decoded_pixels, original)
    assert errors[:, :3].max() < 8
    assert errors[:, 3:].mean() > 200
