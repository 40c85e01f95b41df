"""Lag: found to the step wherever sound and picture go together, and never claimed where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.data.sync import LEAST_S, Lag, find_lag


def talk(length_s: float, seed: int = 0) -> np.ndarray:
    """An aperture that opens and closes as in speech, a few times a second."""
    from scipy.ndimage import gaussian_filter1d

    rng = np.random.default_rng(seed)
    return np.maximum(gaussian_filter1d(rng.normal(0, 1, round(length_s * 100) + 200), 6)[100:-100], 0)


def pair(length_s: float, lag_ms: float, *, like: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What is said, and a mouth that does it later; `like` is the share that the two have in common."""
    long = talk(length_s + 2, seed)
    at = np.arange(round(length_s * 100)) + 100
    said, measured = long[at], np.interp(at - lag_ms / 10, np.arange(len(long)), long)
    return said, like * measured + (1 - like) * talk(length_s, seed + 1)[: len(at)]


def found(said: np.ndarray, measured: np.ndarray, valid: np.ndarray | None = None) -> Lag:
    lag = find_lag(said, measured, np.ones(len(said), bool) if valid is None else valid)
    assert lag is not None
    return lag


@pytest.mark.parametrize("lag_ms", [-490.0, -400.0, -123.4, -80.0, -7.0, 0.0, 36.6, 120.0, 400.0, 490.0])
@pytest.mark.parametrize("length_s", [10, 30])
def test_a_lag_is_found_between_steps(lag_ms: float, length_s: float) -> None:
    lag = found(*pair(length_s, lag_ms))
    assert abs(lag.lag_ms - lag_ms) < 3
    assert lag.confident


@pytest.mark.parametrize("lag_ms", [-120.0, 80.0])
def test_half_a_likeness_is_enough(lag_ms: float) -> None:
    for seed in range(8):
        lag = found(*pair(20, lag_ms, like=0.5, seed=seed))
        assert abs(lag.lag_ms - lag_ms) < 30
        assert lag.confident


def test_another_sound_is_never_relied_on() -> None:
    for seed in range(60):
        assert not found(talk(20, seed), talk(20, seed + 1000)).confident


@pytest.mark.parametrize("lag_ms", [-1900, -900, -620, -560, -520, 520, 560, 620, 900, 1900])
def test_a_lag_out_of_reach_is_not_claimed(lag_ms: float) -> None:
    assert not found(*pair(20, lag_ms)).confident


def test_what_is_not_seen_does_not_count() -> None:
    said, measured = pair(30, 150)
    valid = np.arange(len(said)) % 700 < 500
    spoilt = np.where(valid, measured, 1e3)
    assert abs(found(said, spoilt, valid).lag_ms - 150) < 10
    assert found(said, spoilt, valid) == found(said, np.where(valid, measured, np.nan), valid)


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.1, 5.0)])
def test_loudness_of_movement_does_not_matter(gain: float, offset: float) -> None:
    said, measured = pair(20, 60)
    lag, other = found(said, measured), found(said, gain * measured + offset)
    assert other.lag_ms == pytest.approx(lag.lag_ms, abs=0.1)
    assert other.confidence == pytest.approx(lag.confidence, abs=0.02)


@pytest.mark.parametrize("still", ["said", "measured", "both"])
def test_where_nothing_moves_there_is_no_lag(still: str) -> None:
    said, measured = pair(20, 0)
    said = np.full_like(said, 0.2) if still != "measured" else said
    measured = np.full_like(measured, 0.1) if still != "said" else measured
    assert find_lag(said, measured, np.ones(len(said), bool)) is None


@pytest.mark.parametrize("seen_s", [0.0, 1.0, LEAST_S - 0.1])
def test_too_little_to_tell(seen_s: float) -> None:
    said, measured = pair(20, 0)
    assert find_lag(said, measured, np.arange(len(said)) < seen_s * 100) is None
