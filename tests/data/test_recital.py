"""Recitals: many voices, phones that tile the sound, and the same again for the same number."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import numpy as np
import pytest

from lipwright.data import flite
from lipwright.data.articulation import LETTERS
from lipwright.data.errors import InputError
from lipwright.data.recital import ENGLISH, OTHERS, THROATS, phrases, recite
from lipwright.data.speech import SILENCE, Speech, synthesize

pytest.importorskip("babel", reason="phrases to read need the extra base")

SILENT_MARKS = "ː-.?&" + "".join(map(chr, range(0x2B0, 0x370))) + "ᵝ"
"""Length, tone, breath and the like, which say nothing of the lips."""


def require_tiles(speech: Speech) -> None:
    assert speech.phones[0].start_s == 0.0
    assert speech.phones[-1].end_s == pytest.approx(speech.duration_s, abs=1e-6)
    assert all(a.end_s == b.start_s for a, b in pairwise(speech.phones))
    assert all(p.start_s < p.end_s for p in speech.phones)


@pytest.mark.parametrize("language", OTHERS)
def test_every_language_is_read_with_phones_that_are_known(language: str) -> None:
    known = phrases(language)
    assert len(known) > 1000
    speech = synthesize(", ".join(np.random.default_rng(0).choice(known, 60)), voice=language)
    letters = [c for p in speech.phones if p.name != SILENCE for c in unicodedata.normalize("NFD", p.name)]
    said = [c for c in letters if c not in SILENT_MARKS]
    strange = sorted({c for c in said if c not in LETTERS})
    assert sum(c in LETTERS for c in said) > 0.99 * len(said), strange


@pytest.mark.parametrize("throat", THROATS)
def test_every_throat_speaks(throat: str) -> None:
    speech = synthesize("Bonjour.", voice=f"fr+{throat}")
    assert np.abs(speech.samples).max() > 0.02
    assert next(p.name for p in speech.phones if p.name != SILENCE) == "b"


@pytest.mark.parametrize("voice", ENGLISH)
def test_english_is_read_in_several_accents(voice: str) -> None:
    assert np.abs(synthesize("Hello there.", voice=voice).samples).max() > 0.02


def test_a_recital_tiles_its_sound_and_comes_again() -> None:
    first, again = recite(3, 8.0), recite(3, 8.0)
    require_tiles(Speech(first.samples, 16_000, first.phones))
    assert not any(a.name == b.name == SILENCE for a, b in pairwise(first.phones))
    assert 8.0 <= first.phones[-1].end_s < 40.0
    assert first.voice == again.voice
    assert [p.name for p in first.phones] == [p.name for p in again.phones]
    assert recite(3, 8.0, seed=1).phones != first.phones


def test_recitals_are_of_many_voices() -> None:
    voices = {recite(number, 1.0).voice for number in range(24)}
    assert len(voices) > 18
    assert any(voice.split("+")[0] in ENGLISH for voice in voices)
    assert any(voice.split("+")[0] in OTHERS for voice in voices)


def test_flite_refuses_a_voice_that_it_lacks() -> None:
    with pytest.raises(InputError, match="slt, rms"):
        flite.synthesize("Hello.", voice="nobody")


@pytest.mark.skipif(not flite.installed(), reason="flite is not installed")
@pytest.mark.parametrize("voice", flite.VOICES)
def test_flite_says_when_each_phone_is(voice: str) -> None:
    speech = flite.synthesize("Bob may pop. Five foxes.", voice=voice)
    require_tiles(speech)
    names = [p.name for p in speech.phones if p.name != SILENCE]
    assert names[0] == "b"
    assert names[-2:] == ["ə", "z"] or names[-2:] == ["ɪ", "z"]
    slow = flite.synthesize("Bob may pop. Five foxes.", voice=voice, stretch=1.4)
    assert slow.duration_s > 1.25 * speech.duration_s
    with pytest.raises(InputError, match="nothing to say"):
        flite.synthesize("...", voice=voice)
