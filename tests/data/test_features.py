"""What the network hears: 100 rows a second, each stamped at its window's centre, and each deaf to all that is not near."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lipwright.data.audio import StoredSpeech
from lipwright.data.features import (
    HOP,
    SILENCE_RMS,
    STEP_HZ,
    FeatureSettings,
    compute_features,
    frame_energy_db,
    gain_for,
)  # fmt: skip
from lipwright.data.media import probe

SETTINGS = FeatureSettings()
REACH = round(SETTINGS.reach_ms * 16)
"""Samples that a step hears after, and before, its own."""
ENERGY = SETTINGS.mfcc
"""Column of the log energy; the differences follow it."""


@pytest.mark.parametrize("count", [1600, 1601, 1759, 1760, 15999, 16000, 16001])
def test_a_row_every_ten_milliseconds(babble, count: int) -> None:
    features = compute_features(babble(1.1)[:count])
    assert features.shape == (1 + count // HOP, SETTINGS.size)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_sizes_follow_the_settings(babble) -> None:
    assert SETTINGS.size == 28
    settings = FeatureSettings(mfcc=20)
    assert settings.size == 42
    assert compute_features(babble(0.5), settings).shape == (51, 42)


def test_settings_become_json_and_say_the_rates() -> None:
    head = json.loads(json.dumps(SETTINGS.to_dict()))
    assert head["step_hz"] == STEP_HZ
    assert head["sample_rate_hz"] == 16000
    own = {key: value for key, value in head.items() if key not in ("step_hz", "sample_rate_hz")}
    assert FeatureSettings(**own) == SETTINGS


@pytest.mark.parametrize("steps", [1, 7, 250])
def test_a_shifted_signal_has_shifted_rows(babble, steps: int) -> None:
    samples = babble(2.0)
    later = np.concatenate([np.zeros(steps * HOP, np.float32), samples])
    shifted = compute_features(later, gain=1.0)[steps:]
    plain = compute_features(samples, gain=1.0)
    np.testing.assert_allclose(shifted[1:], plain[1:], atol=2e-3)
    np.testing.assert_allclose(shifted[0, : ENERGY + 1], plain[0, : ENERGY + 1], atol=2e-3)


@pytest.mark.parametrize("at", [4000, 8000, 8037, 12345])
@pytest.mark.parametrize("floor_power", [SETTINGS.floor_power, 1e-12])
def test_a_loud_burst_leaves_earlier_rows_as_they_were(babble, at: int, floor_power: float) -> None:
    settings = FeatureSettings(floor_power=floor_power)
    samples = babble(1.5, level=0.001)
    burst = samples.copy()
    burst[at : at + 800] = np.random.default_rng(1).uniform(-1, 1, 800)
    before, after = (compute_features(x, settings, gain=1.0) for x in (samples, burst))
    first = -(-(at - REACH) // HOP)  # the first row whose window may touch sample `at`
    np.testing.assert_array_equal(after[:first], before[:first])
    assert np.abs(after[first + 2] - before[first + 2]).max() > 1
    # nor do later rows remember it, a difference excepted
    last = (at + 800 + REACH) // HOP + 2
    np.testing.assert_array_equal(after[last:], before[last:])


@pytest.mark.parametrize("step", [20, 33])
def test_rows_stand_at_the_centre_of_their_window(step: int) -> None:
    samples = np.zeros(16000, np.float32)
    samples[step * HOP] = 0.9
    mfcc = compute_features(samples, gain=1.0)[:, : ENERGY + 1]
    assert np.argmax(mfcc[:, 0]) == step
    assert mfcc[step - 1, 0] == pytest.approx(mfcc[step + 1, 0], abs=1.0)  # heard alike from both sides
    silent = compute_features(np.zeros(16000, np.float32), gain=1.0)[0, : ENERGY + 1]
    heard = np.flatnonzero(np.abs(mfcc - silent).max(1) > 1e-3)
    assert set(heard) == {step - 1, step, step + 1}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("steps", [(0, 40), (1, 2), (990, 1010), (1000, 1001), (2100, 2151), (7, 7), (0, 0), None])
def test_some_steps_are_those_of_the_whole(wav, babble, stored: bool, steps: tuple[int, int] | None) -> None:
    samples = babble(21.5)  # more than two blocks
    whole, sound = compute_features(samples), StoredSpeech(probe(wav(samples))) if stored else samples
    part = compute_features(sound, gain=gain_for(sound, SETTINGS), steps=steps)
    assert part.dtype == np.float32
    np.testing.assert_allclose(part, whole[slice(*steps)] if steps else whole, rtol=0, atol=1e-4)  # dB


def test_blocks_have_no_seams(babble) -> None:
    import librosa

    samples = babble(25.0)
    mel = librosa.feature.melspectrogram(
        y=samples, sr=16000, n_fft=512, hop_length=160, win_length=400, pad_mode="constant", n_mels=40
    )
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(S=mel, ref=1.0, amin=SETTINGS.floor_power, top_db=None), n_mfcc=13).T
    features = compute_features(samples, gain=1.0)
    np.testing.assert_allclose(features[:, :13], mfcc, rtol=0, atol=1e-3)
    rms = librosa.feature.rms(y=samples, frame_length=400, hop_length=160, pad_mode="constant")[0]
    np.testing.assert_allclose(frame_energy_db(samples, SETTINGS), 20 * np.log10(np.maximum(rms, SILENCE_RMS)), atol=1e-4)


def test_differences_are_to_the_step_before(babble) -> None:
    features = compute_features(babble(1.0))
    now, change = features[:, : ENERGY + 1], features[:, ENERGY + 1 :]
    np.testing.assert_allclose(change[1:], np.diff(now, axis=0), atol=1e-4)
    assert not change[0].any()


@pytest.mark.parametrize(("loud", "quiet"), [(0.5, 0.05), (0.2, 0.06)])
def test_volume_does_not_matter(babble, loud: float, quiet: float) -> None:
    np.testing.assert_allclose(compute_features(babble(3.0, level=quiet)), compute_features(babble(3.0, level=loud)), atol=0.01)


def test_the_gain_brings_loud_frames_to_the_common_level(babble) -> None:
    samples = babble(3.0, level=0.05)
    gain = gain_for(samples, SETTINGS)
    loud_db = np.percentile(frame_energy_db(samples * np.float32(gain), SETTINGS), 95)
    assert loud_db == pytest.approx(SETTINGS.level_db, abs=0.01)
    assert gain > 1
    assert gain_for(samples * 100, SETTINGS) == pytest.approx(gain / 100, rel=1e-4)


def test_the_gain_is_capped_so_that_silence_stays_silent() -> None:
    most = 10 ** (SETTINGS.most_gain_db / 20)
    assert gain_for(np.zeros(16000, np.float32), SETTINGS) == pytest.approx(most)
    hiss = np.random.default_rng(0).normal(0, 1e-5, 16000).astype(np.float32)
    assert gain_for(hiss, SETTINGS) == pytest.approx(most)
    silent = compute_features(np.zeros(16000, np.float32))
    assert np.isfinite(silent).all()
    assert np.ptp(silent, axis=0).max() == 0
    assert silent[0, ENERGY] == pytest.approx(20 * np.log10(SILENCE_RMS))
    np.testing.assert_array_equal(compute_features(hiss)[:, :ENERGY], silent[:, :ENERGY])  # on the floor as well


def test_energy_is_in_decibels_of_full_scale() -> None:
    wave = np.sign(np.sin(2 * np.pi * 400 * np.arange(16000) / 16000 + 0.1)).astype(np.float32)
    inner = frame_energy_db(wave, SETTINGS)[2:-2]
    np.testing.assert_allclose(inner, 0, atol=0.01)
    np.testing.assert_allclose(frame_energy_db(wave / 10, SETTINGS)[2:-2], -20, atol=0.01)


def test_sounds_differ(tone) -> None:
    low, high = (compute_features(tone(1.0, hz=hz)[0])[50, :ENERGY] for hz in (200.0, 3000.0))
    assert np.abs(low - high).max() > 20


def test_the_input_is_left_alone_and_the_result_repeats(babble) -> None:
    samples = babble(1.0)
    given = samples.copy()
    np.testing.assert_array_equal(compute_features(samples), compute_features(samples))
    np.testing.assert_array_equal(samples, given)


@pytest.mark.parametrize("shape", [(1, 1600), (1600, 2)])
def test_only_mono_is_taken(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"\({shape[0]}, {shape[1]}\)"):
        compute_features(np.zeros(shape, np.float32))
