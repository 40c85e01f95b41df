"""Sound → what the network hears: 28 numbers, 100 times a second.

13 MFCC and the log energy of a 25 ms window, and their first differences (Suwajanakorn et al. 2017, section 3.1). Step k
stands at k / 100 s on the file's clock, the centre of its window. Everything is local in time: nothing louder elsewhere
in the file changes a step. librosa's own defaults are not (`top_db=80` is relative to the loudest frame, `delta` spans
9 frames), which is why they are replaced here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ, Speech, around

STEP_HZ = 100
"""Steps a second of features, predictions and mouth tracks."""

HOP = SAMPLE_RATE_HZ // STEP_HZ
FFT = 512

BLOCK = 10 * STEP_HZ
"""Steps computed together: the spectra of an hour are a gigabyte."""

SILENCE_RMS = 1e-5
"""Frames are never counted quieter than this (−100 dB of full scale)."""


@dataclass(frozen=True)
class FeatureSettings:
    """How features are computed. They travel with a corpus and a model: both must agree."""

    mfcc: int = 13
    """Number of mel-frequency cepstral coefficients."""
    mels: int = 40
    """Number of mel bands."""
    window_ms: float = 25.0
    """Length of the Hann window."""
    floor_power: float = 1e-5
    """Mel power below this counts as this: about 70 dB under loud speech, so that all silence sounds alike."""
    level_db: float = -20.0
    """Level that the 95th percentile of frame energy is brought to, by one gain for the whole clip."""
    most_gain_db: float = 20.0
    """Largest such gain, so that silence stays silent."""

    @property
    def size(self) -> int:
        """Numbers per step: the coefficients, the log energy, and the difference of each to the step before."""
        return 2 * (self.mfcc + 1)

    @property
    def reach_ms(self) -> float:
        """How far after its own time a step hears."""
        return self.window_ms / 2

    def gain_db(self, loud_db: float) -> float:
        """Return the gain that brings loud moments of this level to `level_db`, as far as that is allowed."""
        return min(self.level_db - loud_db, self.most_gain_db)

    @classmethod
    def from_dict(cls, stated: Mapping[str, Any]) -> FeatureSettings:
        """Read settings that `to_dict` wrote; `ValueError` if this Lipwright cannot compute such features."""
        own = dict(stated)
        rates = (own.pop("sample_rate_hz", None), own.pop("step_hz", None))
        if rates != (SAMPLE_RATE_HZ, STEP_HZ):
            raise ValueError(f"from {rates[0]} Hz at {rates[1]} Hz, here from {SAMPLE_RATE_HZ} at {STEP_HZ}")
        try:
            return cls(**own)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def to_dict(self) -> dict[str, float | int]:
        """Return the settings as JSON values, with the rates that they imply."""
        return asdict(self) | {"sample_rate_hz": SAMPLE_RATE_HZ, "step_hz": STEP_HZ}


def _blocks(steps: tuple[int, int], width: int) -> Iterator[tuple[int, int]]:
    """Yield the samples, first and end, that blocks of steps hear through windows of a width."""
    for start in range(*steps, BLOCK):
        end = min(start + BLOCK, steps[1])
        yield start * HOP - width // 2, (end - 1) * HOP - width // 2 + width


def frame_energy_db(samples: Speech, settings: FeatureSettings) -> np.ndarray:
    """Return the level of each step's window, shape (T,) float32, in dB of full scale."""
    length = _window(settings)
    blocks = [_energy_db(around(samples, *block), length) for block in _blocks((0, 1 + len(samples) // HOP), length)]
    return np.concatenate(blocks)


def _window(settings: FeatureSettings) -> int:
    return round(settings.window_ms * SAMPLE_RATE_HZ / 1000)


def _energy_db(samples: np.ndarray, length: int) -> np.ndarray:
    import librosa

    rms = librosa.feature.rms(y=samples, frame_length=length, hop_length=HOP, center=False)[0]
    return (20 * np.log10(np.maximum(rms, SILENCE_RMS))).astype(np.float32)


def gain_for(samples: Speech, settings: FeatureSettings) -> float:
    """Return the factor that brings a clip to the common level, at most `settings.most_gain_db`."""
    loud_db = float(np.percentile(frame_energy_db(samples, settings), 95))
    return float(10 ** (settings.gain_db(loud_db) / 20))


def compute_features(
    samples: Speech,
    settings: FeatureSettings | None = None,
    *,
    gain: float | None = None,
    steps: tuple[int, int] | None = None,
) -> np.ndarray:
    """Compute what the network hears.

    Parameters
    ----------
    samples : ndarray, shape (N,), float32
        Mono sound at 16 kHz.
    settings
        Defaults to `FeatureSettings()`.
    gain
        Factor put on the samples; by default the one that brings the clip to the common level (`gain_for`).
    steps
        Only from the first of these up to the second; by default all, (0, 1 + N // 160).

    Returns
    -------
    ndarray, shape (T, 28), float32
        Columns: 13 MFCC (dB), log energy (dB), and the difference of each to the step before (0 at the first).

    Raises
    ------
    ValueError
        `samples` is not one-dimensional.

    Examples
    --------
    >>> compute_features(np.zeros(16000, np.float32)).shape
    (101, 28)
    """
    if isinstance(samples, np.ndarray) and samples.ndim != 1:
        raise ValueError(f"Expected mono samples of shape (N,), got {samples.shape = }.")
    settings = settings or FeatureSettings()
    if gain is None:
        gain = gain_for(samples, settings)
    first, end = steps or (0, 1 + len(samples) // HOP)
    length, heard = _window(settings), (max(first - 1, 0), max(end, 1))
    levels = [_energy_db(around(samples, *block) * np.float32(gain), length) for block in _blocks(heard, length)]
    cepstra = [_mfcc(around(samples, *block) * np.float32(gain), settings) for block in _blocks(heard, FFT)]
    now = np.column_stack([np.concatenate(cepstra), np.concatenate(levels)])
    return np.hstack([now, np.diff(now, axis=0, prepend=now[:1])])[first - heard[0] : end - heard[0]].astype(np.float32)


def _mfcc(samples: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Return the coefficients of each window of samples, (T, C)."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=SAMPLE_RATE_HZ,
        n_fft=FFT,
        hop_length=HOP,
        win_length=_window(settings),
        center=False,
        n_mels=settings.mels,
    )
    mel_db = librosa.power_to_db(S=mel, ref=1.0, amin=settings.floor_power, top_db=None)
    return librosa.feature.mfcc(S=mel_db, n_mfcc=settings.mfcc).T
