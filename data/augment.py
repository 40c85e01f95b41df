"""One minute of speech, heard in many ways: the same words louder, in a hall, over a telephone, from another throat.

A model that hears each variant with the same mouth learns what speech is and not what one recording is. Every change is
made to sound, before features: additive noise, reverberation and band limits are what other recordings bring; tempo
(Ko et al. 2015) and the length of the vocal tract (Jaitly & Hinton 2013) are what other speakers bring. Beside them
stands sound that is no speech at all, where the mouth rests closed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ

KINDS = ("gain", "noise", "reverb", "band", "tempo", "tract")
"""Changes that `vary` knows, in the order in which nature makes them, the last first."""

LIKELY = 0.5
"""Each change is made to about so many of the variants."""

GAIN_DB = 6.0
NOISE_SNR_DB = (5.0, 30.0)
NOISE_SLOPE = (0.0, 1.5)
"""Noise power falls as 1 / f to this power: 0 is white, 1 pink."""
REVERB_S = (0.1, 0.5)
"""Time in which an echo fades by 60 dB."""
REVERB_SHARE = (0.1, 0.5)
"""Amplitude of the echo against the direct sound."""
BAND_LOW_HZ, BAND_HIGH_HZ = (50.0, 300.0), (3000.0, 7500.0)
TEMPO = (0.85, 1.15)
TRACT = (0.87, 1.13)
"""Factor on all frequencies, voice and formants alike: above 1, a shorter throat."""

LOWEST_NOISE_HZ = 20.0

TALK_S, HUSH_S = (1.0, 4.0), (0.6, 2.5)
"""How long speech and the hush after it last where `hush` sets in."""
SILENT_SHARE = 0.4
"""Hushes that are digital silence; the others are stationary noise."""
HUSH_DB = (-50.0, 5.0)
"""Level of that noise against the speech."""


@dataclass(frozen=True)
class Variant:
    """The same speech, heard otherwise.

    Attributes
    ----------
    samples : ndarray, shape (M,), float32
        Mono, 16 kHz.
    tempo
        How much faster it is: what was heard at time t is heard at t / tempo.
    gain
        Factor for the level that features are brought to.
    """

    samples: np.ndarray
    tempo: float = 1.0
    gain: float = 1.0


def noise(length: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Return stationary noise of power 1, (length,) float32; its power falls as 1 / f ** slope."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hertz = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ), LOWEST_NOISE_HZ)
    coloured = np.fft.irfft(spectrum * hertz ** (-slope / 2), length)
    return (coloured / np.sqrt((coloured**2).mean())).astype(np.float32)


def _hall(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add an echo: noise that fades exponentially."""
    from scipy.signal import fftconvolve

    length = round(rng.uniform(*REVERB_S) * SAMPLE_RATE_HZ)
    echo = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    echo *= rng.uniform(*REVERB_SHARE) / np.sqrt((echo**2).sum())
    echo[0] = 1.0
    return fftconvolve(samples, echo)[: len(samples)]


def _band(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from scipy.signal import butter, sosfilt

    edges = [rng.uniform(*BAND_LOW_HZ), rng.uniform(*BAND_HIGH_HZ)]
    return sosfilt(butter(2, edges, "bandpass", fs=SAMPLE_RATE_HZ, output="sos"), samples)


def vary(samples: np.ndarray, kinds: tuple[str, ...], rng: np.random.Generator) -> Variant:
    """Change speech at random.

    Parameters
    ----------
    samples : ndarray, shape (N,), float32
        Mono, 16 kHz.
    kinds
        Which of `KINDS` may be made; each is, with probability `LIKELY`, and one at least.
    rng
        The same state gives the same variant.

    Raises
    ------
    ValueError
        A kind is unknown, or there is none.
    """
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"Expected some of {', '.join(KINDS)}, got {kinds = }.")
    import librosa
    import soxr

    made = {kind for kind in kinds if rng.random() < LIKELY} or {kinds[rng.integers(len(kinds))]}
    sound, tempo, gain = samples, 1.0, 1.0
    stretch = 1.0
    if "tract" in made:
        factor = rng.uniform(*TRACT)
        sound = soxr.resample(sound, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ / factor)
        stretch /= factor  # its tempo is undone
    if "tempo" in made:
        tempo = rng.uniform(*TEMPO)
        stretch *= tempo
    if stretch != 1:
        sound = librosa.effects.time_stretch(sound, rate=stretch)
    if "reverb" in made:
        sound = _hall(sound, rng)
    if "noise" in made:
        level = np.sqrt((sound**2).mean() * 10 ** (-rng.uniform(*NOISE_SNR_DB) / 10))
        sound = sound + level * noise(len(sound), rng.uniform(*NOISE_SLOPE), rng)
    if "band" in made:
        sound = _band(sound, rng)
    if "gain" in made:
        gain = 10 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20)
    return Variant(np.asarray(sound, np.float32), tempo, gain)


def hush(samples: np.ndarray, rng: np.random.Generator, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Put silence, or noise that stays as it is, in the place of speech.

    Parameters
    ----------
    samples : ndarray, shape (N,), float32
        Mono, 16 kHz.
    rng
        The same state gives the same hushes.
    whole
        One hush from end to end; otherwise speech and hushes take turns.

    Returns
    -------
    samples : ndarray, shape (N,), float32
    spans_s : ndarray, shape (H, 2), float64
        Start and end of each hush, seconds.
    """
    out, spans = samples.copy(), []
    level = np.sqrt((samples**2).mean())
    at = 0 if whole else round(rng.uniform(0, TALK_S[1]) * SAMPLE_RATE_HZ)
    while at < len(out):
        length = len(out) if whole else round(rng.uniform(*HUSH_S) * SAMPLE_RATE_HZ)
        part = out[at : at + length]
        part[:] = 0
        if rng.random() >= SILENT_SHARE:
            part += level * 10 ** (rng.uniform(*HUSH_DB) / 20) * noise(length, rng.uniform(*NOISE_SLOPE), rng)[: len(part)]
        spans.append((at, at + len(part)))
        at += length + round(rng.uniform(*TALK_S) * SAMPLE_RATE_HZ)
    return out, np.reshape(spans, (-1, 2)) / SAMPLE_RATE_HZ
