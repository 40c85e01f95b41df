"""Sound in: any codec to 16 kHz mono float32 on the file's clock, for features only.

The sound that is written beside a rendered picture is never this: see `lipwright.data.writer`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from lipwright.data.errors import MediaError
from lipwright.data.media import Media, decode, open_media
from lipwright.data.rows import Store

log = logging.getLogger(__name__)

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
    audio = media.need_audio()
    with open_media(media.path) as container:
        stream = container.streams.audio[0]
        layout: Any = None
        rate_hz: int | None = None
        before: tuple[str, str, int] | None = None
        for frame in decode(container, stream):
            if frame.pts is None:
                continue
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != before:  # broadcasts change midway; the sound stays what it was at first
                # PyAV crashes on the planes of 8 and more channels.
                packed = av.AudioResampler(format="flt", layout=layout, rate=rate_hz)
                layout, rate_hz, before = layout or frame.layout, audio.rate_hz, kind
            time = frame.pts * frame.time_base - media.zero
            try:
                blocks = packed.resample(frame)
            except av.error.FFmpegError:  # a broken packet may come out as sound of 39 channels
                log.debug("%s: sound at %s (%s) is passed over", media.path, frame.pts, ", ".join(map(str, kind)))
                continue
            for block in blocks:
                yield time, block.to_ndarray().reshape(-1, block.layout.nb_channels).T


def steady_blocks(media: Media, listen: Callable[[np.ndarray], None] | None = None) -> Iterator[np.ndarray]:
    """Decode a file's sound as one from time zero on: a late start or a gap in the timestamps is silence.

    Parameters
    ----------
    media
        From `probe`.
    listen
        Called with each block (channels, n) as it was decoded.

    Yields
    ------
    ndarray, shape (channels, n), float32

    Raises
    ------
    MediaError
        There is no audio stream, too little sound, or samples that are not numbers: told at the end.
    """
    rate, length, bad = media.need_audio().rate_hz, 0, 0
    for time, block in read_blocks(media):
        if listen:
            listen(block)
        gap = round(time * rate) - length
        if gap > GAP_S * rate or (length == 0 and gap > 0):
            for start in range(0, gap, rate):
                yield np.zeros((len(block), min(rate, gap - start)), np.float32)
            length += gap
        elif gap < -GAP_S * rate:
            block = block[:, -gap:]
        length += block.shape[1]
        bad += int(np.count_nonzero(~np.isfinite(block).all(axis=0)))
        yield block
    if length < SHORTEST_S * rate:
        raise MediaError(f"{media.path} holds {length} samples of sound at {rate} Hz; at least {SHORTEST_S} s is needed")
    if bad:
        raise MediaError(f"{media.path} has {bad} sound samples that are not numbers (NaN or infinity); export it again")


def speech_blocks(media: Media, listen: Callable[[np.ndarray], None] | None = None) -> Iterator[np.ndarray]:
    """Decode a file's sound to 16 kHz mono, block by block: what `read_speech` gives, in pieces."""
    import soxr

    rate = media.need_audio().rate_hz
    resampler = None if rate == SAMPLE_RATE_HZ else soxr.ResampleStream(rate, SAMPLE_RATE_HZ, 1, dtype="float32")

    def resampled(samples: np.ndarray, last: bool = False) -> np.ndarray:
        return resampler.resample_chunk(samples, last=last) if resampler else samples

    for block in steady_blocks(media, listen):
        with np.errstate(invalid="ignore"):  # +∞ − ∞: told at the end
            mono = block.mean(axis=0, dtype=np.float32)
        yield resampled(mono)
    yield resampled(np.zeros(0, np.float32), last=True)


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
    return np.concatenate(list(speech_blocks(media, listen)))


class StoredSpeech:
    """What `read_speech` gives, on disk: memory does not grow with its length. A slice of it is read as an array."""

    def __init__(self, media: Media, listen: Callable[[np.ndarray], None] | None = None) -> None:
        self._store = Store.scratch()
        self._length = 0
        for block in speech_blocks(media, listen):
            self._store.append(block)
            self._length += len(block)

    def extend(self, length: int) -> None:
        """Let silence follow until there are so many samples."""
        while self._length < length:
            block = np.zeros(min(length - self._length, SAMPLE_RATE_HZ), np.float32)
            self._store.append(block)
            self._length += len(block)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, span: slice) -> np.ndarray:
        start, end, _ = span.indices(self._length)
        samples = np.zeros(max(end - start, 0), np.float32)
        self._store.read(4 * start, samples)
        return samples


Speech = np.ndarray | StoredSpeech
"""16 kHz mono samples (N,) float32."""


def around(samples: Speech, start: int, end: int) -> np.ndarray:
    """Return the samples from `start` up to `end`; before the first and after the last there is silence."""
    inside = samples[max(start, 0) : max(end, 0)]
    before = min(max(-start, 0), end - start)
    return np.pad(inside, (before, end - start - before - len(inside)))
