"""Several sounds → one: two people who speak in turn, a voice over music, heard together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import zip_longest

import numpy as np

from lipwright.data.audio import steady_blocks
from lipwright.data.media import Media


class Mix:
    """The sum of sounds, each on its own file's clock: all zeros are one. Memory does not grow with their length.

    The longest counts, and where all together would clip, all of them are that much quieter throughout.

    Parameters
    ----------
    sounds
        From `probe`; one or more. Made once all of them have been heard through.

    Attributes
    ----------
    sounds
    rate_hz, channels
        The highest rate and the most channels of any. A single channel comes from the middle: it is put on the first
        two alike; several keep their order.
    length_s : Fraction
        Of the longest.

    Raises
    ------
    MediaError
        One has no audio stream, too little sound, or samples that are not numbers.
    """

    def __init__(self, sounds: Sequence[Media]) -> None:
        self.sounds = sounds
        kinds = [sound.need_audio() for sound in sounds]
        self.rate_hz = max(kind.rate_hz for kind in kinds)
        self.channels = max(kind.channels for kind in kinds)
        self._gain, length, peak = 1.0, 0, 1.0
        with np.errstate(invalid="ignore"):  # +∞ − ∞: told at the end
            for _, block in self.blocks():
                length += block.shape[1]
                peak = max(peak, float(np.abs(block).max()))
        self._gain = 1 / peak
        self.length_s = Fraction(length, self.rate_hz)

    def blocks(self) -> Iterator[tuple[Fraction, np.ndarray]]:
        """Mix, a second at a time.

        Yields
        ------
        time : Fraction
            Of the first sample, in seconds; the first is 0, each begins where the last one ended.
        samples : ndarray, shape (channels, n), float32
            In [-1, 1].
        """
        together = zip_longest(*(_seconds(self._resampled(sound), self.rate_hz) for sound in self.sounds))
        for time, parts in enumerate(together):
            there = [part for part in parts if part is not None]
            block = np.zeros((self.channels, max(part.shape[1] for part in there)), np.float32)
            for part in there:
                block[: max(len(part), min(2, self.channels)), : part.shape[1]] += part
            yield Fraction(time), block * np.float32(self._gain)

    def _resampled(self, sound: Media) -> Iterator[np.ndarray]:
        """Decode a sound at the mix's rate, in its own channels."""
        import soxr

        kind = sound.need_audio()
        if kind.rate_hz == self.rate_hz:
            yield from steady_blocks(sound)
            return
        resampler = soxr.ResampleStream(kind.rate_hz, self.rate_hz, kind.channels, dtype="float32")
        for block in steady_blocks(sound):
            yield resampler.resample_chunk(block.T).reshape(-1, kind.channels).T
        yield resampler.resample_chunk(np.zeros((0, kind.channels), np.float32), last=True).reshape(-1, kind.channels).T


def _seconds(blocks: Iterator[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """Cut blocks (channels, n) into such of a second; the last one may be shorter."""
    held: list[np.ndarray] = []
    for block in blocks:
        held.append(block)
        while sum(part.shape[1] for part in held) >= rate_hz:
            joined = np.concatenate(held, axis=1)
            yield joined[:, :rate_hz]
            held = [joined[:, rate_hz:]]
    if held and held[-1].shape[1]:
        yield np.concatenate(held, axis=1)
