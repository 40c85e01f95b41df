"""The warp: a smooth map of the picture that takes given points to given points, as OpenCV wants it."""

from __future__ import annotations

import cv2
import numpy as np

from lipwright.data.thin_plate import thin_plate

GRID = 8
"""The map is computed at every 8th pixel and interpolated between: it is smooth."""

STIFFNESS = 0.002
"""How much points may miss their goals for a smoother map; noise in the landmarks would crumple it otherwise."""


def thin_plate_map(to: np.ndarray, start: np.ndarray, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Compute where each pixel of a window comes from.

    Parameters
    ----------
    to : ndarray, shape (P, 2), float64
        Where points shall be, pixels of the frame that is painted.
    start : ndarray, shape (P, 2), float64
        Where these points are in the picture that is painted from.
    box
        Left, top, right, bottom of the window that is painted.

    Returns
    -------
    map_x, map_y : ndarray, shape (bottom − top, right − left), float32
        For `cv2.remap`.
    """
    left, top, right, bottom = box
    # An affine map is carried per pixel and only the bending on the coarse grid: OpenCV's cubic puts waves of 0.4 px on a
    # plain ramp, and flattens its ends. The sum is the same spline, since a spline reproduces affine maps.
    affine = np.linalg.lstsq(np.column_stack([np.ones(len(to)), to]), start, rcond=None)[0]  # (3, 2)
    bending = start - affine[0] - to @ affine[1:]
    columns, rows = -(-(right - left) // GRID), -(-(bottom - top) // GRID)
    # Nodes at the centres of GRID × GRID blocks: cv2.resize then puts every pixel's value in place.
    x = left + np.arange(columns) * GRID + (GRID - 1) / 2
    y = top + np.arange(rows) * GRID + (GRID - 1) / 2
    nodes = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    coarse = thin_plate(to, bending, nodes, stiffness=STIFFNESS).reshape(rows, columns, 2).astype(np.float32)
    fine = cv2.resize(coarse, (columns * GRID, rows * GRID), interpolation=cv2.INTER_CUBIC)
    along_x = np.arange(left, right)[:, None] * affine[1]  # (w, 2)
    along_y = np.arange(top, bottom)[:, None] * affine[2] + affine[0]  # (h, 2)
    map_x, map_y = ((along_y[:, None, k] + along_x[None, :, k]).astype(np.float32) for k in (0, 1))
    map_x += fine[: bottom - top, : right - left, 0]
    map_y += fine[: bottom - top, : right - left, 1]
    return map_x, map_y
