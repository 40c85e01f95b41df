"""Sound in: any codec to 16 kHz mono float32 on the file's clock, for features only.

The sound that is written beside a rendered picture is never this: see `lipwright.data.writer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np

from lipwright.data.errors import MediaError
from lipwright.data.media import Media, decode, open_media

SAMPLE_RATE_HZ = 16_000
"""Rate of the sound that features are computed from."""

GAP_S = 0.02
"""Timestamps off by less than this from where the last samples ended are rounding; by more, a gap or an overlap."""

SHORTEST_S = 0.1
"""Less sound than this is an error: no speech fits into it."""


def read_blocks(media: Media) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Decode the sound of a file block by block.

    Yields
    ------
    time : Fraction
        Of the first sample, in seconds on the file's clock.
    samples : ndarray, shape (channels, n), float32
        In [-1, 1].
    """
    media.need_audio()
    with open_media(media.path) as container:
        stream = container.streams.audio[0]
        packed = av.AudioResampler(format="flt")  # PyAV crashes on the planes of 8 and more channels
        for frame in decode(container, stream):
            if frame.pts is None:
                continue
            time = frame.pts * frame.time_base - media.zero
            for block in packed.resample(frame):
                yield time, block.to_ndarray().reshape(-1, block.layout.nb_channels).T


def read_speech(media: Media, listen: Callable[[np.ndarray], None] | None = None) -> np.ndarray:
    """Decode a file's sound to 16 kHz mono.

    Sample 0 stands at time zero of the file's clock: a late start or a gap in the timestamps is silence.

    Parameters
    ----------
    media
        From `probe`.
    listen
        Called with each block (channels, n) as it was decoded.

    Returns
    -------
    ndarray, shape (N,), float32
        In [-1, 1] (beyond, where the source was).

    Raises
    ------
    MediaError
        There is no audio stream, too little sound, or samples that are not numbers.
    """
    rate = media.need_audio().rate_hz
    parts: list[np.ndarray] = []
    length = 0
    for time, block in read_blocks(media):
        if listen:
            listen(block)
        with np.errstate(invalid="ignore"):  # +∞ − ∞: told below
            mono = block.mean(axis=0, dtype=np.float32)
        gap = round(time * rate) - length
        if not parts or gap > GAP_S * rate:
            parts.append(np.zeros(max(gap, 0), np.float32))
            length += max(gap, 0)
        elif gap < -GAP_S * rate:
            mono = mono[-gap:]
        parts.append(mono)
        length += len(mono)
    if length < SHORTEST_S * rate:
        raise MediaError(f"{media.path} holds {length} samples of sound at {rate} Hz; at least {SHORTEST_S} s is needed")
    samples = np.concatenate(parts)
    if not np.isfinite(samples).all():
        bad = np.count_nonzero(~np.isfinite(samples))
        raise MediaError(f"{media.path} has {bad} sound samples that are not numbers (NaN or infinity); export it again")
    if rate == SAMPLE_RATE_HZ:
        return samples
    import soxr

    return soxr.resample(samples, rate, SAMPLE_RATE_HZ).astype(np.float32, copy=False)
