"""eSpeak NG: samples, and phones that tile them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from lipwright.data.errors import InputError
from lipwright.data.speech import SILENCE, Speech, synthesize

TEXT = "Bob may pop five balloons. Then he goes home, slowly!"


@pytest.fixture(scope="module")
def speech() -> Speech:
    return synthesize(TEXT)


def test_samples_are_mono_finite_and_in_range(speech: Speech) -> None:
    assert speech.samples.dtype == np.float32
    assert speech.samples.ndim == 1
    assert speech.rate_hz == 22050
    assert np.isfinite(speech.samples).all()
    assert 0.1 < np.abs(speech.samples).max() <= 1.0


@pytest.mark.parametrize("voice", ["gmw/en-US", "gmw/en", "gmw/en-US+f3", "fr"])
def test_phones_tile_the_whole_duration(voice: str) -> None:
    speech = synthesize(TEXT, voice=voice)
    assert speech.phones[0].start_s == 0.0
    assert speech.phones[-1].end_s == speech.duration_s
    assert all(phone.start_s < phone.end_s for phone in speech.phones)
    assert all(a.end_s == b.start_s for a, b in pairwise(speech.phones))


def test_names_carry_no_stress_and_silence_stands_between_and_after_sentences(speech: Speech) -> None:
    names = [phone.name for phone in speech.phones]
    spoken = [name for name in names if name != SILENCE]
    assert spoken[:6] == ["b", "ɑː", "b", "m", "eɪ", "p"]
    assert all(name[0] not in "ˈˌ(" for name in spoken)
    pauses = [phone for phone in speech.phones if phone.name == SILENCE and phone.end_s - phone.start_s > 0.1]
    assert len(pauses) >= 2
    assert names[-1] == SILENCE


def test_vowels_bear_their_stress() -> None:
    stress = [(p.name, p.stress) for p in synthesize("Below, a banana.").phones if p.name != SILENCE]
    assert stress[1:4] == [("ᵻ", 0), ("l", 0), ("oʊ", 2)]
    assert max(level for _, level in stress[4:]) == 2
    assert all(level == 0 for name, level in stress if name in "bln")


def test_silence_is_quiet_where_the_phones_say_so(speech: Speech) -> None:
    loud = np.sqrt(np.mean(speech.samples**2))
    for phone in speech.phones:
        if phone.name == SILENCE and phone.end_s - phone.start_s > 0.2:
            middle = 0.5 * (phone.start_s + phone.end_s)
            window = speech.samples[int((middle - 0.05) * speech.rate_hz) : int((middle + 0.05) * speech.rate_hz)]
            assert np.sqrt(np.mean(window**2)) < 0.05 * loud


def test_a_faster_rate_is_shorter() -> None:
    durations = [synthesize(TEXT, rate_wpm=rate).duration_s for rate in (110, 160, 240)]
    assert durations[0] > 1.15 * durations[1] > 1.15**2 * durations[2]


def test_settings_do_not_leak_into_the_next_call(speech: Speech) -> None:
    synthesize("Quickly now.", voice="fr", rate_wpm=300, pitch=90)
    again = synthesize(TEXT)
    assert [phone.name for phone in again.phones] == [phone.name for phone in speech.phones]
    assert again.duration_s == pytest.approx(speech.duration_s, abs=0.05)


@pytest.mark.parametrize("voice", ["xx-klingon", "gmw/en-US+nobody", ""])
def test_an_unknown_voice_is_named(voice: str) -> None:
    with pytest.raises(InputError, match="no voice") as caught:
        synthesize("Hello.", voice=voice)
    assert repr(voice) in str(caught.value)


@pytest.mark.parametrize("text", ["", "  \n", "..."])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="nothing to say"):
        synthesize(text)


@pytest.mark.parametrize("settings", [{"rate_wpm": 20}, {"rate_wpm": 900}, {"pitch": 101}, {"pitch": -1}])
def test_settings_out_of_range_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=str(next(iter(settings.values())))):
        synthesize("Hello.", **settings)


def test_threads_take_turns() -> None:
    with ThreadPoolExecutor(3) as pool:
        spoken = list(pool.map(synthesize, ["One and two.", "Three, four, five.", "Six."] * 4))
    assert [len(s.phones) for s in spoken[:3]] * 4 == [len(s.phones) for s in spoken]
