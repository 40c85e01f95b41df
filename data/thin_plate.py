"""Thin-plate spline: the smoothest function of the plane that has given values at given points (Bookstein 1989)."""

from __future__ import annotations

import numpy as np


def thin_plate(centres: np.ndarray, values: np.ndarray, at: np.ndarray, *, stiffness: float = 0.0) -> np.ndarray:
    """Interpolate scattered values.

    Parameters
    ----------
    centres : ndarray, shape (P, 2)
        Points of the plane, not all on one line.
    values : ndarray, shape (P, D)
        What the function is there.
    at : ndarray, shape (N, 2)
        Where it is asked for.
    stiffness
        How much it may miss the values in favour of smoothness, 0 not at all; independent of the points' unit.

    Returns
    -------
    ndarray, shape (N, D), float64
    """
    middle = centres.mean(0)
    unit = np.abs(centres - middle).max()
    own, asked = (centres - middle) / unit, (at - middle) / unit
    count = len(own)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(own, own) + stiffness * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :] = own
    system[count + 1 :, :count] = own.T
    weights = np.linalg.solve(system, np.vstack([values, np.zeros((3, values.shape[1]))]))
    return _kernel(asked, own) @ weights[:count] + weights[count] + asked @ weights[count + 1 :]


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return r² log r² between every two of (N, 2) and (M, 2) points, (N, M)."""
    squared = np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0)
    # The logarithm is what costs; single precision of it is plenty for a map of pixels.
    return squared * np.log(squared.astype(np.float32) + np.float32(1e-12))
