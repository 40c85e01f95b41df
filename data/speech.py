"""Speech with the time of every phone: eSpeak NG through ctypes.

The library comes from ``espeakng-loader`` (extra ``demo``). It keeps one global state, so a process-wide lock
lets one thread in at a time, and every call sets voice, rate, pitch and range anew.

eSpeak's noise sources carry on from one call to the next: the very same samples come back only from a fresh
process that makes the same calls in the same order. From call to call, phone times differ by some ten milliseconds.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipwright.data.errors import InputError, LipwrightError, MissingPartError

SILENCE = "_"
"""Name of the phone that stands for silence."""

# espeak-ng/speak_lib.h
_SYNCHRONOUS = 2  # samples go to the callback, and espeak_Synth returns when all have gone
_PHONEME_EVENTS, _IN_IPA = 1, 2
_DO_NOT_EXIT = 1 << 15  # on missing data: return an error code instead of ending the process
_UTF8 = 1
_END_PAUSE = 0x1000  # the sentence's pause also after the last one
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END_OF_LIST, _EVENT_PHONEME = 0, 7

_RATES_WPM = (80, 450)
_STRESS = {"ˌ": 1, "ˈ": 2}


@dataclass(frozen=True)
class Phone:
    """One phone, and the time it takes."""

    name: str
    """In the International Phonetic Alphabet, such as ``"aɪ"`` or ``"tʃ"``; ``"_"`` is silence."""
    start_s: float
    end_s: float
    stress: int = 0
    """Of a vowel: 2 the word's main stress, 1 a lesser one."""


@dataclass(frozen=True)
class Speech:
    """Synthesized speech and its phones."""

    samples: NDArray[np.float32]
    """(N,) mono, in [-1, 1]."""
    rate_hz: int
    """Samples a second; 22,050 for every eSpeak voice."""
    phones: tuple[Phone, ...]
    """The phones in order, end to end: the first starts at 0, the last ends with the samples."""

    @property
    def duration_s(self) -> float:
        """Length of the samples in seconds."""
        return len(self.samples) / self.rate_hz


def synthesize(text: str, *, voice: str = "gmw/en-US", rate_wpm: int = 160, pitch: int = 50) -> Speech:
    """Speak `text`.

    Parameters
    ----------
    text
        What to say; punctuation makes the pauses.
    voice
        eSpeak voice file or language: ``"gmw/en-US"``, ``"gmw/en"`` (British), ``"fr"``. A variant may follow a
        plus sign: ``"gmw/en-US+f3"`` is a woman's voice.
    rate_wpm
        Words a minute, 80 to 450.
    pitch
        0 (low) to 100 (high).

    Returns
    -------
    Speech
        Samples in [-1, 1] and the phones that tile them.

    Raises
    ------
    MissingPartError
        ``espeakng-loader`` is not installed.
    InputError
        Unknown voice or variant, a rate or pitch out of range, or a text with nothing to say.
    LipwrightError
        eSpeak refused the text.

    Examples
    --------
    >>> speech = synthesize("Bob may pop five balloons.", rate_wpm=140)
    >>> speech.phones[1].name
    'b'
    """
    if not _RATES_WPM[0] <= rate_wpm <= _RATES_WPM[1]:
        raise InputError(f"rate_wpm must be {_RATES_WPM[0]} to {_RATES_WPM[1]} words a minute, got {rate_wpm}")
    if not 0 <= pitch <= 100:
        raise InputError(f"pitch must be 0 to 100, got {pitch}")
    data = text.encode()
    chunks: list[bytes] = []
    marks: list[tuple[int, str]] = []

    # An exception inside a ctypes callback is lost, so this one only collects.
    @_CALLBACK
    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != _EVENT_END_OF_LIST:
            if events[i].type == _EVENT_PHONEME:
                marks.append((events[i].sample, events[i].name.decode(errors="replace")))
            i += 1
        return 0

    with _LOCK:
        library, rate_hz, data_folder = _open()
        _set_voice(library, data_folder, voice)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath is noise, which the time of the day would seed
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, 50)):
            _require(library.espeak_SetParameter(parameter, value, 0), f"parameter {parameter} = {value}")
        library.espeak_SetSynthCallback(collect)
        try:
            # size counts the terminating zero; 0, 1, 0: from the first character to the end
            flags = _UTF8 | _END_PAUSE
            _require(library.espeak_Synth(data, len(data) + 1, 0, 1, 0, flags, None, None), f"text {text[:60]!r}")
        finally:
            library.espeak_SetSynthCallback(_NO_CALLBACK)

    samples = np.frombuffer(b"".join(chunks), np.int16).astype(np.float32) / 32768.0
    phones = _tile(marks, len(samples), rate_hz)
    require_words(phones, text)
    return Speech(samples, rate_hz, phones)


def require_words(phones: Sequence[Phone], text: str) -> None:
    """Raise `InputError` if a text has come out as nothing but silence."""
    if all(phone.name == SILENCE for phone in phones):
        raise InputError(f"nothing to say in {text[:60]!r}: give at least one word")


def _tile(marks: list[tuple[int, str]], count: int, rate_hz: int) -> tuple[Phone, ...]:
    """Phones end to end over `count` samples, from (start sample, eSpeak's IPA) marks in time order."""
    starts, names, stresses = [0], [SILENCE], [0]
    for start, written in marks:
        if written.startswith("(") or start >= count:  # a switch of language takes no time
            continue
        name = written.strip("ˈˌ ") or SILENCE  # pauses of several lengths have no letter
        if start <= starts[-1]:  # the phone before took no time
            starts.pop()
            names.pop()
            stresses.pop()
        if names and names[-1] == name == SILENCE:
            continue
        starts.append(start if starts else 0)
        names.append(name)
        stresses.append(_STRESS.get(written[:1], 0))
    ends = [*starts[1:], count]
    tiles = zip(names, starts, ends, stresses, strict=True)
    return tuple(Phone(name, start / rate_hz, end / rate_hz, stress) for name, start, end, stress in tiles)


class _Event(ctypes.Structure):
    """``espeak_EVENT``; its last field is a union of which only the phoneme's name is read here."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
_NO_CALLBACK = _CALLBACK()
_LOCK = threading.Lock()


@cache
def _open() -> tuple[ctypes.CDLL, int, Path]:
    """Load and initialize the library, once: (library, samples a second, data folder). Call it under the lock."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingPartError(
            "speech for the demo needs the package espeakng-loader: pip install 'lipwright[demo]'"
        ) from error
    data_folder = Path(espeakng_loader.get_data_path())
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data_folder).encode(), _PHONEME_EVENTS | _IN_IPA | _DO_NOT_EXIT)
    if rate_hz <= 0:
        raise LipwrightError(f"eSpeak NG found no voices in {data_folder}; reinstall espeakng-loader")
    return library, rate_hz, data_folder


def _set_voice(library: ctypes.CDLL, data_folder: Path, voice: str) -> None:
    """Choose `voice`. eSpeak would keep the last voice for an unknown name and pass over an unknown variant."""
    _, plus, variant = voice.partition("+")
    known_variant = not plus or (data_folder / "voices" / "!v" / variant).is_file()
    if not voice or not known_variant or library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InputError(f"eSpeak NG has no voice {voice!r}; try 'gmw/en-US', 'gmw/en', 'fr' or 'gmw/en-US+f3'")


def _require(code: int, what: str) -> None:
    if code != 0:
        raise LipwrightError(f"eSpeak NG refused {what} (error {code})")
