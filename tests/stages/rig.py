"""A rig of two cameras that are not rectified: what it makes of rectified views, and its calibration files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from pipeline.types import Pixels, View


def rotation(*degrees: float) -> np.ndarray:
    return cv2.Rodrigues(np.radians(degrees))[0]


@dataclass
class Rig:
    """Two lenses with barrel distortion; the right camera is turned by a degree against the left one."""

    width: int
    height: int
    turned: tuple[float, float, float] = (0.9, -0.5, 1.1)
    distortions: dict[View, tuple[float, ...]] = field(
        default_factory=lambda: {"left": (-0.21, 0.05, 0.0, 0.0, 0.0), "right": (-0.19, 0.04, 0.0005, -0.0003, 0.0)}
    )

    def __post_init__(self) -> None:
        focal, middle = 0.58 * self.width, (self.width / 2 - 9, self.height / 2 + 4)
        self.matrix = np.array([[focal, 0, middle[0]], [0, focal * 1.002, middle[1]], [0, 0, 1]])
        self.r, self.t = rotation(*self.turned), np.array([-0.54, 0.004, -0.006])
        d = {view: np.array(values) for view, values in self.distortions.items()}
        size = (self.width, self.height)
        found = cv2.stereoRectify(
            self.matrix,
            d["left"],
            self.matrix,
            d["right"],
            size,
            self.r,
            self.t,
            flags=cv2.CALIB_ZERO_DISPARITY,
            alpha=0,
        )
        self.r1, self.r2, self.p1, self.p2 = found[:4]
        self.d = d

    def see(self, rectified: Pixels, view: View) -> Pixels:
        """What the camera takes, given what the rectified camera would."""
        r, p = (self.r1, self.p1) if view == "left" else (self.r2, self.p2)
        xy = np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), -1).reshape(-1, 1, 2)
        at = cv2.undistortPoints(xy.astype(np.float64), self.matrix, self.d[view], R=r, P=p)
        at = at.reshape(self.height, self.width, 2).astype(np.float32)
        return cv2.remap(rectified, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    def write(self, path: Path, *names: str) -> Path:
        """The calibration as OpenCV itself writes it: .yml or .xml by the name of the file."""
        values = {"M1": self.matrix, "D1": self.d["left"], "M2": self.matrix, "D2": self.d["right"]}
        values |= {"R": self.r, "T": self.t, "R1": self.r1, "R2": self.r2, "P1": self.p1, "P2": self.p2}
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
        for name in names or ("M1", "D1", "M2", "D2", "R", "T"):
            storage.write(name, values[name])
        storage.release()
        return path

    def write_kitti(self, path: Path) -> Path:
        """The same as KITTI's raw recordings have it."""
        size = f"{self.width:e} {self.height:e}"
        lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
        for number, d, r, p in (("02", self.d["left"], self.r1, self.p1), ("03", self.d["right"], self.r2, self.p2)):
            values = {"K": self.matrix, "D": d, "R_rect": r, "P_rect": p}
            lines += [f"S_{number}: {size}", f"S_rect_{number}: {size}"]
            lines += [f"{name}_{number}: {' '.join(f'{x:e}' for x in np.ravel(v))}" for name, v in values.items()]
        path.write_text("\n".join(lines) + "\n")
        return path


def row_differences(left: Pixels, right: Pixels) -> np.ndarray:
    """How many rows lie between the same point in both views, px, by SIFT; of sure matches only."""
    sift = cv2.SIFT_create(600)
    (a, da), (b, db) = (sift.detectAndCompute(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), None) for p in (left, right))
    matches = [m for m, n in cv2.BFMatcher().knnMatch(da, db, k=2) if m.distance < 0.7 * n.distance]
    points = [(a[m.queryIdx].pt, b[m.trainIdx].pt) for m in matches]
    return np.array([p[1] - q[1] for p, q in points if abs(p[1] - q[1]) < 60 and -40 < p[0] - q[0] < 200])
