"""How good a mouth is, from arrays. Defined in `docs/metrics.md`; every table of this project uses these.

Series run on the 100 Hz grid. `valid` marks the steps where the measured mouth is known; the rest is passed over.
"""

from __future__ import annotations

import numpy as np

STEP_MS = 10
LAG_REACH_STEPS = 50
"""Lags are looked for within ±500 ms."""

CLOSED_SHARE = 0.15
"""Closed: an aperture less than this share of the speaker's scale above neutral."""

CLOSURE_REACH_STEPS = 4
"""A predicted closure matches a measured one within ±40 ms."""

LEAST_CLOSURES = 5
JITTER_HZ = 8.0
"""Faster movement than this is measurement noise, not speech."""

STILL = 1e-7
"""A series of less standard deviation does not vary: it is a number of float32, rounded."""

SHORTEST_RUN = 50
"""Steps that a stretch must have for its smoothness to be judged."""


def pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Pearson's correlation of two series (T,), or None if one of them does not vary."""
    if len(a) < 3 or np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])


class Correlation:
    """Pearson's correlation of two series that come piece by piece."""

    def __init__(self) -> None:
        self.count, self._sums, self._products = 0, np.zeros(2), np.zeros((2, 2))

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add the next steps (T,) of both."""
        both = np.stack([a, b]).astype(np.float64)
        self.count, self._sums, self._products = self.count + len(a), self._sums + both.sum(1), self._products + both @ both.T

    @property
    def value(self) -> float | None:
        """The correlation, or None if one of them does not vary."""
        mean = self._sums / max(self.count, 1)
        (a, both), (_, b) = self._products / max(self.count, 1) - np.outer(mean, mean)
        return float(both / np.sqrt(a * b)) if self.count >= 3 and min(a, b) > STILL**2 else None


def gain(predicted: np.ndarray, measured: np.ndarray) -> float | None:
    """Return the ratio of standard deviations: 1 moves as much as the measured mouth, 0 not at all."""
    spread = float(np.std(measured)) if len(measured) else 0.0
    return float(np.std(predicted)) / spread if spread > 1e-9 else None


def mean_distance(predicted: np.ndarray, measured: np.ndarray) -> float | None:
    """Return the mean distance of points (T, K, 3), in their unit (`lmd`); None of no steps."""
    return float(np.linalg.norm(predicted - measured, axis=-1).mean()) if len(measured) else None


def lag_curve(a: np.ndarray, b: np.ndarray, valid: np.ndarray) -> list[float | None]:
    """Return the correlation of series `a` with `b` (T,) for each lag of `a` after `b`, −500 to +500 ms in steps.

    Series shorter than four times that reach are compared within a quarter of their length.
    """
    reach = min(LAG_REACH_STEPS, len(b) // 4)
    scores = []
    for lag in range(-reach, reach + 1):
        now = slice(max(lag, 0), len(b) + min(lag, 0))
        then = slice(max(-lag, 0), len(b) - max(lag, 0))
        both = valid[now] & valid[then]
        scores.append(pearson(a[now][both], b[then][both]))
    return scores


def peak_lag_ms(curve: list[float | None]) -> float | None:
    """Return the lag at which a curve of `lag_curve` peaks, ms, refined by a parabola; None if nothing varies."""
    if any(s is None for s in curve) or not curve:
        return None
    score = np.array(curve, float)
    best = int(score.argmax())
    shift = 0.0
    if 0 < best < len(score) - 1:
        left, middle, right = score[best - 1 : best + 2]
        bend = left - 2 * middle + right
        shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(best - len(score) // 2 + shift) * STEP_MS


def lag_ms(predicted: np.ndarray, measured: np.ndarray, valid: np.ndarray) -> float | None:
    """Return by how much a predicted series (T,) comes after the measured one, ms, at their best correlation."""
    return peak_lag_ms(lag_curve(predicted, measured, valid))


def _runs(mask: np.ndarray) -> np.ndarray:
    """Return the [start, end) of every stretch of true steps, (R, 2)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return edges.reshape(-1, 2)


def closure_f1(predicted: np.ndarray, measured: np.ndarray, valid: np.ndarray, closed_below: float) -> float | None:
    """Return the F1 score of lip closures: stretches under `closed_below`, matched one to one in order.

    Two stretches match if they come within 40 ms of each other. None under 5 measured closures.
    """
    theirs, ours = _runs(valid & (measured < closed_below)), _runs(valid & (predicted < closed_below))
    if len(theirs) < LEAST_CLOSURES:
        return None
    hits = i = j = 0
    while i < len(theirs) and j < len(ours):
        if ours[j, 0] - theirs[i, 1] >= CLOSURE_REACH_STEPS:
            i += 1
        elif theirs[i, 0] - ours[j, 1] >= CLOSURE_REACH_STEPS:
            j += 1
        else:
            hits, i, j = hits + 1, i + 1, j + 1
    return 2 * hits / (len(theirs) + len(ours))


def jitter_ratio(predicted: np.ndarray, measured: np.ndarray, valid: np.ndarray) -> float | None:
    """Return the energy of the second difference in time, predicted over measured, of points (T, K, 3).

    Both are low-passed at 8 Hz first, on stretches of at least half a second; None if there is none.
    """
    from scipy.signal import butter, sosfiltfilt

    low_pass = butter(4, JITTER_HZ, fs=1000 / STEP_MS, output="sos")
    energy = np.zeros(2)
    for start, end in _runs(valid):
        if end - start >= SHORTEST_RUN:
            for k, points in enumerate((predicted, measured)):
                smooth = sosfiltfilt(low_pass, points[start:end], axis=0)
                energy[k] += (np.diff(smooth, 2, axis=0) ** 2).sum()
    return float(energy[0] / energy[1]) if energy[1] > 0 else None
