"""What a network has to beat: always the mean mouth, and a ridge regression on the sound around each step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.models.errors import ModelError

REACH_STEPS = 24
"""The ridge hears ±240 ms."""

STRIDE = 2
"""It takes every second step of them: neighbours say nearly the same."""

BLOCK = 4096
"""Steps that are added up together."""

ALPHAS = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
FILE = "ridge.safetensors"


def surroundings(features: np.ndarray) -> np.ndarray:
    """Stack each step's surroundings: (T, D) → (T, 25·D) float32, the ends repeated."""
    padded = np.pad(features, ((REACH_STEPS, REACH_STEPS), (0, 0)), mode="edge")
    return np.hstack([padded[s : s + len(features)] for s in range(0, 2 * REACH_STEPS + 1, STRIDE)]).astype(np.float32)


@dataclass(frozen=True)
class Ridge:
    """A linear map from standardised features around a step to its mouth coefficients.

    Attributes
    ----------
    weights : ndarray, shape (25·D, P), float32
    bias : ndarray, shape (P,), float32
    """

    weights: np.ndarray
    bias: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict coefficients (T, P) from standardised features (T, D)."""
        return surroundings(features) @ self.weights + self.bias

    def save(self, folder: Path) -> None:
        """Write the map beside the model."""
        from safetensors.numpy import save_file

        save_file({"weights": self.weights, "bias": self.bias}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Ridge:
        """Read the map from a model folder; `ModelError` if it is missing or broken."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return cls(**load_file(folder / FILE))
        except (OSError, SafetensorError, TypeError) as error:
            raise ModelError(f"{folder / FILE} is missing or broken ({error}); train the model again") from None


class NormalEquations:
    """A weighted linear regression whose data are added up, piece by piece, in float64: memory does not grow with them."""

    def __init__(self) -> None:
        self._xx, self._xy, self._yy = np.zeros(()), np.zeros(()), 0.0

    def __bool__(self) -> bool:
        """Whether there is anything to learn from."""
        return bool(self._xx.ndim)

    def add(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | float = 1.0) -> None:
        """Add what is heard (N, D) and what is wanted (N, P), with their weights (N,)."""
        root = np.sqrt(np.broadcast_to(np.asarray(weights, float), len(x)))[:, None]
        for k in range(0, len(x), BLOCK):
            rows = slice(k, k + BLOCK)
            heard, wanted = np.hstack([x[rows], np.ones_like(root[rows])]) * root[rows], y[rows] * root[rows]
            self._xx = self._xx + heard.T @ heard  # (D + 1, D + 1): the last column is 1
            self._xy = self._xy + heard.T @ wanted  # (D + 1, P)
            self._yy += float((wanted**2).sum())

    def __add__(self, other: NormalEquations) -> NormalEquations:
        """Return the regression on both data."""
        out = NormalEquations()
        out._xx, out._xy, out._yy = self._xx + other._xx, self._xy + other._xy, self._yy + other._yy
        return out

    def solve(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the map (D, P) and bias (P,) of least error + penalty × squared map; no map, if the penalty is infinite."""
        total, mean_x, mean_y = self._xx[-1, -1], self._xx[-1, :-1] / self._xx[-1, -1], self._xy[-1] / self._xx[-1, -1]
        covariance = self._xx[:-1, :-1] - total * np.outer(mean_x, mean_x)
        shared = self._xy[:-1] - total * np.outer(mean_x, mean_y)
        if np.isinf(penalty):
            return np.zeros_like(shared), np.zeros_like(mean_y)
        weights = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), shared)
        return weights, mean_y - mean_x @ weights

    def error(self, weights: np.ndarray, bias: np.ndarray) -> float:
        """Return the mean squared error of a map (D, P) and bias (P,) on these data."""
        full = np.vstack([weights, bias])
        total = np.sum(full * (self._xx @ full)) - 2 * np.sum(full * self._xy) + self._yy
        return float(total / (self._xx[-1, -1] * len(bias)))


Triples = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]


def fit_ridge(train: Triples, held_out: Triples) -> Ridge:
    """Fit the ridge on all data, with the penalty that does best on the held-out part when fitted on the other.

    Parameters
    ----------
    train, held_out
        Triples of standardised features (T, D), coefficients (T, P) and validity (T,), one in memory at a time. Without
        held-out data, the middle of `ALPHAS` is taken.
    """
    equations = []
    for part in (train, held_out):
        equations.append(NormalEquations())
        for features, y, valid in part:
            equations[-1].add(surroundings(features)[valid], y[valid])
    ours, others = equations
    if others:
        best = min(ALPHAS, key=lambda alpha: others.error(*ours.solve(alpha)))
        weights, bias = (ours + others).solve(best)
    else:
        weights, bias = ours.solve(ALPHAS[len(ALPHAS) // 2])
    return Ridge(np.ascontiguousarray(weights, dtype=np.float32), bias.astype(np.float32))
