"""Speech that nobody spoke, with the mouth that goes with it by rule: what a base model can learn from.

eSpeak NG reads phrases aloud in many languages and throats; where flite is installed, its recorded voices read English too.
The phrases are what languages call countries, languages, moneys, cities and months, from the Common Locale Data Repository
(package ``babel``, Unicode licence), strung together to sentences with numbers in between: real words in each language's own
spelling, and nobody's text.

A recital follows from its number and a seed, but for eSpeak's noise (see `lipwright.data.speech`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lipwright.data import flite
from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.errors import MissingPartError
from lipwright.data.speech import SILENCE, Phone, Speech, synthesize

ENGLISH = ("gmw/en-US", "gmw/en", "gmw/en-GB-x-rp", "gmw/en-GB-scotland", "gmw/en-GB-x-gbclan", "gmw/en-029")
OTHERS = (
    "fr", "de", "es", "it", "pt", "nl", "sv", "da", "nb", "fi", "pl", "cs", "ru", "uk", "el", "tr", "hu", "ro", "hr", "id",
    "hi", "ca", "bg", "sk", "lt", "sw", "es-419", "pt-BR", "fr-BE", "ar",
)  # fmt: skip
"""Voices of eSpeak NG, by language."""

ENGLISH_SHARE, FLITE_SHARE = 0.3, 0.2
"""Of the recitals: English from eSpeak NG, and, if it is installed, from flite."""

THROATS = (
    "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "adam", "Alex", "Alicia", "Andrea", "Andy",
    "Annie", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david", "Denis", "Diogo", "ed", "edward",
    "edward2", "gustave", "Henrique", "Hugo", "ian", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "Lee", "linda",
    "marcelo", "Marco", "Mario", "max", "Michael", "michel", "miguel", "Mike", "mike2", "norbert", "pablo", "paul", "pedro",
    "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac", "klatt", "klatt2",
    "klatt3", "klatt4",
)  # fmt: skip
"""Variants of eSpeak NG, which may speak any language; without the robots, the whisperers and the croakers."""

RATES_WPM = (110, 230)
PITCHES = (15, 85)
STRETCHES = (0.8, 1.3)
PACE = (0.9, 1.1)
"""How one sentence's pace varies about its reader's."""
SENTENCE_PHRASES = (2, 9)
NUMBERED = 0.15
"""Share of the phrases that a number goes before."""
LONGEST_PHRASE = 60

_LOCALES = {"nb": "no", "es-419": "es_419", "pt-BR": "pt_BR", "fr-BE": "fr_BE"}
_SEPARATORS, _ODDS = (" ", ", ", "; "), (0.6, 0.3, 0.1)


@dataclass(frozen=True)
class Recital:
    """One voice that reads for a while.

    Attributes
    ----------
    voice
        Whose it is: ``"flite:slt"``, or as eSpeak NG takes it, ``"fr+anika"``.
    samples : ndarray, shape (N,), float32
        Mono, 16 kHz.
    phones
        End to end over the samples.
    """

    voice: str
    samples: NDArray[np.float32]
    phones: tuple[Phone, ...]


@cache
def phrases(language: str) -> tuple[str, ...]:
    """Return what a language calls countries, languages, moneys, cities, months and days, sorted.

    Parameters
    ----------
    language
        One of `OTHERS`, or ``"en"``.

    Raises
    ------
    MissingPartError
        ``babel`` is not installed.
    """
    try:
        from babel import Locale
    except ImportError as error:
        raise MissingPartError("phrases to read need the package babel: pip install 'lipwright[base]'") from error
    locale = Locale.parse(_LOCALES.get(language, language))
    tables = (locale.territories, locale.languages, locale.currencies, locale.scripts)
    names = {name for table in tables for name in table.values()}
    names |= {zone["city"] for zone in locale.time_zones.values() if "city" in zone}
    names |= {*locale.months["format"]["wide"].values(), *locale.days["format"]["wide"].values()}
    return tuple(sorted(name for name in names if any(c.isalpha() for c in name) and len(name) < LONGEST_PHRASE))


def _sentence(known: tuple[str, ...], rng: np.random.Generator) -> str:
    chosen = rng.choice(known, rng.integers(*SENTENCE_PHRASES))
    words = [f"{rng.integers(2, 3000)} {phrase}" if rng.random() < NUMBERED else str(phrase) for phrase in chosen]
    said = "".join(word + str(rng.choice(_SEPARATORS, p=_ODDS)) for word in words)
    return said.rstrip(" ,;") + str(rng.choice([".", "?", "!"]))


def recite(number: int, seconds: float, seed: int = 0) -> Recital:
    """Let a voice read for a while; who reads what, and how, follows from `seed` and `number`.

    Parameters
    ----------
    number
        Of the recital.
    seconds
        How long at least; it ends with a sentence.

    Raises
    ------
    MissingPartError
        ``babel`` or ``espeakng-loader`` is not installed.
    """
    import soxr

    rng = np.random.default_rng([seed, number])
    kind = rng.random()
    recorded = flite.installed() and kind >= 1 - FLITE_SHARE
    language = str(rng.choice(ENGLISH if kind < ENGLISH_SHARE or recorded else OTHERS))
    known = phrases("en" if language in ENGLISH else language)
    throat, recording = str(rng.choice(THROATS)), str(rng.choice(flite.VOICES))
    rate_wpm, pitch, stretch = rng.uniform(*RATES_WPM), int(rng.integers(*PITCHES)), rng.uniform(*STRETCHES)

    def say(text: str, pace: float) -> Speech:
        if recorded:
            return flite.synthesize(text, voice=recording, stretch=stretch / pace)
        return synthesize(text, voice=f"{language}+{throat}", rate_wpm=round(rate_wpm * pace), pitch=pitch)

    samples: list[NDArray[np.float32]] = []
    phones: list[Phone] = []
    while not phones or phones[-1].end_s < seconds:
        speech = say(_sentence(known, rng), rng.uniform(*PACE))
        start_s = phones[-1].end_s if phones else 0.0
        said = [Phone(p.name, start_s + p.start_s, start_s + p.end_s, p.stress) for p in speech.phones]
        if phones and phones[-1].name == said[0].name == SILENCE:
            said[0] = Phone(SILENCE, phones.pop().start_s, said[0].end_s)
        phones += said
        samples.append(speech.samples)
    sound = soxr.resample(np.concatenate(samples), speech.rate_hz, SAMPLE_RATE_HZ)
    return Recital(f"flite:{recording}" if recorded else f"{language}+{throat}", sound, tuple(phones))
