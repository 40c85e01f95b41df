"""Edits: a gain throughout, a mouth closed where nobody speaks, and nothing that would tear the lips."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipwright.data.edits import (
    MOST_GAIN,
    OPENS_BEFORE_S,
    RAMP_S,
    SHORTEST_CLOSED_S,
    Edit,
    closed_in_silence,
    factors,
    table,
    with_gain,
)
from lipwright.data.errors import InputError
from lipwright.data.mouth import MouthTrack, Speaker

STEPS = 300


@pytest.fixture
def track() -> MouthTrack:
    """Three seconds of a mouth that is never still."""
    rng = np.random.default_rng(0)
    return MouthTrack(
        rng.normal(0, 1, (STEPS, 40, 3)).astype(np.float32), np.ones(STEPS, bool), Speaker(np.zeros((40, 3), np.float32), 0.3)
    )


def movement(track: MouthTrack) -> np.ndarray:
    """How far each step of a track goes from rest, (T,)."""
    return track.measure(lambda xyz: np.linalg.norm(xyz, axis=(1, 2)))


@pytest.mark.parametrize("gain", [0.0, 0.4, 1.0, 1.7, MOST_GAIN])
def test_a_gain_holds_from_the_first_step_to_the_last(track: MouthTrack, gain: float) -> None:
    np.testing.assert_allclose(movement(with_gain(track, gain)), gain * movement(track), rtol=1e-5)


@pytest.mark.parametrize("gain", [-0.01, -1.0, 3.01, math.inf, math.nan])
def test_a_gain_that_tears_the_lips_is_refused(track: MouthTrack, gain: float) -> None:
    for ask in (lambda: with_gain(track, gain), lambda: Edit(0, 1, gain=gain)):
        with pytest.raises(InputError, match=r"gain is .*; give a number from 0.* to 3"):
            ask()


def test_what_was_asked_before_stays(track: MouthTrack) -> None:
    own = Edit(1.0, 1.5, gain=0.5)
    asked = closed_in_silence(
        with_gain(MouthTrack(track.xyz, track.valid, track.speaker, edits=(own,)), 2.0), np.zeros(STEPS, bool)
    )
    assert asked.edits == (own, Edit(-math.inf, math.inf, gain=2.0), Edit(-math.inf, math.inf, closed=True))


def test_the_mouth_is_closed_where_nobody_speaks_and_opens_in_time(track: MouthTrack) -> None:
    speech = np.zeros(STEPS, bool)
    speech[60:100] = speech[160:220] = True
    closed, own, times_s = movement(closed_in_silence(track, speech)), movement(track), track.times_s
    opens_s = np.array([0.6, 1.6]) - OPENS_BEFORE_S
    free = speech | ((times_s >= opens_s[0]) & (times_s < 0.6)) | ((times_s >= opens_s[1]) & (times_s < 1.6))
    np.testing.assert_array_equal(closed[free], own[free])
    ramps = [(opens_s[0] - RAMP_S, opens_s[0]), (1.0, 1.0 + RAMP_S), (opens_s[1] - RAMP_S, opens_s[1]), (2.2, 2.2 + RAMP_S)]
    ramping = np.any([(times_s > a - 1e-6) & (times_s < b + 1e-6) for a, b in ramps], axis=0)
    assert (closed[~free & ~ramping] == 0).all()
    assert closed[0] == closed[-1] == 0  # also at the ends
    assert ((closed <= own * (1 + 1e-5)) & (closed >= 0)).all()


@pytest.mark.parametrize(("steps", "closes"), [(29, False), (30, True), (80, True)])
def test_a_pause_that_is_too_short_to_close_stays(track: MouthTrack, steps: int, closes: bool) -> None:
    assert round(100 * (OPENS_BEFORE_S + SHORTEST_CLOSED_S)) == 30
    speech = np.ones(STEPS, bool)
    speech[100 : 100 + steps] = False
    assert bool(closed_in_silence(track, speech).edits) == closes


@pytest.mark.parametrize("speech", [np.ones(STEPS, bool), np.zeros(STEPS, bool)], ids=["speech", "silence"])
def test_all_speech_or_none(track: MouthTrack, speech: np.ndarray) -> None:
    moved = movement(closed_in_silence(track, speech))
    np.testing.assert_array_equal(moved, movement(track) if speech[0] else np.zeros(STEPS))


def test_edits_elsewhere_cost_nothing_and_change_nothing() -> None:
    edits = tuple(Edit(k, k + 0.5, gain=0.0) for k in range(5000))
    times_s = 100 + np.arange(64) / 100
    all_of_them, rows = factors(table(edits), times_s), table(edits)
    np.testing.assert_array_equal(all_of_them, factors(rows[100:101], times_s))
    assert all_of_them[25] == 0
    assert all_of_them[63] == 1
    np.testing.assert_array_equal(factors(table(()), times_s), np.ones(64))
    assert factors(rows, np.zeros(0)).shape == (0,)
