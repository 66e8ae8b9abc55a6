"""A street that never ends, drawn from any point of the drive: pixels and true disparity of either camera.

The world is made of slots along the road whose content is drawn from (seed, side, number), so every frame can be made
on its own and comes out the same in every process. Surfaces are planes: the ground, walls along the road, and faces
across it; they are painted from far to near. X right, Y down, Z ahead, metres; the camera is 1.65 m above the ground.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import Pixels, View
from stages.sources import street_textures as textures
from stages.sources.street_textures import CAR_PPM, GROUND_LENGTH_M, GROUND_PPM, GROUND_WIDTH_M, Texture

__all__ = ["Rig", "Street", "street_of"]

CAMERA_HEIGHT_M = 1.65
SLOT_M = 10.0
SLOTS_AHEAD = 12
NEAR_M = 1.0
HAZE_M = 240.0
HAZE = (200, 209, 217)

Disparity = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rig:
    """The two cameras."""

    width: int
    height: int
    focal_px: float
    baseline_m: float

    @property
    def centre(self) -> tuple[float, float]:
        """The principal point, px."""
        return (self.width - 1) / 2, self.height * 0.46


@dataclass(frozen=True, slots=True)
class Face:
    """A rectangle with a texture: along the road at constant X, or across it at constant Z."""

    texture: Texture
    along: bool
    x: float
    """Where it starts, and all of it if `along`."""
    z: float
    length: float
    top: float
    """Height of its upper edge above the ground; below it ends at `bottom`."""
    bottom: float = 0.0

    @property
    def far(self) -> float:
        """Z of its far edge."""
        return self.z + self.length if self.along else self.z


@dataclass(slots=True)
class _Canvas:
    """A view in the making."""

    pixels: Pixels
    disparity: Disparity
    x: float
    z: float
    """Where the camera is."""
    cx: float
    cy: float


@lru_cache(maxsize=2)
def street_of(rig: Rig, seed: int) -> Street:
    """The street of that seed, the same object for all sources of a process: painting its surfaces takes a while."""
    return Street(rig, seed)


class Street:
    """Draws views of the street of one seed. May be used by several threads at once."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig, self._seed = rig, seed
        rng = np.random.default_rng([seed, 1])
        self._ground = Texture(textures.ground(rng), GROUND_PPM)
        self._facades = [Texture(textures.facade(rng)) for _ in range(10)]
        self._hedges = [Texture(textures.hedge(rng)) for _ in range(3)]
        self._trees = [Texture(textures.tree(rng)) for _ in range(5)]
        self._cars = [
            (Texture(textures.car_back(rng, colour), CAR_PPM), Texture(textures.car_side(rng, colour), CAR_PPM))
            for colour in textures.CAR_COLOURS
        ]
        margin = 16
        horizon = rig.centre[1] + margin
        self._sky = textures.sky(rng, rig.height + 2 * margin, rig.width + 2 * margin, horizon)
        self._sky_margin = margin
        self._slots: dict[tuple[int, int], list[Face]] = {}

    def view(self, seconds: float, speed_mps: float, view: View) -> tuple[Pixels, Disparity]:
        """(H, W, 3) uint8 RGB and (H, W) float32 disparity in px (0 at infinity) of one camera at that time.

        The disparity is that of the plane seen at a pixel; whether the other camera sees it too is not considered.
        """
        canvas = self._new_canvas(seconds, speed_mps, view)
        self._draw_ground(canvas)
        for face in self._faces(canvas.z, seconds):
            for piece in _pieces(face, canvas.z):
                self._draw(canvas, piece)
        self._add_haze(canvas)
        return canvas.pixels, canvas.disparity

    def _new_canvas(self, seconds: float, speed_mps: float, view: View) -> _Canvas:
        rig = self.rig
        x = 0.12 * np.sin(0.7 * seconds) + (rig.baseline_m if view == "right" else 0.0)
        # Pitch and yaw are small enough to be shifts of the picture, the same for both cameras.
        yaw, pitch = 3.0 * np.sin(0.45 * seconds), 0.8 * np.sin(5.1 * seconds) + 0.4 * np.sin(11.3 * seconds)
        shift = np.array([[1, 0, yaw - self._sky_margin], [0, 1, pitch - self._sky_margin]], np.float64)
        pixels = cv2.warpAffine(self._sky, shift, (rig.width, rig.height), borderMode=cv2.BORDER_REPLICATE)
        disparity = np.zeros((rig.height, rig.width), np.float32)
        cx, cy = rig.centre
        return _Canvas(pixels, disparity, float(x), seconds * speed_mps, cx + float(yaw), cy + float(pitch))

    def _draw_ground(self, canvas: _Canvas) -> None:
        f, b = self.rig.focal_px, self.rig.baseline_m
        rows = np.arange(int(np.ceil(canvas.cy + 0.5)), self.rig.height, dtype=np.float32)
        depth = f * CAMERA_HEIGHT_M / (rows - np.float32(canvas.cy))
        canvas.disparity[int(rows[0]) :] = (f * b / depth)[:, None]
        columns = (np.arange(self.rig.width, dtype=np.float32) - np.float32(canvas.cx)) / np.float32(f)
        # Metres along the road that one row covers decide how coarse the texture may be.
        halvings = np.clip(np.log2(depth**2 / (f * CAMERA_HEIGHT_M) * GROUND_PPM), 0, 8).astype(int)
        for level in np.unique(halvings):
            chosen = halvings == level
            self._draw_ground_band(canvas, rows[chosen], depth[chosen], columns, int(level))

    def _draw_ground_band(
        self,
        canvas: _Canvas,
        rows: NDArray[np.float32],
        depth: NDArray[np.float32],
        columns: NDArray[np.float32],
        y: int,
    ) -> None:
        x = int(np.clip(np.log2(depth.mean() / self.rig.focal_px * GROUND_PPM), 0, 6))
        texture = self._ground.level(x, y)
        across = _fold(depth[:, None] * columns[None] + np.float32(canvas.x))
        ahead = np.mod(depth.astype(np.float64) + canvas.z, GROUND_LENGTH_M).astype(np.float32)
        map_x = (across + np.float32(GROUND_WIDTH_M / 2)) * np.float32(GROUND_PPM / 2**x) - np.float32(0.5)
        map_y = np.repeat(ahead[:, None] * np.float32(GROUND_PPM / 2**y) - np.float32(0.5), len(columns), axis=1)
        band = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        canvas.pixels[int(rows[0]) : int(rows[-1]) + 1] = band

    def _faces(self, z: float, seconds: float) -> list[Face]:
        """What stands on the ground in sight, far things first."""
        first = int(z // SLOT_M)
        faces = [
            face for i in range(first - 1, first + SLOTS_AHEAD) for side in (-1, 1) for face in self._slot(side, i)
        ]
        back, _ = self._cars[self._seed % len(self._cars)]
        ahead = z + 21 + 5 * float(np.sin(0.25 * seconds + self._seed))
        faces.append(Face(back, False, -0.9, ahead, 1.75, 1.5))
        faces = [face for face in faces if face.far > z + NEAR_M]
        return sorted(faces, key=lambda face: (-face.far, -face.z, -abs(face.x)))

    def _slot(self, side: int, number: int) -> list[Face]:
        key = (side, number)
        faces = self._slots.get(key)
        if faces is None:
            if len(self._slots) > 256:
                self._slots.clear()
            rng = np.random.default_rng([self._seed, 2, side + 1, number + 1_000_000])
            faces = self._slots[key] = list(self._furnish(rng, side, number * SLOT_M))
        return faces

    def _furnish(self, rng: np.random.Generator, side: int, z: float) -> Iterator[Face]:
        """Houses or a hedge, trees, parked cars."""
        setback = 7.0 if side > 0 else 7.8
        if rng.random() < 0.7:
            yield from self._house(rng, side * (setback + rng.uniform(0, 1.5)), side, z)
        else:
            yield Face(self._hedges[rng.integers(3)], True, side * setback, z, SLOT_M, 1.3)
            for at in rng.uniform(0, SLOT_M, 2):
                yield self._tree(rng, side * (setback + rng.uniform(2, 6)), z + at)
        if rng.random() < 0.35:
            yield self._tree(rng, side * (setback - 1.2), z + rng.uniform(0, SLOT_M), small=True)
        if rng.random() < (0.55 if side > 0 else 0.3):
            yield from self._car(rng, 2.15 if side > 0 else -5.05, z + rng.uniform(0, 5))

    def _house(self, rng: np.random.Generator, x: float, side: int, z: float) -> Iterator[Face]:
        texture, top = self._facades[rng.integers(len(self._facades))], rng.uniform(6.5, 11)
        depth = SLOT_M
        yield Face(texture, False, x if side > 0 else x - depth, z, depth, top * 0.97)
        yield Face(texture, True, x, z, SLOT_M * rng.uniform(0.8, 1.0), top)

    def _tree(self, rng: np.random.Generator, x: float, z: float, *, small: bool = False) -> Face:
        side = rng.uniform(3.0, 4.2) if small else rng.uniform(5.5, 9)
        return Face(self._trees[rng.integers(len(self._trees))], False, x - side / 2, z, side, side)

    def _car(self, rng: np.random.Generator, x: float, z: float) -> Iterator[Face]:
        back, flank = self._cars[rng.integers(len(self._cars))]
        inner = x if x > 0 else x + 1.75
        yield Face(flank, True, inner, z, 4.25, 1.5)
        yield Face(back, False, x, z, 1.75, 1.5)

    def _draw(self, canvas: _Canvas, piece: _Piece) -> None:
        corners = self._project(canvas, piece)
        left, top = np.floor(corners.min(0)).astype(int) - 1
        right, bottom = np.ceil(corners.max(0)).astype(int) + 2
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, self.rig.width), min(bottom, self.rig.height)
        if right - left < 4 or bottom - top < 4:  # with the margins: less than a pixel
            return
        texture = self._fitting(piece, canvas.z)
        warp = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]]) @ self._homography(canvas, piece, texture)
        size = (int(right - left), int(bottom - top))
        # Bilinear between pixel centres; the outline is cut by `cover`, so beyond the edge the texture just goes on.
        border = cv2.BORDER_CONSTANT if texture.shape[2] == 4 else cv2.BORDER_REPLICATE
        patch = cv2.warpPerspective(texture, warp, size, flags=cv2.INTER_LINEAR, borderMode=border)
        cover = _polygon(corners - (left, top), size) if texture.shape[2] == 3 else patch[..., 3]
        region = np.s_[top:bottom, left:right]
        weight = cover.astype(np.float32) * np.float32(1 / 255)
        colour = np.ascontiguousarray(patch[..., :3])
        canvas.pixels[region] = cv2.blendLinear(colour, canvas.pixels[region], weight, 1 - weight)
        np.copyto(canvas.disparity[region], self._disparity(canvas, piece, left, right), where=cover > 127)

    def _project(self, canvas: _Canvas, piece: _Piece) -> NDArray[np.float64]:
        """(4, 2) corners in the picture."""
        face = piece.face
        x0, x1 = (face.x, face.x) if face.along else (face.x, face.x + face.length)
        z0, z1 = (piece.start, piece.end) if face.along else (face.z, face.z)
        y0, y1 = CAMERA_HEIGHT_M - face.top, CAMERA_HEIGHT_M - face.bottom
        points = np.array([(x0, y0, z0), (x1, y0, z1), (x1, y1, z1), (x0, y1, z0)]) - (canvas.x, 0, canvas.z)
        projected: NDArray[np.float64] = points[:, :2] / points[:, 2:] * self.rig.focal_px + (canvas.cx, canvas.cy)
        return projected

    def _fitting(self, piece: _Piece, z: float) -> Pixels:
        face, f = piece.face, self.rig.focal_px
        near = max(piece.start - z, NEAR_M)
        scale = f / near
        squeezed = scale * min(1.0, abs(face.x) / near) if face.along else scale
        stretch_x, stretch_y = _stretch(face)
        return face.texture.fitting(squeezed / stretch_x, scale / stretch_y)

    def _homography(self, canvas: _Canvas, piece: _Piece, texture: Pixels) -> NDArray[np.float64]:
        """From texture pixels to picture pixels."""
        face, f = piece.face, self.rig.focal_px
        per_px = face.length / texture.shape[1]
        down = (face.top - face.bottom) / texture.shape[0]
        y, x, z = CAMERA_HEIGHT_M - face.top + down / 2, face.x - canvas.x, face.z - canvas.z
        along, across = (per_px, 0.0) if face.along else (0.0, per_px)
        plane = np.array([[across, 0, x + across / 2], [0, down, y], [along, 0, z + along / 2]])
        homography: NDArray[np.float64] = np.array([[f, 0, canvas.cx], [0, f, canvas.cy], [0, 0, 1]]) @ plane
        return homography

    def _disparity(self, canvas: _Canvas, piece: _Piece, left: int, right: int) -> Disparity:
        """(1, right - left) float32: a plane along the road has a disparity that is linear in u."""
        face, b = piece.face, self.rig.baseline_m
        if not face.along:
            return np.full((1, right - left), self.rig.focal_px * b / (face.z - canvas.z), np.float32)
        u = np.arange(left, right, dtype=np.float64)[None]
        slope = b / (face.x - canvas.x)
        least, most = (self.rig.focal_px * b / (z - canvas.z) for z in (piece.end, piece.start))
        return np.asarray(np.clip((u - canvas.cx) * slope, least, most), np.float32)

    def _add_haze(self, canvas: _Canvas) -> None:
        scale = np.float32(-self.rig.focal_px * self.rig.baseline_m / HAZE_M)
        clear = cv2.exp(scale / np.maximum(canvas.disparity, np.float32(1e-3)))
        clear[canvas.disparity == 0] = 1
        canvas.pixels = cv2.blendLinear(canvas.pixels, self._haze, clear, 1 - clear)

    @cached_property
    def _haze(self) -> Pixels:
        return np.full((self.rig.height, self.rig.width, 3), HAZE, np.uint8)


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of a face between two depths, over which its scale hardly changes."""

    face: Face
    start: float
    end: float


def _pieces(face: Face, z: float, ratio: float = 1.9) -> Iterator[_Piece]:
    """Far pieces first. Each begins a little before its neighbour ends, so no seam shows between them."""
    if not face.along:
        if face.z - z > NEAR_M:
            yield _Piece(face, face.z, face.z)
        return
    start, end = max(face.z - z, NEAR_M), face.far - z
    while end > start:
        begin = max(start, end / ratio)
        if begin < start * 1.15:
            begin = start
        yield _Piece(face, z + max(start, begin * 0.96), z + end)
        end = begin if begin > start else start


def _stretch(face: Face) -> tuple[float, float]:
    """How much larger than its texture was made for a face is, in length and in height."""
    full = face.texture.level(0, 0)
    return face.length * face.texture.ppm / full.shape[1], (face.top - face.bottom) * face.texture.ppm / full.shape[0]


def _fold(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """X of the ground far from the road, brought back onto the outer metres of its texture."""
    inner, band = np.float32(8), np.float32(3.8)
    size = np.abs(x)
    beyond = np.maximum(size - inner, 0)
    folded = inner + band - np.abs(np.mod(beyond, 2 * band) - band)
    return np.where(size > inner, np.copysign(folded, x), x)


def _polygon(corners: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) uint8 coverage of a convex polygon, with soft edges."""
    cover = np.zeros((size[1], size[0]), np.uint8)
    points = np.rint(np.clip(corners, -20_000, 20_000) * 16).astype(np.int32)
    cv2.fillConvexPoly(cover, points, 255, cv2.LINE_AA, shift=4)
    return cover
