"""Speech with the time of every phone: the recorded voices of flite, where it is installed (Debian: ``apt install flite``).

They speak American and Scottish English from recordings of people, and sound more like them than eSpeak NG's formants do.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import soundfile

from lipwright.data.errors import InputError, LipwrightError, MissingPartError
from lipwright.data.speech import SILENCE, Phone, Speech, require_words

VOICES = ("slt", "rms", "awb", "kal16")

_IPA = {
    "aa": "ɑː", "ae": "æ", "ah": "ʌ", "ao": "ɔː", "aw": "aʊ", "ax": "ə", "axr": "ɚ", "ay": "aɪ", "b": "b", "ch": "tʃ", "d": "d",
    "dh": "ð", "dx": "ɾ", "eh": "ɛ", "el": "əl", "em": "m", "en": "n", "er": "ɜː", "ey": "eɪ", "f": "f", "g": "ɡ", "hh": "h",
    "hv": "h", "ih": "ɪ", "iy": "iː", "jh": "dʒ", "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ", "nx": "n", "ow": "oʊ",
    "oy": "ɔɪ", "p": "p", "pau": SILENCE, "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ", "uh": "ʊ", "uw": "uː", "v": "v",
    "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip


def installed() -> bool:
    """Say whether the program is there."""
    return shutil.which("flite") is not None


def synthesize(text: str, *, voice: str, stretch: float = 1.0) -> Speech:
    """Speak English.

    Parameters
    ----------
    text
        What to say.
    voice
        One of `VOICES`.
    stretch
        Factor on the length of every phone; 1 is the voice's own pace.

    Returns
    -------
    Speech
        The phones bear no stress: flite does not tell it.

    Raises
    ------
    MissingPartError
        flite is not installed.
    InputError
        Unknown voice, or a text with nothing to say.
    LipwrightError
        flite refused the text.
    """
    if voice not in VOICES:
        raise InputError(f"flite has no voice {voice!r}; choose one of {', '.join(VOICES)}")
    if not installed():
        raise MissingPartError("these voices need the program flite; on Debian: apt-get install flite")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speech.wav"
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:g}", "-psdur", "-t", text, "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not out.exists():
            raise LipwrightError(f"flite refused text {text[:60]!r}: {done.stderr.strip()[:200]}")
        samples, rate_hz = soundfile.read(out, dtype="float32")
    length_s = len(samples) / rate_hz
    phones: list[Phone] = []
    for token in done.stdout.split():
        name, _, end = token.rpartition(":")
        start_s = phones[-1].end_s if phones else 0.0
        if (end_s := min(float(end), length_s)) > start_s:
            phones.append(Phone(_IPA[name], start_s, end_s))
    require_words(phones, text)
    if phones[-1].end_s < length_s:
        phones.append(Phone(SILENCE, phones[-1].end_s, length_s))
    return Speech(samples, rate_hz, tuple(phones))
