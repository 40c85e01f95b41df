"""Speech is where it is loud, pauses for breath are not; levels are what they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lipwright.data.audio import read_speech
from lipwright.data.features import FeatureSettings
from lipwright.data.media import probe
from lipwright.data.voice import find_other_sound, find_speech, knows_voices, measure_levels

FEATURES = FeatureSettings()


def spoken(gain_db: float = 0.0, noise_db: float = -70.0, seed: int = 0) -> np.ndarray:
    """Ten seconds: bursts of noise in the first 3 and the last 4, but for closures of 0.1 s; between, a pause."""
    rng = np.random.default_rng(seed)
    time = np.arange(160_000) / 16000
    on = ((time < 3) | (time >= 6)) & (time % 0.5 > 0.1)
    voice = rng.normal(0, 0.1, len(time)) * on
    return (10 ** (gain_db / 20) * (voice + rng.normal(0, 10 ** (noise_db / 20), len(time)))).astype(np.float32)


@pytest.mark.parametrize("gain_db", [-30, 0, 10])
@pytest.mark.parametrize("noise_db", [-90, -50, -40])
def test_speech_is_told_from_pauses_at_any_level(gain_db: float, noise_db: float) -> None:
    speech = find_speech(spoken(gain_db, noise_db), FEATURES)
    assert speech.shape == (1001,)
    time = np.arange(1001) / 100
    near = np.minimum(np.abs(time - 3), np.abs(time - 6)) < 0.15
    expected = (time < 3) | (time >= 6)
    inside = ~near & (time > 0.15) & (time < 9.9)
    assert (speech == expected)[inside].all()


def test_nothing_but_noise_is_no_speech() -> None:
    rng = np.random.default_rng(0)
    assert find_speech(rng.normal(0, 0.01, 80_000).astype(np.float32), FEATURES).mean() < 0.01
    assert not find_speech(np.zeros(16_000, np.float32), FEATURES).any()


@pytest.mark.parametrize("gain_db", [-20, 0])
def test_levels_are_measured(gain_db: float) -> None:
    levels = measure_levels(spoken(gain_db, -50), FEATURES)
    assert levels.loud_db == pytest.approx(-20 + gain_db, abs=1)
    assert levels.noise_db == pytest.approx(-50 + gain_db, abs=1.5)
    assert levels.treble_db == pytest.approx(10 * np.log10((8000 - 3600) / 8000), abs=0.3)


def test_a_telephone_is_told_by_its_missing_treble(tone: Callable[..., np.ndarray]) -> None:
    low = sum(tone(2.0, hz=hz)[0] for hz in (300, 1000, 2500, 3300))
    assert measure_levels(low, FEATURES).treble_db < -50
    assert measure_levels(low + tone(2.0, hz=6000)[0], FEATURES).treble_db > -10
    assert measure_levels(low[:500], FEATURES).treble_db < -10  # less than a block


@pytest.fixture(scope="module")
def voice(talk: Any) -> np.ndarray:
    return read_speech(probe(talk.path))


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_music_is_told_from_speech(voice: np.ndarray, music: Callable[..., np.ndarray], level: float) -> None:
    sound = np.concatenate([voice, music(6.0, level=level), voice])
    other = find_other_sound(sound, FEATURES)
    assert other.shape == (1 + len(sound) // 160,)
    border = len(voice) // 160
    assert other[border + 50 : border + 550].all()
    assert not other[: border - 10].any()
    assert not other[border + 660 :].any()


def test_silence_is_no_other_sound_nor_is_speech_over_music(voice: np.ndarray, music: Callable[..., np.ndarray]) -> None:
    for sound in (voice, np.concatenate([voice, np.zeros(48_000, np.float32), voice])):
        assert not find_other_sound(sound, FEATURES).any()
    assert find_other_sound(voice + music(len(voice) / 16000, level=0.01)[: len(voice)], FEATURES).mean() < 0.1


def test_without_the_package_nothing_is_told(
    voice: np.ndarray, music: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    assert not knows_voices()
    assert not find_other_sound(np.concatenate([voice, music(3.0)]), FEATURES).any()


def test_the_number_of_threads_stays(voice: np.ndarray) -> None:
    code = (
        "import numpy, torch; torch.set_num_threads(2); from lipwright.data.voice import find_other_sound as f; "
        "from lipwright.data.features import FeatureSettings as S; f(numpy.ones(32000, numpy.float32), S()); "
        "print(torch.get_num_threads())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "2"
