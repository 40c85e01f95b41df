"""Sound → where somebody speaks, and how good the recording is, by its levels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.features import STEP_HZ, FeatureSettings, frame_energy_db

BELOW_LOUD_DB = 25.0
"""Speech is at most so far below the loud moments …"""

ABOVE_NOISE_DB = 6.0
"""… and at least so far above the noise."""

PAUSE_S = 0.2
"""A shorter pause is part of speech: the closure of a stop."""

TELEPHONE_HZ = 3600
"""A telephone lets nothing higher through."""


BLOCK = 1024
"""Samples that a spectrum is of."""


@dataclass(frozen=True)
class Levels:
    """Levels of a recording, dB of full scale.

    Attributes
    ----------
    loud_db, noise_db
        95 % and 5 % of the time are below.
    treble_db
        What lies above `TELEPHONE_HZ`, against all of it.
    """

    loud_db: float
    noise_db: float
    treble_db: float


def measure_levels(samples: np.ndarray, settings: FeatureSettings) -> Levels:
    """Measure the levels of 16 kHz mono samples (N,)."""
    noise_db, loud_db = np.percentile(frame_energy_db(samples, settings), (5, 95))
    blocks = np.resize(samples, (-(-len(samples) // BLOCK), BLOCK)) * np.hanning(BLOCK).astype(np.float32)
    power = sum((np.abs(np.fft.rfft(block)) ** 2 for block in blocks), np.zeros(BLOCK // 2 + 1))
    treble = power[np.fft.rfftfreq(BLOCK, 1 / SAMPLE_RATE_HZ) >= TELEPHONE_HZ].sum() / max(power.sum(), 1e-20)
    return Levels(float(loud_db), float(noise_db), float(10 * np.log10(max(treble, 1e-12))))


def find_speech(samples: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Say of each step whether it is loud enough for speech, short pauses included.

    Returns
    -------
    ndarray, shape (1 + N // 160,), bool
    """
    from scipy.ndimage import binary_closing

    level_db = frame_energy_db(samples, settings)
    noise_db, loud_db = np.percentile(level_db, (5, 95))
    loud = level_db > max(loud_db - BELOW_LOUD_DB, noise_db + ABOVE_NOISE_DB)
    wide = round(PAUSE_S * STEP_HZ)
    return binary_closing(np.pad(loud, wide), np.ones(wide, bool))[wide:-wide]
