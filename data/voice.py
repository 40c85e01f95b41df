"""Sound → where somebody speaks, where something else is heard, and how good the recording is."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ, Speech, around
from lipwright.data.features import HOP, STEP_HZ, FeatureSettings, frame_energy_db
from lipwright.data.threads import one_thread

BELOW_LOUD_DB = 25.0
"""Speech is at most so far below the loud moments …"""

ABOVE_NOISE_DB = 6.0
"""… and at least so far above the noise."""

LEAST_OTHER_S = 1.0
"""Music or applause lasts so long; a door or a cough does not."""

PAUSE_S = 0.2
"""A shorter pause is part of speech: the closure of a stop."""

TELEPHONE_HZ = 3600
"""A telephone lets nothing higher through."""


BLOCK = 1024
"""Samples that a spectrum is of."""

HEARD = 120 * SAMPLE_RATE_HZ
"""Samples that voices are looked for in together."""


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


def measure_levels(samples: Speech, settings: FeatureSettings) -> Levels:
    """Measure the levels of 16 kHz mono samples (N,)."""
    noise_db, loud_db = np.percentile(frame_energy_db(samples, settings), (5, 95))
    power, window = np.zeros(BLOCK // 2 + 1), np.hanning(BLOCK).astype(np.float32)
    for start in range(0, max(len(samples) - BLOCK + 1, 1), BLOCK):
        power += np.abs(np.fft.rfft(around(samples, start, start + BLOCK) * window)) ** 2
    treble = power[np.fft.rfftfreq(BLOCK, 1 / SAMPLE_RATE_HZ) >= TELEPHONE_HZ].sum() / max(power.sum(), 1e-20)
    return Levels(float(loud_db), float(noise_db), float(10 * np.log10(max(treble, 1e-12))))


def loud_enough(level_db: np.ndarray) -> np.ndarray:
    """Say of the levels (T,) of a recording which are loud enough for speech."""
    noise_db, loud_db = np.percentile(level_db, (5, 95))
    return np.asarray(level_db > max(loud_db - BELOW_LOUD_DB, noise_db + ABOVE_NOISE_DB))


def find_speech(samples: Speech, settings: FeatureSettings) -> np.ndarray:
    """Say of each step whether it is loud enough for speech, short pauses included.

    Returns
    -------
    ndarray, shape (1 + N // 160,), bool
    """
    from scipy.ndimage import binary_closing

    loud = loud_enough(frame_energy_db(samples, settings))
    wide = round(PAUSE_S * STEP_HZ)
    return binary_closing(np.pad(loud, wide), np.ones(wide, bool))[wide:-wide]


def find_pauses(speech: np.ndarray) -> np.ndarray:
    """Return the first step of each pause in speech (T,) bool, and the step after its last, (P, 2) int64."""
    return np.flatnonzero(np.diff(speech, prepend=True, append=True)).reshape(-1, 2)


def knows_voices() -> bool:
    """Say whether silero-vad is installed (`lipwright[voice]`), which tells voices from other sound."""
    try:
        return importlib.util.find_spec("silero_vad") is not None
    except ValueError:  # barred from being imported
        return False


@cache
def _silero() -> tuple[Any, Any]:
    """Return the detector, and what runs it over samples."""
    with one_thread():
        import silero_vad  # sets the number of threads, to 1, for everybody
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its file is of TorchScript
        return silero_vad.load_silero_vad(), silero_vad.get_speech_timestamps


def find_other_sound(samples: Speech, settings: FeatureSettings) -> np.ndarray:
    """Say of each step whether it is in a second or more of sound as loud as speech in which nobody speaks: music, applause.

    Silero VAD tells (`knows_voices`); where it is not installed, such sound is not told from speech.

    Returns
    -------
    ndarray, shape (1 + N // 160,), bool
    """
    from scipy.ndimage import binary_opening

    other = find_speech(samples, settings)
    if not knows_voices():
        return np.zeros_like(other)
    import torch

    model, run = _silero()
    with one_thread():
        for begin in range(0, len(samples), HEARD):
            for span in run(torch.from_numpy(samples[begin : begin + HEARD]), model, sampling_rate=SAMPLE_RATE_HZ):
                other[(begin + span["start"]) // HOP : -(-(begin + span["end"]) // HOP)] = False
    return binary_opening(other, np.ones(round(LEAST_OTHER_S * STEP_HZ), bool))
