"""A mix is the sum of what each file sounds like at each time, and never clips."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.errors import MediaError
from lipwright.data.media import probe
from lipwright.data.mix import Mix

Make = Callable[..., Path]


def heard(mix: Mix) -> np.ndarray:
    """All of a mix, (channels, N), after its times are seen to be without holes."""
    parts, at = [], Fraction(0)
    for time, block in mix.blocks():
        assert time == at
        assert block.dtype == np.float32
        assert block.shape[0] == mix.channels
        parts.append(block)
        at += Fraction(block.shape[1], mix.rate_hz)
    assert at == mix.length_s
    return np.concatenate(parts, axis=1)


def noise(length_s: float, rate_hz: int = 16000, channels: int = 1, seed: int = 0, level: float = 0.2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, (channels, round(length_s * rate_hz))).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("lengths_s", [(1.5,), (1.0, 1.0), (0.4, 2.3), (3.0, 0.7, 1.0)])
def test_a_mix_is_the_sum_and_as_long_as_the_longest(wav: Make, channels: int, lengths_s: tuple[float, ...]) -> None:
    sounds = [noise(length_s, channels=channels, seed=k) for k, length_s in enumerate(lengths_s)]
    mix = Mix([probe(wav(sound, name=f"{k}.wav")) for k, sound in enumerate(sounds)])
    expected = np.zeros((channels, max(sound.shape[1] for sound in sounds)), np.float32)
    for sound in sounds:
        expected[:, : sound.shape[1]] += sound
    assert (mix.rate_hz, mix.channels) == (16000, channels)
    np.testing.assert_allclose(heard(mix), expected, atol=1e-6)
    np.testing.assert_array_equal(heard(mix), heard(mix))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("channels", [(1, 2), (2, 6), (1, 6), (1, 1)])
@pytest.mark.parametrize("rates_hz", [(16000, 48000), (44100, 16000), (22050, 44100)])
def test_rates_and_layouts_come_together(
    wav: Make, tone: Callable[..., np.ndarray], rates_hz: tuple[int, int], channels: tuple[int, int], order: int
) -> None:
    first, second = tone(1.2, rates_hz[0], 440.0, channels[0]), tone(1.5, rates_hz[1], 1000.0, channels[1])
    media = [probe(wav(sound, rate, f"{rate}.wav")) for sound, rate in zip((first, second), rates_hz, strict=True)]
    mix = Mix(media[::order])
    samples = heard(mix)
    assert (mix.rate_hz, mix.channels) == (max(rates_hz), max(channels))
    assert abs(mix.length_s - Fraction(3, 2)) <= Fraction(2, mix.rate_hz)
    inner = np.arange(round(0.1 * mix.rate_hz), round(1.1 * mix.rate_hz))
    waves = [0.3 * np.sin(2 * np.pi * hz * inner / mix.rate_hz) for hz in (440, 1000)]
    expected = [
        sum(wave for wave, own in zip(waves, channels, strict=True) if c < own or (own == 1 and c < 2))
        for c in range(mix.channels)
    ]
    np.testing.assert_allclose(samples[:, inner], np.broadcast_to(np.array(expected), (mix.channels, len(inner))), atol=2e-3)


def test_each_file_is_heard_on_its_own_clock(encode: Make, picture: Callable[..., object], wav: Make) -> None:
    """A late start and a gap are silence; the other sound goes on."""
    parts, under = [noise(0.5, 48000, seed=k) for k in range(2)], noise(3.0, 48000, seed=5)
    late = encode(
        "late.mkv",
        video=[(Fraction(k, 25), picture(64, 48, k)) for k in range(60)],
        audio=[(Fraction(3, 10), parts[0]), (Fraction(3, 2), parts[1])],
        audio_codec="pcm_s16le",
    )
    samples = heard(Mix([probe(late), probe(wav(under, 48000))]))
    expected = under.copy()
    for part, start_s in zip(parts, (0.3, 1.5), strict=True):
        expected[:, round(48000 * start_s) :][:, :24000] += part
    np.testing.assert_allclose(samples, expected, atol=1e-3)


@pytest.mark.parametrize(("levels", "quieter"), [((0.4, 0.5), 1.0), ((0.8, 0.8), 1.6), ((2.0, 0.5), 2.5)])
def test_what_would_clip_is_quieter_throughout(wav: Make, levels: tuple[float, float], quieter: float) -> None:
    square = np.tile(np.repeat(np.float32([[1, -1]]), 80, axis=1), 150)
    sounds = [
        square * np.float32(levels[0]),
        np.concatenate([np.zeros((1, 16000), np.float32), square * np.float32(levels[1])], 1),
    ]
    samples = heard(Mix([probe(wav(sound, name=f"{k}.wav")) for k, sound in enumerate(sounds)]))
    assert np.abs(samples).max() <= 1 + 1e-6
    np.testing.assert_allclose(samples[:, :16000], sounds[0][:, :16000] / quieter, rtol=1e-5)
    np.testing.assert_allclose(np.abs(samples[:, 16000:24000]), sum(levels) / quieter, rtol=1e-5)


def test_memory_does_not_grow_with_the_length(wav: Make) -> None:
    peaks = []
    for length_s in (4.0, 24.0):
        media = [probe(wav(noise(length_s, 48000, 2, k), 48000, f"{k}.wav", "PCM_16")) for k in range(2)]
        Mix(media)
        tracemalloc.start()
        for _ in Mix(media).blocks():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_a_file_without_sound_or_of_none_numbers_is_named(wav: Make, bars: Make) -> None:
    with pytest.raises(MediaError, match=r"bars\.mp4 has no audio stream"):
        Mix([probe(wav(noise(1.0))), probe(bars())])
    for bad in (np.nan, np.inf):
        broken = noise(1.0, channels=2)
        broken[:, 4000], broken[1, 5000] = bad, -bad
        media = [probe(wav(noise(1.0), name="fine.wav")), probe(wav(broken, name="broken.wav"))]
        with pytest.raises(MediaError, match=r"broken\.wav has 2 sound samples that are not numbers"):
            Mix(media)
        with pytest.raises(MediaError, match=r"broken\.wav has 2 sound samples that are not numbers"):
            Mix([media[1], probe(wav(-broken, 16000, "other.wav"))])
