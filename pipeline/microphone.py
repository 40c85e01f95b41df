"""The microphone, as raw sound in pieces."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from typing import Any

from lipwright.data.errors import InputError, MissingPartError
from lipwright.data.pcm import Form, PcmReader

log = logging.getLogger(__name__)

BLOCK_S = 0.02
"""Sound is taken so much together."""

WAITING = 250
"""Blocks that wait at most: a machine that is 5 s behind has lost its way, and hears on from now."""

QUIET_S = 2.0
"""A microphone that gives nothing for so long was unplugged."""


@contextmanager
def open_microphone() -> Iterator[tuple[PcmReader, Iterator[bytes]]]:
    """Listen to the system's default microphone, at its own rate.

    Yields
    ------
    reader
        For its sound.
    blocks
        The sound, without end.

    Raises
    ------
    MissingPartError
        sounddevice or PortAudio is not installed.
    InputError
        There is no microphone, or it cannot be used.
    """
    try:
        import sounddevice
    except ImportError:
        raise MissingPartError("--microphone needs sounddevice: pip install 'lipwright[stream]'") from None
    except OSError:  # it looks for PortAudio when it is imported
        raise MissingPartError("--microphone needs PortAudio; on Debian: apt install libportaudio2") from None
    blocks: Queue[bytes] = Queue(WAITING)

    def take(data: Any, frames: int, time: Any, status: Any) -> None:
        if status:
            log.warning("the microphone: %s", status)
        try:
            blocks.put_nowait(bytes(data))
        except Full:
            log.warning("this machine does not keep up with the microphone: some of its sound is lost")

    try:
        rate_hz = round(sounddevice.query_devices(kind="input")["default_samplerate"])
        stream = sounddevice.RawInputStream(
            samplerate=rate_hz, blocksize=round(BLOCK_S * rate_hz), channels=1, dtype="int16", callback=take
        )
        with stream:
            yield PcmReader(rate_hz, Form.s16le), _each(blocks)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(f"the microphone cannot be used ({error}); see that one is connected and set as the default") from None


def _each(blocks: Queue[bytes]) -> Iterator[bytes]:
    while True:
        try:
            yield blocks.get(timeout=QUIET_S)
        except Empty:
            raise InputError("the microphone gives no sound any more; connect it again") from None
