"""Procedural surfaces of a street: detail at all scales (1/f noise), as natural pictures have it.

All are (H, W, 3) uint8 RGB, or (H, W, 4) with alpha where the thing has an outline. PPM is pixels per metre.
"""

from __future__ import annotations

from math import log2
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipeline.types import Pixels

__all__ = [
    "CAR_COLOURS",
    "CAR_PPM",
    "GROUND_LENGTH_M",
    "GROUND_PPM",
    "GROUND_WIDTH_M",
    "PPM",
    "Texture",
    "car_back",
    "car_side",
    "facade",
    "ground",
    "hedge",
    "pink_noise",
    "sky",
    "tree",
]

GROUND_WIDTH_M, GROUND_LENGTH_M, GROUND_PPM = 24, 48, 40
PPM = 40

Plane = NDArray[np.float32]
Colour = tuple[float, float, float]

CAR_PPM = 128
CAR_COLOURS: tuple[Colour, ...] = (
    (44, 46, 52),
    (178, 180, 184),
    (120, 30, 28),
    (216, 216, 214),
    (38, 58, 104),
    (98, 100, 102),
)


class Texture:
    """A surface with smaller copies of itself, halved in width and height independently, so that nothing aliases."""

    def __init__(self, pixels: Pixels, ppm: float = PPM) -> None:
        self.ppm = ppm
        self._levels: dict[tuple[int, int], Pixels] = {(0, 0): np.ascontiguousarray(pixels)}

    def fitting(self, ppm_x: float, ppm_y: float) -> Pixels:
        """The smallest copy that still has about that many pixels per metre."""
        return self.level(self._halvings(ppm_x, 1), self._halvings(ppm_y, 0))

    def level(self, x: int, y: int) -> Pixels:
        """The copy that is halved `x` times in width and `y` times in height."""
        if (x, y) not in self._levels:
            full = self._levels[0, 0]
            size = (max(1, full.shape[1] >> x), max(1, full.shape[0] >> y))
            self._levels[x, y] = cv2.resize(full, size, interpolation=cv2.INTER_AREA)
        return self._levels[x, y]

    def _halvings(self, ppm: float, axis: int) -> int:
        most = int(log2(self._levels[0, 0].shape[axis])) - 1
        return max(0, min(most, int(log2(self.ppm / max(ppm, 1e-3)) + 0.25)))


def pink_noise(rng: Generator, height: int, width: int, power: float = 1.0) -> Plane:
    """(height, width) float32 of mean 0 and deviation 1 that tiles, amplitude falling with frequency ** power."""
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None] * width
    amplitude = np.hypot(fy, fx)
    amplitude[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((height, width)))
    noise = np.fft.irfft2(white / amplitude**power, s=(height, width))
    return np.asarray(noise / noise.std(), np.float32)


def ground(rng: Generator) -> Pixels:
    """Road, pavements and grass from above: rows along the road (tiling), columns from left to right."""
    h, w, ppm = GROUND_LENGTH_M * GROUND_PPM, GROUND_WIDTH_M * GROUND_PPM, GROUND_PPM
    coarse, fine = _smooth_noise(rng, h, w, 1.2), pink_noise(rng, h, w, 0.35)
    asphalt: Plane = 104 + 9 * coarse + 9 * fine
    picture: Plane = asphalt[..., None] * np.array([1.0, 0.99, 0.98], np.float32)
    _repair_road(rng, picture, ppm)

    def columns(start_m: float, end_m: float) -> slice:
        return slice(round((start_m + GROUND_WIDTH_M / 2) * ppm), round((end_m + GROUND_WIDTH_M / 2) * ppm))

    for part in (columns(-12, -7.4), columns(6.6, 12)):
        a, b = coarse[:, part], fine[:, part]
        picture[:, part] = np.stack([92 + 18 * a + 24 * b, 104 + 20 * a + 24 * b, 58 + 9 * a + 16 * b], -1)
    for part in (columns(-7.4, -5.3), columns(4.1, 6.6)):
        stone = 150 + 10 * coarse[:, part] + 8 * fine[:, part]
        stone[:: ppm // 2] *= 0.78
        stone[:, :: ppm // 2] *= 0.78
        picture[:, part] = stone[..., None] * np.array([1.0, 0.97, 0.93], np.float32)
    for part in (columns(-5.35, -5.15), columns(3.95, 4.15)):
        picture[:, part] = 178 + 12 * fine[:, part, None]
    paint = np.zeros((h, w), bool)
    for start in range(0, h, 8 * ppm):
        paint[start : start + 4 * ppm, columns(-1.83, -1.67)] = True
    paint[:, columns(1.89, 2.01)] = True
    for start in range(0, h, 6 * ppm):
        paint[start : start + 5, columns(1.95, 3.95)] = True
    worn = np.clip(0.85 + 0.2 * fine[paint], 0.2, 1)[:, None]
    picture[paint] = picture[paint] * (1 - worn) + 214 * worn
    shade = cv2.GaussianBlur((_smooth_noise(rng, h, w, 1.4) > 0.75).astype(np.float32), (0, 0), 3)[..., None]
    return _to_pixels(picture * (1 - shade * np.array([0.5, 0.47, 0.42], np.float32)))


def _smooth_noise(rng: Generator, height: int, width: int, power: float) -> Plane:
    """Like `pink_noise`, without the finest detail and four times as fast."""
    small = pink_noise(rng, height // 2, width // 2, power)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _repair_road(rng: Generator, picture: NDArray[np.float32], ppm: int) -> None:
    """Patches, cracks and manholes on the carriageway."""
    h, w = picture.shape[:2]
    for _ in range(9):
        top, left = rng.integers(0, h - 200), w // 2 + int(rng.uniform(-5, 2) * ppm)
        picture[top : top + rng.integers(40, 200), left : left + rng.integers(30, 90)] *= rng.uniform(0.8, 1.08)
    for _ in range(26):
        start = np.array([w / 2 + rng.uniform(-5, 3.8) * ppm, rng.uniform(0, h)])
        steps = rng.normal(0, 4, (40, 2)) + rng.normal(0, 3, 2)
        points = (start + np.cumsum(steps, 0)).astype(np.int32)
        cv2.polylines(picture, [points], False, (58, 57, 56), 1, cv2.LINE_AA)
    for z in (11.0, 30.0):
        centre = (w // 2 + int(rng.uniform(-1.2, 1.2) * ppm), int(z * ppm))
        cv2.circle(picture, centre, int(0.36 * ppm), (66, 64, 62), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, int(0.30 * ppm), (88, 86, 84), 2, cv2.LINE_AA)


def facade(rng: Generator, width_m: float = 10, height_m: float = 9) -> Pixels:
    """A house front with plinth, windows, a door and a tiled roof."""
    h, w = int(height_m * PPM), int(width_m * PPM)
    wall_colours = [
        (206, 196, 176),
        (188, 176, 160),
        (176, 128, 104),
        (214, 204, 192),
        (168, 170, 170),
        (200, 178, 132),
    ]
    colour = np.array(wall_colours[rng.integers(len(wall_colours))], np.float32) * rng.uniform(0.75, 1.05)
    noise = 8 * pink_noise(rng, h, w, 1.1) + 5 * pink_noise(rng, h, w, 0.2)
    picture = colour + noise[..., None]
    if rng.random() < 0.4:
        rows, columns = np.arange(h)[:, None], np.arange(w)[None]
        mortar = (rows % 6 == 0) | ((columns + (rows // 6 % 2) * 8) % 16 == 0)
        picture[mortar] *= 0.86
    roof = int(rng.uniform(1.3, 2.4) * PPM)
    _draw_roof(rng, picture, roof)
    picture[-int(0.6 * PPM) :] *= 0.72
    pitch = w / rng.integers(3, 5)
    storeys = 2 if height_m < 8 else 3
    storey = (h - roof) / storeys
    door = rng.integers(0, 3)
    for row in range(storeys):
        for column in range(int(w / pitch)):
            left, top = int((column + 0.27) * pitch), int(roof + (row + 0.24) * storey)
            is_door = row == storeys - 1 and column == door
            _draw_opening(rng, picture, left, top, int(0.46 * pitch), int((0.76 if is_door else 0.5) * storey), is_door)
    return _to_pixels(picture)


def _draw_roof(rng: Generator, picture: NDArray[np.float32], rows: int) -> None:
    tone = np.array([[124, 70, 54], [96, 82, 76], [84, 66, 58]][rng.integers(3)], np.float32)
    waves = 12 * np.sin(np.arange(picture.shape[1]) * 0.8) + 14 * np.sin(np.arange(rows)[:, None] * 0.9)
    picture[:rows] = tone + (waves + 10 * pink_noise(rng, rows, picture.shape[1], 0.5))[..., None]
    picture[rows : rows + 4] *= 0.45


def _draw_opening(
    rng: Generator, picture: NDArray[np.float32], left: int, top: int, width: int, height: int, is_door: bool
) -> None:
    frame = picture[top - 3 : top + height + 3, left - 3 : left + width + 3]
    frame[...] = rng.uniform(195, 235)
    pane = picture[top : top + height, left : left + width]
    if is_door:
        pane[...] = np.array([86, 58, 42], np.float32) + 8 * pink_noise(rng, height, width, 1.0)[..., None]
        pane[: height // 4] = 50
        return
    glow = np.linspace(92, 34, height, dtype=np.float32)[:, None] + 14 * pink_noise(rng, height, width, 1.3)
    pane[...] = glow[..., None] * np.array([0.86, 0.96, 1.1], np.float32)
    if rng.random() < 0.5:
        pane[: int(height * rng.uniform(0.2, 0.7))] = 176 + 10 * rng.standard_normal()
    pane[:, width // 2 - 1 : width // 2 + 1] = 205
    pane[height // 3 : height // 3 + 2] = 205
    sill = picture[top + height + 3 : top + height + 7, left - 5 : left + width + 5]
    sill[...] = 120


def hedge(rng: Generator, width_m: float = 10, height_m: float = 1.3) -> Pixels:
    """Clipped leaves, dark at the foot."""
    h, w = int(height_m * PPM), int(width_m * PPM)
    light = np.linspace(1.15, 0.5, h, dtype=np.float32)[:, None]
    return _leaves(rng, h, w, light)


def _leaves(rng: Generator, h: int, w: int, light: Plane) -> Pixels:
    tone = 1 + 0.3 * pink_noise(rng, h, w, 1.2) + 0.38 * pink_noise(rng, h, w, 0.35)
    green = np.array([[74, 92, 40], [58, 80, 38], [96, 98, 44], [104, 84, 40]][rng.integers(4)], np.float32)
    return _to_pixels(green * (np.clip(tone, 0.15, 2.2) * light)[..., None])


def tree(rng: Generator, side: int = 288) -> Pixels:
    """(side, side, 4): a crown of irregular outline on a trunk."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side * 2 - 1
    radius = np.hypot(x / 0.8, (y + 0.25) / 0.68)
    ragged = 0.11 * pink_noise(rng, side, side, 1.1) + 0.07 * pink_noise(rng, side, side, 0.5)
    crown = np.clip((1 - radius + ragged) * 14, 0, 1)
    light = 0.9 - 0.45 * y + 0.3 * x
    rgb = _leaves(rng, side, side, np.clip(light, 0.35, 1.5)).astype(np.float32)
    trunk = (np.abs(x - 0.03 * np.sin(5 * y)) < 0.055) & (y > 0.1)
    bark = np.array([86, 72, 60], np.float32) * (1 + 0.25 * pink_noise(rng, side, side, 0.7) - 0.4 * x * 8)[..., None]
    rgb = np.where((trunk & (crown < 0.5))[..., None], bark, rgb)
    alpha = np.maximum(crown, trunk.astype(np.float32))
    return _to_pixels(np.dstack([rgb, alpha * 255]))


def car_back(rng: Generator, colour: Colour) -> Pixels:
    """(192, 224, 4): 1.75 m wide, 1.5 m high, seen from behind."""
    canvas = _blank_car(112, colour)
    _fill(canvas, [(2, 82), (110, 82), (110, 95), (2, 95)], (20, 20, 22))
    _fill(canvas, [(0, 46), (5, 5), (12, 2), (100, 2), (107, 5), (112, 46)], colour, 0.9)
    _fill(canvas, [(0, 42), (112, 42), (112, 82), (0, 82)], colour)
    _fill(canvas, [(10, 38), (15, 10), (97, 10), (102, 38)], (38, 44, 52))
    _fill(canvas, [(32, 20), (54, 11), (60, 11), (36, 36)], (76, 88, 98))
    _fill(canvas, [(4, 44), (17, 44), (16, 60), (4, 60)], (168, 26, 22))
    _fill(canvas, [(108, 44), (95, 44), (96, 60), (108, 60)], (168, 26, 22))
    _fill(canvas, [(41, 56), (71, 56), (71, 64), (41, 64)], (226, 226, 220))
    _fill(canvas, [(0, 71), (112, 71), (112, 82), (0, 82)], (44, 44, 46))
    _fill(canvas, [(24, 82), (88, 82), (88, 90), (24, 90)], (34, 34, 36))
    return _finish_car(rng, canvas)


def car_side(rng: Generator, colour: Colour) -> Pixels:
    """(192, 544, 4): 4.25 m long, 1.5 m high, the back at the left."""
    canvas = _blank_car(272, colour)
    _fill(canvas, [(4, 78), (266, 78), (258, 95), (8, 95)], (24, 24, 26))
    _fill(canvas, [(0, 46), (3, 5), (10, 2), (140, 2), (194, 38), (256, 50), (268, 80), (0, 82)], colour)
    _fill(canvas, [(14, 38), (22, 10), (54, 10), (54, 38)], (40, 46, 54))
    _fill(canvas, [(60, 38), (60, 10), (100, 10), (100, 38)], (44, 50, 58))
    _fill(canvas, [(106, 38), (106, 10), (138, 10), (178, 38)], (48, 54, 62))
    _fill(canvas, [(0, 70), (266, 70), (267, 80), (0, 82)], colour, 0.55)
    _fill(canvas, [(103, 40), (105, 40), (105, 74), (103, 74)], colour, 0.6)
    for radius, tone in ((18, 20), (11, 132), (4, 60)):
        for centre in (50, 214):
            cv2.circle(canvas, (2 * centre, 156), 2 * radius, (tone, tone, tone + 3, 255), -1, cv2.LINE_AA)
    return _finish_car(rng, canvas)


def _blank_car(width: int, colour: Colour) -> Pixels:
    """Transparent, but of the car's colour, so that no dark fringe appears where it is scaled."""
    canvas = np.zeros((192, 2 * width, 4), np.uint8)
    canvas[..., :3] = colour
    return canvas


def _fill(canvas: Pixels, points: list[tuple[int, int]], colour: Colour, shade: float = 1.0) -> None:
    r, g, b = colour
    outline = np.array(points, np.int32) * 2
    cv2.fillPoly(canvas, [outline], (r * shade, g * shade, b * shade, 255), cv2.LINE_AA)


def _finish_car(rng: Generator, canvas: Pixels) -> Pixels:
    """Light from above and a little dirt, without touching the outline."""
    h, w = canvas.shape[:2]
    light = np.linspace(1.18, 0.82, h, dtype=np.float32)[:, None] + 0.05 * pink_noise(rng, h, w, 1.0)
    return _to_pixels(np.dstack([canvas[..., :3] * light[..., None], canvas[..., 3]]))


def sky(rng: Generator, height: int, width: int, horizon: float) -> Pixels:
    """Sky with clouds, and a far line of trees that stands on row `horizon`."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    depth = np.clip(rows / horizon, 0, 1)
    clear = (1 - depth)[..., None] * (112, 156, 212) + depth[..., None] * (206, 216, 224)
    # Powers of two in size, since the noise is made by FFT.
    clouds = cv2.resize(pink_noise(rng, 256, 512, 1.55), (width, height), interpolation=cv2.INTER_CUBIC)
    cover = np.clip(0.45 + 0.5 * clouds, 0, 1)[..., None]
    picture = clear * (1 - cover) + (236 + 9 * clouds[..., None]) * cover
    outline = pink_noise(rng, 2, 1024, 0.8)[0]
    tops = horizon - height * (0.05 + 0.016 * cv2.resize(outline[None], (width, 1), interpolation=cv2.INTER_CUBIC))
    woods = _leaves(rng, height, width, np.full((height, 1), 0.8, np.float32)).astype(np.float32)
    alpha = np.clip(rows - tops, 0, 1)[..., None]
    hazy = woods * 0.45 + np.array([186, 196, 204], np.float32) * 0.55
    return _to_pixels(picture * (1 - alpha) + hazy * alpha)


def _to_pixels(picture: NDArray[Any]) -> Pixels:
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)
