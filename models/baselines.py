"""What a network has to beat: always the mean mouth, and a ridge regression on the sound around each step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.models.errors import ModelError

REACH_STEPS = 24
"""The ridge hears ±240 ms."""

STRIDE = 2
"""It takes every second step of them: neighbours say nearly the same."""

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


def fit_ridge(
    train: list[tuple[np.ndarray, np.ndarray, np.ndarray]], held_out: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Ridge:
    """Fit the ridge on all data, with the penalty that does best on the held-out part when fitted on the other.

    Parameters
    ----------
    train, held_out
        Triples of standardised features (T, D), coefficients (T, P) and validity (T,). Without held-out data, the
        middle of `ALPHAS` is taken.
    """
    from sklearn.linear_model import Ridge as Solver

    def stack(sequences: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        x = np.concatenate([surroundings(f)[valid] for f, _, valid in sequences])
        return x, np.concatenate([y[valid] for _, y, valid in sequences])

    x, y = stack(train)
    alphas = ALPHAS if held_out else (ALPHAS[len(ALPHAS) // 2],)
    check_x, check_y = stack(held_out) if held_out else (x, y)
    solved = [Solver(alpha=alpha).fit(x, y) for alpha in alphas]
    best = min(solved, key=lambda s: float(((s.predict(check_x).reshape(check_y.shape) - check_y) ** 2).mean()))
    if held_out:
        best = Solver(alpha=best.alpha).fit(*stack(train + held_out))
    weights, bias = best.coef_.reshape(y.shape[1], -1).T, np.reshape(best.intercept_, -1)  # sklearn drops P where it is 1
    return Ridge(np.ascontiguousarray(weights, dtype=np.float32), bias.astype(np.float32))
