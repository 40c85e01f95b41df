"""Raw sound as it comes in, from a pipe, a socket or a microphone → 16 kHz mono."""

from __future__ import annotations

import logging
from enum import StrEnum

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

LEAST_RATE_HZ, MOST_RATE_HZ = 8_000, 192_000
MOST_CHANNELS = 8

LOUDEST = 4.0
"""Samples beyond are broken: sound that was resampled may pass ±1, but not so far."""


class Form(StrEnum):
    """How a sample is written."""

    s16le = "s16le"
    f32le = "f32le"

    @property
    def dtype(self) -> np.dtype:
        """Return what a sample is as an array's element."""
        return np.dtype("<i2" if self is Form.s16le else "<f4")


class PcmReader:
    """Raw samples in pieces of any size → 16 kHz mono.

    Parameters
    ----------
    rate_hz
        From 8,000 to 192,000.
    form
        How a sample is written.
    channels
        From 1 to 8, interleaved; their mean is heard.

    Raises
    ------
    ValueError
        The rate or the number of channels is out of these bounds.

    Examples
    --------
    >>> reader = PcmReader(48_000)
    >>> len(reader.push(bytes(2 * 48_000))) + len(reader.finish())
    16000
    """

    def __init__(self, rate_hz: int = SAMPLE_RATE_HZ, form: Form = Form.s16le, channels: int = 1) -> None:
        import soxr

        if not LEAST_RATE_HZ <= rate_hz <= MOST_RATE_HZ:
            raise ValueError(f"the rate is {rate_hz} Hz, not one from {LEAST_RATE_HZ:,} to {MOST_RATE_HZ:,}")
        if not 1 <= channels <= MOST_CHANNELS:
            raise ValueError(f"there are {channels} channels, not 1 to {MOST_CHANNELS}")
        self._form, self._channels = form, channels
        self.frame_bytes = channels * form.dtype.itemsize
        self._rest = b""  # of a frame that has not come whole
        self._warned = False
        same = rate_hz == SAMPLE_RATE_HZ
        self._resampler = None if same else soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")

    def push(self, data: bytes) -> np.ndarray:
        """Take the next bytes.

        Returns
        -------
        ndarray, shape (N,), float32
            16 kHz mono. What is not a number in the sound is silence, and said once.
        """
        data = self._rest + data
        whole = len(data) - len(data) % self.frame_bytes
        self._rest = data[whole:]
        frames = np.frombuffer(data[:whole], self._form.dtype).reshape(-1, self._channels)
        if self._form is Form.s16le:
            mono = frames.mean(1, dtype=np.float32) / np.float32(32768)
        else:
            known = np.isfinite(frames)
            mono = np.clip(np.where(known, frames, 0), -LOUDEST, LOUDEST).mean(1, dtype=np.float32)
            if not known.all():
                self._warn("the sound has samples that are not numbers: they are heard as silence")
        return mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def push_whole(self, data: bytes) -> np.ndarray:
        """Take the next bytes, which should be whole frames: a part of one is silence, so that what follows is in step."""
        if torn := len(data) % self.frame_bytes:
            self._warn(f"{len(data)} bytes of sound came, not a multiple of {self.frame_bytes}: the rest is heard as silence")
            data = data[:-torn] + bytes(self.frame_bytes)
        return self.push(data)

    def finish(self) -> np.ndarray:
        """Return the last samples (N,), which a resampler holds back; a frame that never came whole is left out."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._resampler is None else self._resampler.resample_chunk(nothing, last=True)

    def _warn(self, words: str) -> None:
        if not self._warned:
            log.warning(words)
            self._warned = True
