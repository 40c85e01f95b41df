"""The metrics: known answers to known questions, and None where there is no answer."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.models.metrics import (
    CLOSURE_REACH_STEPS,
    LEAST_CLOSURES,
    Correlation,
    closure_f1,
    gain,
    jitter_ratio,
    lag_ms,
    mean_distance,
    pearson,
)  # fmt: skip

STEPS = 2000


def movement(steps: int = STEPS, seed: int = 0, fastest_hz: float = 6.0) -> np.ndarray:
    """A series that moves like a mouth: slow sines of random phase."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps) / 100
    rates, phases = rng.uniform(0.5, fastest_hz, 12), rng.uniform(0, 2 * np.pi, 12)
    return 0.2 + 0.02 * np.sin(2 * np.pi * rates * time[:, None] + phases).sum(1)


ALL = np.ones(STEPS, bool)


# Correlation, gain, distance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_correlation_that_comes_piece_by_piece_is_that_of_the_whole(kind: type) -> None:
    a, b = movement().astype(kind), (movement(seed=1) + movement()).astype(kind)
    pieces = Correlation()
    for cut in (slice(0, 1), slice(1, 1), slice(1, 700), slice(700, STEPS)):
        pieces.add(a[cut], b[cut])
    assert pieces.count == STEPS
    assert pieces.value == pytest.approx(pearson(a, b), abs=1e-6)


def test_what_does_not_vary_has_no_correlation_piece_by_piece_either() -> None:
    for still in (np.full(STEPS, 0.1, np.float32), np.zeros(STEPS)):
        pieces = Correlation()
        pieces.add(still, movement())
        assert pieces.value is None
    assert Correlation().value is None


def test_pearson_of_known_series() -> None:
    a = movement()
    assert pearson(a, a) == pytest.approx(1)
    assert pearson(a, -a) == pytest.approx(-1)
    assert pearson(a, 3 * a + 7) == pytest.approx(1)
    assert pearson(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)
    assert abs(pearson(*np.random.default_rng(0).normal(0, 1, (2, 20000))) or 0) < 0.03


def test_pearson_is_symmetric() -> None:
    a, b = movement(seed=1), movement(seed=2)
    assert pearson(a, b) == pytest.approx(pearson(b, a))


@pytest.mark.parametrize("series", [np.zeros(100), np.full(100, 0.3), np.array([]), np.array([1.0]), np.array([1.0, 2.0])])
def test_pearson_of_what_does_not_vary_is_none(series: np.ndarray) -> None:
    other = movement(len(series))
    assert pearson(series, other) is None
    assert pearson(other, series) is None


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.0])
def test_gain_is_the_ratio_of_movements(factor: float) -> None:
    a = movement()
    assert gain(factor * a + 5, a) == pytest.approx(factor, abs=1e-9)
    assert gain(-factor * a, a) == pytest.approx(factor, abs=1e-9)


@pytest.mark.parametrize("measured", [np.zeros(10), np.full(10, 0.2), np.array([])])
def test_gain_over_nothing_is_none(measured: np.ndarray) -> None:
    assert gain(movement(len(measured)), measured) is None


def test_mean_distance_is_in_its_unit() -> None:
    a = np.random.default_rng(0).normal(0, 1, (50, 40, 3))
    assert mean_distance(a, a) == 0
    assert mean_distance(a + np.array([0.03, 0.04, 0]), a) == pytest.approx(0.05)
    b = a.copy()
    b[:25] += (0, 0, 0.1)
    assert mean_distance(b, a) == pytest.approx(0.05)


# Lag ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late_ms", [-400, -50, -10, 0, 10, 50, 200, 450])
def test_lag_is_positive_where_the_prediction_comes_later(late_ms: int) -> None:
    whole = movement(STEPS + 200)
    measured, predicted = whole[100 : 100 + STEPS], whole[100 - late_ms // 10 :][:STEPS]
    assert lag_ms(predicted, measured, ALL) == pytest.approx(late_ms, abs=1.0)
    assert lag_ms(3 * predicted - 1, measured, ALL) == pytest.approx(late_ms, abs=1.0)


@pytest.mark.parametrize("late_ms", [-33.3, 4.0, 17.5, 45.0])
def test_lag_is_finer_than_a_step(late_ms: float) -> None:
    fine = np.interp(np.arange(STEPS) - late_ms / 10 + 100, np.arange(STEPS + 200), movement(STEPS + 200))
    assert lag_ms(fine, movement(STEPS + 200)[100 : 100 + STEPS], ALL) == pytest.approx(late_ms, abs=1.5)


def test_steps_that_are_not_valid_do_not_count_for_the_lag() -> None:
    whole = movement(STEPS + 200)
    measured, predicted = whole[100 : 100 + STEPS].copy(), whole[95 : 95 + STEPS].copy()
    valid = ALL.copy()
    valid[300:900] = False
    measured[~valid] = np.nan
    predicted[~valid] = 1e6
    assert lag_ms(predicted, measured, valid) == pytest.approx(50, abs=1.0)


@pytest.mark.parametrize("steps", [2, 3, 10, 100])
def test_lag_of_short_series_is_near_or_none(steps: int) -> None:
    a = movement(steps)
    lag = lag_ms(a, a, np.ones(steps, bool))
    assert lag is None or abs(lag) <= 10 * (steps // 4)
    if steps == 100:
        assert lag == pytest.approx(0, abs=1)


def test_lag_of_what_does_not_vary_is_none() -> None:
    assert lag_ms(np.zeros(STEPS), movement(), ALL) is None
    assert lag_ms(movement(), np.zeros(STEPS), ALL) is None
    assert lag_ms(movement(), movement(), ~ALL) is None
    assert lag_ms(np.array([]), np.array([]), np.array([], bool)) is None


# Closures -------------------------------------------------------------------------------------------------------------


def opening(closures: list[tuple[int, int]], steps: int = 1000) -> np.ndarray:
    """An aperture of 0.3 that is 0 during the [start, end) given."""
    out = np.full(steps, 0.3)
    for start, end in closures:
        out[start:end] = 0
    return out


TEN = [(start, start + 8) for start in range(50, 1000, 100)]
EVERY = np.ones(1000, bool)


def f1(predicted: list[tuple[int, int]], measured: list[tuple[int, int]] = TEN, valid: np.ndarray = EVERY) -> float | None:
    return closure_f1(opening(predicted), opening(measured), valid, 0.05)


def test_the_same_closures_are_perfect() -> None:
    assert f1(TEN) == 1


def test_missed_and_invented_closures_cost() -> None:
    assert f1([]) == 0
    assert f1(TEN[:5]) == pytest.approx(2 * 5 / 15)
    invented = [(start + 40, start + 45) for start, _ in TEN]
    assert f1(TEN + invented) == pytest.approx(2 * 10 / 30)
    assert f1(invented) == 0


@pytest.mark.parametrize("length", [1, 8])
@pytest.mark.parametrize("side", [-1, 1])
def test_closures_match_up_to_40_ms_apart(length: int, side: int) -> None:
    def apart(steps: int) -> list[tuple[int, int]]:
        """Closures whose nearest step lies `steps` steps after, or before, the measured ones' nearest."""
        if side > 0:
            return [(end - 1 + steps, end - 1 + steps + length) for _, end in TEN]
        return [(start - steps - length + 1, start - steps + 1) for start, _ in TEN]

    assert f1(apart(CLOSURE_REACH_STEPS)) == 1
    assert f1(apart(CLOSURE_REACH_STEPS + 1)) == 0


def test_matching_is_one_to_one() -> None:
    assert f1([(0, 1000)]) == pytest.approx(2 * 1 / 11)  # always closed finds one closure, not ten
    halves = [(start, start + 2) for start, _ in TEN] + [(start + 4, start + 6) for start, _ in TEN]
    assert f1(halves) == pytest.approx(2 * 10 / 30)


def test_closures_where_the_mouth_is_not_known_do_not_count() -> None:
    valid = EVERY.copy()
    valid[:300] = False
    assert f1(TEN[3:], valid=valid) == 1
    assert f1(TEN, valid=valid) == 1
    unknown = opening(TEN)
    unknown[:300] = np.nan
    assert closure_f1(opening(TEN), unknown, valid, 0.05) == 1


@pytest.mark.parametrize("count", range(7))
def test_under_five_closures_there_is_no_score(count: int) -> None:
    score = f1(TEN[:count], TEN[:count])
    assert score == (1 if count >= LEAST_CLOSURES else None)


# Jitter ---------------------------------------------------------------------------------------------------------------


def points(series: np.ndarray) -> np.ndarray:
    """Two points (T, 2, 3) that move along with a series."""
    return series[:, None, None] * np.array([[1.0, 2, 0], [0, -1, 0.5]])


def test_the_same_movement_has_ratio_1_wherever_it_is() -> None:
    a = points(movement())
    assert jitter_ratio(a, a, ALL) == pytest.approx(1)
    assert jitter_ratio(a + 5, a, ALL) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_it_is_an_energy(factor: float) -> None:
    a = points(movement())
    assert jitter_ratio(factor * a, a, ALL) == pytest.approx(factor**2)


def test_trembling_shows_and_measurement_noise_does_not() -> None:
    time = np.arange(STEPS) / 100
    a = points(movement(fastest_hz=2.0))
    trembling = a + points(0.01 * np.sin(2 * np.pi * 6 * time))
    noise = a + points(0.01 * np.sin(2 * np.pi * 30 * time))
    assert (jitter_ratio(trembling, a, ALL) or 0) > 1.5
    assert jitter_ratio(noise, a, ALL) == pytest.approx(1, abs=0.05)


def test_only_known_stretches_of_half_a_second_count() -> None:
    a = points(movement())
    b = a.copy()
    valid = ALL.copy()
    valid[500:600] = False
    valid[640:700] = False  # leaves 40 steps alone: too short
    b[500:700] += np.random.default_rng(0).normal(0, 9, (200, 2, 3))
    spoiled = a.copy()
    spoiled[500:600] = np.nan
    assert jitter_ratio(b, spoiled, valid) == pytest.approx(1)


def test_without_a_stretch_or_movement_there_is_no_ratio() -> None:
    a = points(movement())
    short = ALL.copy()
    short[::40] = False
    assert jitter_ratio(a, a, short) is None
    assert jitter_ratio(a, a, ~ALL) is None
    assert jitter_ratio(a, np.zeros_like(a), ALL) is None


def test_the_distance_of_nothing_is_none() -> None:
    assert mean_distance(np.zeros((0, 40, 3)), np.zeros((0, 40, 3))) is None
