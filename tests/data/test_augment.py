"""Speech that is varied stays speech of known tempo; hushes are silent or stationary where they say."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.augment import HUSH_S, KINDS, TEMPO, hush, noise, vary


def speech(seconds: float = 4.0) -> np.ndarray:
    """A gliding buzz in syllables."""
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    buzz = sum(np.sin(2 * np.pi * k * (120 * t + 5 * t**2)) / k for k in range(1, 20))
    return (0.1 * buzz * (0.55 - 0.45 * np.cos(2 * np.pi * 4 * t))).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_is_speech_of_the_tempo_that_it_states(kind: str) -> None:
    given = speech()
    for seed in range(3):
        made = vary(given, (kind,), np.random.default_rng(seed))
        again = vary(given, (kind,), np.random.default_rng(seed))
        assert made.samples.dtype == np.float32
        assert np.isfinite(made.samples).all()
        assert np.array_equal(made.samples, again.samples)
        assert (made.tempo, made.gain) == (again.tempo, again.gain)
        assert len(made.samples) == pytest.approx(len(given) / made.tempo, rel=0.002)
        assert (made.tempo != 1) == (kind == "tempo")
        assert TEMPO[0] <= made.tempo <= TEMPO[1]
        assert (made.gain != 1) == (kind == "gain")
        if kind not in ("gain", "tempo"):
            assert np.abs(made.samples[: len(given)] - given[: len(made.samples)]).max() > 1e-3


def test_syllables_of_a_variant_come_when_its_tempo_says() -> None:
    given = speech()
    made = vary(given, ("tempo",), np.random.default_rng(1))
    then = np.arange(0.5, 3.0, 0.25)  # syllables are quietest here

    def level(samples: np.ndarray, times_s: np.ndarray) -> float:
        return float(np.mean([np.std(samples[round(t * SAMPLE_RATE_HZ) :][:320]) for t in times_s - 0.01]))

    assert level(made.samples, then / made.tempo) < 0.4 * level(made.samples, (then + 0.125) / made.tempo)


@pytest.mark.parametrize("kinds", [(), ("echo",), ("gain", "echo")])
def test_kinds_that_are_not_known_are_refused(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected some of gain, noise"):
        vary(speech(), kinds, np.random.default_rng(0))


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_noise_falls_as_its_slope_says(slope: float) -> None:
    power = np.abs(np.fft.rfft(noise(160_000, slope, np.random.default_rng(0)))) ** 2
    hertz = np.fft.rfftfreq(160_000, 1 / SAMPLE_RATE_HZ)
    low, high = (power[(hertz > f) & (hertz < 1.5 * f)].mean() for f in (200, 3200))
    assert np.log(low / high) / np.log(16) == pytest.approx(slope, abs=0.1)


def test_hushes_leave_the_rest_alone() -> None:
    given = speech(20.0)
    made, spans_s = hush(given, np.random.default_rng(3))
    assert len(spans_s) >= 3
    outside = np.ones(len(given), bool)
    for start, end in np.round(spans_s * SAMPLE_RATE_HZ).astype(int):
        assert end - start <= HUSH_S[1] * SAMPLE_RATE_HZ
        assert not np.array_equal(made[start:end], given[start:end])
        outside[start:end] = False
    assert np.array_equal(made[outside], given[outside])


def test_a_whole_hush_has_no_speech() -> None:
    silent = 0
    for seed in range(8):
        made, spans_s = hush(speech(), np.random.default_rng(seed), whole=True)
        assert spans_s.tolist() == [[0.0, 4.0]]
        silent += not made.any()
        if made.any():
            assert abs(np.corrcoef(made, speech())[0, 1]) < 0.1
    assert 0 < silent < 8
