"""Thin-plate warp: the smoothest map of the plane that takes given points to given points (Bookstein 1989)."""

from __future__ import annotations

import cv2
import numpy as np

GRID = 8
"""The map is computed at every 8th pixel and interpolated between: it is smooth."""

STIFFNESS = 0.002
"""How much points may miss their goals for a smoother map; noise in the landmarks would crumple it otherwise."""


def _kernel(squared: np.ndarray) -> np.ndarray:
    return squared * np.log(squared + 1e-6)  # U(r) = r² log r², and 0 at r = 0


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
    middle, unit = to.mean(0), np.abs(to - to.mean(0)).max()
    goal = (to - middle) / unit
    count = len(goal)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(((goal[:, None] - goal[None]) ** 2).sum(-1)) + STIFFNESS * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :] = goal
    system[count + 1 :, :count] = goal.T
    weights = np.linalg.solve(system, np.vstack([start, np.zeros((3, 2))]))
    columns, rows = -(-(right - left) // GRID), -(-(bottom - top) // GRID)
    # Nodes at the centres of GRID × GRID blocks: cv2.resize then puts every pixel's value in place.
    x = (left + np.arange(columns) * GRID + (GRID - 1) / 2 - middle[0]) / unit
    y = (top + np.arange(rows) * GRID + (GRID - 1) / 2 - middle[1]) / unit
    node = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    squared = (node**2).sum(1)[:, None] - 2 * node @ goal.T + (goal**2).sum(1)
    bent = _kernel(np.maximum(squared, 0).astype(np.float32)).astype(np.float64) @ weights[:count]
    coarse = bent.reshape(rows, columns, 2).astype(np.float32)
    fine = cv2.resize(coarse, (columns * GRID, rows * GRID), interpolation=cv2.INTER_CUBIC)
    # The affine part is added pixel by pixel: OpenCV's cubic puts waves of 0.4 px on a plain ramp, and flattens its ends.
    shift, along_x, along_y = weights[count:]
    x = (np.arange(left, right)[:, None] - middle[0]) / unit * along_x  # (w, 2)
    y = (np.arange(top, bottom)[:, None] - middle[1]) / unit * along_y + shift  # (h, 2)
    map_x, map_y = ((y[:, None, k] + x[None, :, k]).astype(np.float32) for k in (0, 1))
    map_x += fine[: bottom - top, : right - left, 0]
    map_y += fine[: bottom - top, : right - left, 1]
    return map_x, map_y
