"""Sound against picture: by how much one comes after the other, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.data.features import STEP_HZ

REACH_S = 0.5
"""Lags are looked for so far either way."""

SYNC_VERSION = "3"
"""Part of a corpus's settings: raised when lags would be found otherwise, by another base model, say."""

APART_S = 2.0
"""Sound so far from its picture has nothing to do with it."""

LEAST_S = 4 * APART_S
"""Less has too few shifts to compare with."""

CONFIDENT = 4.0
"""No other sound reaches this: 3.8 at most, in 20 s of eight clips against each other's sound (`docs/corpora.md`)."""


@dataclass(frozen=True)
class Lag:
    """How sound and picture of a stretch of speech lie to each other.

    Attributes
    ----------
    lag_ms
        By how much the picture comes after the sound, where the two go together best; refined between steps.
    confidence
        How far that is above what the same sound reaches at other times, in standard deviations of the latter; 0 where they go
        together better still beyond the reach, up to `APART_S`.
    """

    lag_ms: float
    confidence: float

    @property
    def confident(self) -> bool:
        """Whether the sound is that of this mouth, and the lag to be relied on."""
        return self.confidence >= CONFIDENT


def find_lag(said: np.ndarray, measured: np.ndarray, valid: np.ndarray) -> Lag | None:
    """Find the lag of a picture after its sound.

    The mouth as the sound has it is shifted in a circle against the mouth as seen, and correlated with it at each shift, all
    at once (Fourier transform). Shifts by more than `APART_S` are the sound of other moments: what is to be expected by
    chance, from these very series.

    Parameters
    ----------
    said : ndarray, shape (T,)
        Apertures that a model hears, 100 a second.
    measured : ndarray, shape (T,)
    valid : ndarray, shape (T,), bool
        Where the mouth is seen.

    Returns
    -------
    Lag
        Or None: too short, or nothing moves.
    """
    reach, apart = round(REACH_S * STEP_HZ), round(APART_S * STEP_HZ)
    if valid.sum() < LEAST_S * STEP_HZ:
        return None
    r = _correlate(said.astype(float), measured.astype(float), valid)
    if r is None:
        return None
    near = np.concatenate([r[-reach:], r[: reach + 1]])
    beyond = max(r[reach + 1 : apart].max(), r[-apart:-reach].max())
    chance = r[apart : len(r) - apart]
    best = int(near.argmax())
    shift = 0.0
    if 0 < best < len(near) - 1:
        left, middle, right = near[best - 1 : best + 2]
        bend = left - 2 * middle + right
        shift = float(0.5 * (left - right) / bend) if bend < 0 else 0.0
    lag_ms = 1000 * (best - reach + shift) / STEP_HZ
    confidence = float((near[best] - chance.mean()) / chance.std()) if near[best] > beyond else 0.0
    return Lag(round(lag_ms, 1), round(confidence, 2))


def _correlate(said: np.ndarray, measured: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
    """Return Pearson's r of measured[t] with said[t − k], over valid t, for every k in a circle, (T,); None if one is still."""
    steps, weight = len(said), valid.astype(float)
    count = weight.sum()
    said = said - said.mean()
    seen = np.where(valid, measured - measured[valid].mean(), 0.0)

    def sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Σ_t a[t − k] · b[t]."""
        return np.fft.irfft(np.conj(np.fft.rfft(a)) * np.fft.rfft(b), steps)

    spread = sums(said**2, weight) - sums(said, weight) ** 2 / count
    own = (seen**2).sum()
    if own < 1e-12 * count or spread.min() < 1e-12 * count:
        return None
    return sums(said, seen) / np.sqrt(spread * own)
