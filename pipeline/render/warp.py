"""The warp: smooth maps of pictures that take given points to given points, as OpenCV wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from lipwright.data.thin_plate import thin_plate

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom of a window, pixels."""

GRID = 8
"""Maps are computed at every 8th pixel and interpolated between: they are smooth."""

STIFFNESS = 0.002
"""How much points may miss their goals for a smoother map; noise in the landmarks would crumple it otherwise."""


@dataclass(frozen=True)
class Warp:
    """Where each pixel of a box comes from, in each of N pictures.

    Attributes
    ----------
    box
        The box that is painted, pixels of the frame.
    affine : ndarray, shape (N, 3, 2)
        The affine part: constant, and what a step to the right and one down add.
    bending : ndarray, shape (N, rows, columns, 2), float32
        The rest, at the centres of GRID × GRID blocks.
    """

    box: Box
    affine: np.ndarray
    bending: np.ndarray

    def maps(self, index: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the map of one picture for `cv2.remap`, x and y, (h / step, w / step) float32.

        With `step` 2, both the box and the picture are understood as reduced to half.
        """
        left, top, right, bottom = self.box
        width, height = (right - left) // step, (bottom - top) // step
        rows, columns = self.bending.shape[1:3]
        size = (columns * GRID // step, rows * GRID // step)
        # The affine map is carried per pixel and only the bending on the coarse grid: OpenCV's cubic puts waves of 0.4 px on a
        # plain ramp, and flattens its ends. The sum is the same spline, since a spline reproduces affine maps.
        fine = cv2.resize(self.bending[index], size, interpolation=cv2.INTER_CUBIC)[:height, :width]
        constant, by_x, by_y = self.affine[index]
        middle = (step - 1) / 2
        along_x = (left + middle + step * np.arange(width))[:, None] * by_x  # (w, 2)
        along_y = (top + middle + step * np.arange(height))[:, None] * by_y + constant  # (h, 2)
        map_x, map_y = ((along_y[:, None, k] + along_x[None, :, k] - middle).astype(np.float32) for k in (0, 1))
        map_x += fine[..., 0]
        map_y += fine[..., 1]
        return (map_x, map_y) if step == 1 else (map_x / step, map_y / step)


def thin_plate_warp(to: np.ndarray, starts: np.ndarray, box: Box) -> Warp:
    """Compute the warps that bring several pictures to the same shape: one spline system serves them all.

    Parameters
    ----------
    to : ndarray, shape (P, 2), float64
        Where points shall be, pixels of the frame that is painted.
    starts : ndarray, shape (N, P, 2), float64
        Where these points are in each of the N pictures that are painted from.
    box
        The part of the frame that is painted.
    """
    left, top, right, bottom = box
    count = len(starts)
    own = np.column_stack([np.ones(len(to)), to])
    flat = starts.transpose(1, 0, 2).reshape(len(to), -1)  # (P, 2N)
    affine = np.linalg.lstsq(own, flat, rcond=None)[0]
    columns, rows = -(-(right - left) // GRID), -(-(bottom - top) // GRID)
    # Nodes at the centres of GRID × GRID blocks: cv2.resize then puts every pixel's value in place.
    x = left + np.arange(columns) * GRID + (GRID - 1) / 2
    y = top + np.arange(rows) * GRID + (GRID - 1) / 2
    nodes = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    bending = thin_plate(to, flat - own @ affine, nodes, stiffness=STIFFNESS)
    return Warp(
        box,
        affine.reshape(3, count, 2).transpose(1, 0, 2),
        np.ascontiguousarray(bending.reshape(rows, columns, count, 2).transpose(2, 0, 1, 3), np.float32),
    )
