"""The target's frames along the sound: with its own intervals, and heads that rest in pauses, no blink and no cut broken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.face_space import CANONICAL
from lipwright.data.features import STEP_HZ
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import BT709, Media, VideoStream, probe, read_frames
from lipwright.pipeline.render.retime import (
    BLINK_SHAPES,
    BOUNCE_S,
    CHANGE,
    HEAD,
    RESTING,
    TURN,
    VISIBLE,
    Plan,
    find_blinks,
    head_speed,
    play_in_order,
    retime,
)

EYES_PX = 100


def _opened(path: Path) -> tuple[Media, np.ndarray, list[Fraction]]:
    media = probe(path)
    pts, times = zip(*((f.pts, f.time) for f in read_frames(media)), strict=True)
    return media, np.array(pts, np.int64), list(times)


def _times(plan: Plan) -> list[Fraction]:
    return [plan.time(k) for k in range(len(plan))]


# In order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.7, 5.2])
def test_frames_keep_their_times_and_then_run_forth_and_back(bars: Callable[..., Path], clock: Any, share: float) -> None:
    media, pts, times = _opened(bars(clock))
    until = times[0] + (times[-1] - times[0]) * Fraction(share)
    plan = play_in_order(media, pts, until)
    indices, shown = plan.frames, _times(plan)
    own = [t for t in times if t < until] or times[:1]
    assert shown[: len(own)] == own
    assert indices[: len(own)].tolist() == list(range(len(own)))
    assert (np.abs(np.diff(indices)) == 1).all()  # every neighbour in time is a neighbour in the footage
    ticks = np.abs(np.diff(pts[indices])) * media.need_video().time_base
    assert [b - a for a, b in pairwise(shown)] == list(ticks)
    assert all(t < until for t in shown[1:])
    np.testing.assert_allclose(plan.times_s, np.array(shown, float), atol=1e-9)
    # The next frame would have begun at the end of the sound or after it: the length is right to within one frame.
    forward = 0 <= 2 * indices[-1] - (indices[-2] if len(indices) > 1 else -1) < len(pts)
    following = 2 * indices[-1] - (indices[-2] if len(indices) > 1 else -1) if forward else indices[-2]
    assert shown[-1] + abs(int(pts[following]) - int(pts[indices[-1]])) * media.need_video().time_base >= until


@pytest.mark.parametrize("rate", ["25", "30000/1001"])
def test_a_single_frame_is_held_at_its_own_rate(bars: Callable[..., Path], rate: str) -> None:
    media, pts, _ = _opened(bars(rate, frames=1))
    plan = play_in_order(media, pts, 0.5)
    assert set(plan.frames.tolist()) == {0}
    assert _times(plan) == [k / Fraction(rate) for k in range(len(plan))]
    assert plan.time(-1) < 0.5 <= plan.time(-1) + 1 / Fraction(rate)


def test_two_frames_alternate(bars: Callable[..., Path]) -> None:
    media, pts, _ = _opened(bars("25", frames=2))
    assert play_in_order(media, pts, 0.39).frames.tolist() == [0, 1] * 5


def test_a_late_start_is_kept(bars: Callable[..., Path], tone: Callable[..., Any], wav: Callable[..., Path]) -> None:
    """A picture that begins after its sound begins so in the output, too."""
    media, pts, times = _opened(bars("25", start=Fraction(2, 25), audio=probe(wav(tone(1.0)))))
    assert times[0] == Fraction(2, 25)
    assert play_in_order(media, pts, 2).time(0) == times[0]


# Re-timed -------------------------------------------------------------------------------------------------------------


def _target(
    rate: str = "25",
    *,
    speed: np.ndarray,
    blinks: np.ndarray | None = None,
    unseen: np.ndarray | None = None,
    shots: tuple[int, ...] = (0,),
    seed: int = 0,
) -> tuple[Media, FaceTrack]:
    """Make footage of a head that rocks from side to side at a given speed (F,), eye distances a second."""
    count, time_base = len(speed), Fraction(1, 90000)
    if rate == "variable":
        ticks = np.cumsum(np.random.default_rng(seed).integers(900, 6000, count))
        ticks -= ticks[0]
    else:
        ticks = np.array([round(k / Fraction(rate) / time_base) for k in range(count)])
    times_s = ticks * float(time_base)
    way = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(times_s))])
    side = np.abs((way + 1) % 4 - 2) - 1  # a triangle wave
    points = np.zeros((count, 478, 3), np.float32)
    points[:, list(CANONICAL)] = EYES_PX * np.array(list(CANONICAL.values())) + [320, 240, 0]
    points[:, :, 0] += EYES_PX * side[:, None]
    blendshapes = np.zeros((count, 52), np.float32)
    if blinks is not None:
        blendshapes[np.ix_(blinks, BLINK_SHAPES)] = 0.7
    if unseen is not None:
        points[unseen], blendshapes[unseen] = np.nan, np.nan
    nothing = np.zeros(count, bool)
    track = FaceTrack(ticks + 1800, times_s, points, blendshapes, 640, 480, np.array(shots), nothing, nothing)
    video = VideoStream(
        640, 480, 0, Fraction(25 if rate == "variable" else rate), time_base, Fraction(1, 50), "h264", 0.0, BT709
    )
    return Media(Path("target.mp4"), video, None, Fraction(1, 50)), track


def _speech(duration_s: float, pause_s: float = 0.6, every_s: float = 2.5) -> np.ndarray:
    """Speak, but for a pause now and then."""
    return (np.arange(round(duration_s * STEP_HZ)) / STEP_HZ) % every_s < every_s - pause_s


def _restless(count: int, seed: int) -> np.ndarray:
    """Speeds that change between rest and a quick nod every half second or so."""
    rng = np.random.default_rng(seed)
    knots = rng.uniform(0, 1, 1 + count // 12) ** 2
    return np.interp(np.arange(count) / 12, np.arange(len(knots)), knots) * 0.8


RATES = ("24000/1001", "25", "30000/1001", "50", "variable")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [2, 3, 30, 400])
def test_only_the_frames_differ_from_playing_in_order(rate: str, count: int) -> None:
    media, track = _target(rate, speed=_restless(count, count))
    plan, in_order = retime(media, [(track, _speech(20))], 20), play_in_order(media, track.pts, 20)
    np.testing.assert_array_equal(plan.ticks, in_order.ticks)
    assert (plan.time_base, plan.zero, len(plan.frames)) == (in_order.time_base, in_order.zero, len(in_order))
    assert plan.frames.dtype == np.int64
    assert plan.frames[0] == 0
    assert plan.frames.min() >= 0
    assert plan.frames.max() < count


def _walk(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where a plan holds, skips and turns: output frames before the step."""
    steps = np.diff(frames)
    way = np.sign(steps)
    moves = np.flatnonzero(steps)
    turns = moves[1:][way[moves][1:] != way[moves][:-1]]
    return np.flatnonzero(steps == 0), np.flatnonzero(np.abs(steps) == 2), turns


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", range(4))
def test_blinks_and_cuts_stay_whole(rate: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 500
    blinks = np.zeros(count, bool)
    for start in np.cumsum(rng.integers(20, 60, 12)):
        blinks[start : start + rng.integers(2, 7)] = True
    cuts = np.sort(rng.choice(np.arange(40, count - 40), 3, replace=False))
    media, track = _target(
        rate, speed=_restless(count, seed), blinks=blinks, unseen=rng.random(count) < 0.02, shots=(0, *cuts), seed=seed
    )
    blink, time = find_blinks(track), track.times_s
    frames = retime(media, [(track, _speech(60))], 60).frames
    steps = np.diff(frames)
    holds, skips, turns = _walk(frames)
    assert len(holds) + len(skips) > 10
    assert len(turns) >= 2
    assert (np.abs(steps) <= 2).all()
    assert not ((steps[1:] == 0) & (steps[:-1] == 0)).any()
    assert (np.abs(steps[turns]) == 1).all()
    assert not blink[frames[holds]].any()
    assert not blink[frames[turns]].any()
    for k in skips:
        low, high = sorted(frames[k : k + 2])
        assert not blink[low : high + 1].any()
        assert not np.isin([low + 1, high], cuts).any()
    for k in turns:
        ahead = cuts[cuts > frames[k]] - 1 if steps[k] > 0 else cuts[cuts <= frames[k]]
        assert not len(ahead) or np.abs(time[ahead] - time[frames[k]]).min() >= 1


@pytest.mark.parametrize("rate", RATES)
def test_heads_rest_in_pauses_and_move_as_smoothly_as_they_did(rate: str) -> None:
    media, track = _target(rate, speed=_restless(1500, 1))
    speaks = _speech(60)

    def shown(plan: Plan) -> tuple[float, float]:
        heads = track.pose.to_pixels(HEAD)[plan.frames][:, :, :2]
        speed = head_speed(plan.times_s, heads, np.full(len(plan), EYES_PX), np.zeros(1, int))
        pause = ~speaks[np.round(plan.times_s * STEP_HZ).astype(int).clip(0, len(speaks) - 1)]
        return speed[pause].mean(), np.square(np.diff(heads[:, 0], 2, axis=0) / EYES_PX).sum(1).mean() ** 0.5

    pause, kink = shown(retime(media, [(track, speaks)], 60))
    before, own_kink = shown(play_in_order(media, track.pts, 60))
    assert pause < 0.5 * before
    assert kink < 1.1 * own_kink + 0.1 * VISIBLE


@pytest.mark.parametrize("rate", RATES)
def test_where_nothing_is_gained_frames_play_in_order(rate: str) -> None:
    media, track = _target(rate, speed=_restless(400, 2))
    everywhere = np.ones(400, bool)
    _, faceless = _target(rate, speed=np.ones(400), unseen=everywhere)
    until_s = 1.5 * track.times_s[-1] if rate != "variable" else 0.95 * track.times_s[-1]
    speech = np.ones(round(until_s * STEP_HZ), bool)
    in_order = play_in_order(media, track.pts, until_s).frames
    np.testing.assert_array_equal(retime(media, [(faceless, ~speech)], until_s).frames, in_order)
    np.testing.assert_array_equal(retime(media, [(faceless, speech)], until_s).frames, in_order)
    first_half = retime(media, [(track, speech)], track.times_s[-1] / 2).frames
    np.testing.assert_array_equal(first_half, np.arange(len(first_half)))


@pytest.mark.parametrize("count", [20, 40, 75, 150])
def test_short_footage_is_not_stretched_for_its_own_sake(count: int) -> None:
    media, track = _target(speed=np.full(count, 0.01))
    frames = retime(media, [(track, np.ones(100 * count // 25, bool))], Fraction(count, 25)).frames
    np.testing.assert_array_equal(frames, np.arange(count))


def test_who_is_silent_for_long_moves_as_filmed() -> None:
    media, track = _target(speed=_restless(600, 3))
    speaks = np.ones(1500, bool)
    speaks[500:1000] = False
    np.testing.assert_array_equal(retime(media, [(track, speaks)], 15).frames, np.arange(375))
    speaks[500:760] = True
    assert (retime(media, [(track, speaks)], 15).frames != np.arange(375)).any()


def test_while_one_of_two_speaks_nobody_needs_to_rest() -> None:
    media, track = _target(speed=_restless(600, 3))
    _, other = _target(speed=_restless(600, 4))
    speaks = _speech(15)
    in_order = np.arange(375)
    np.testing.assert_array_equal(retime(media, [(track, speaks), (other, ~speaks)], 15).frames, in_order)
    assert (retime(media, [(track, speaks), (other, speaks)], 15).frames != in_order).any()


def test_a_head_that_is_not_seen_leaves_the_other_to_count() -> None:
    media, track = _target(speed=_restless(600, 3))
    _, gone = _target(speed=_restless(600, 4), unseen=np.ones(600, bool))
    speaks = _speech(15)
    alone = retime(media, [(track, speaks)], 15).frames
    np.testing.assert_array_equal(retime(media, [(track, speaks), (gone, speaks)], 15).frames, alone)


def test_a_pause_does_not_linger_where_nobody_is_seen() -> None:
    unseen = np.zeros(600, bool)
    for start in range(40, 600, 60):
        unseen[start : start + 12] = True
    media, track = _target(speed=np.full(600, 0.3), unseen=unseen)
    frames = retime(media, [(track, _speech(20))], 20).frames
    holds, skips, _ = _walk(frames)
    assert not unseen[frames[np.concatenate([holds, skips])]].any()


@pytest.mark.parametrize("end", ["both", "all"])
def test_a_blink_at_the_end_is_no_dead_end(end: str) -> None:
    blinks = np.zeros(60, bool)
    if end == "all":
        blinks[:] = np.arange(60) % 8 < 3
    else:
        blinks[:6] = blinks[-6:] = True
    media, track = _target(speed=np.full(60, 0.2), blinks=blinks)
    frames = retime(media, [(track, _speech(12))], 12).frames
    assert len(_walk(frames)[2]) >= 3
    assert (np.abs(np.diff(frames)) <= 2).all()


def test_turns_are_rare_and_where_the_head_rests() -> None:
    speed = np.full(500, 0.5)
    speed[430:450] = 0
    media, track = _target(speed=speed)
    frames = retime(media, [(track, np.ones(3500, bool))], 35).frames
    turns = _walk(frames)[2]
    assert len(turns) == 1
    shown = head_speed(track.times_s, track.pose.to_pixels(HEAD)[:, :, :2], track.pose.scale, track.shots)
    assert shown[frames[turns[0]]] < 0.05


def test_the_plan_is_the_cheapest() -> None:
    """All ways through half a dozen frames, tried one by one."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        speed = rng.uniform(0, 0.3, 5)
        media, track = _target("10", speed=speed)
        speaks = np.repeat(rng.random(7) < 0.5, 10)
        plan = retime(media, [(track, speaks)], 0.65)
        shown = head_speed(track.times_s, track.pose.to_pixels(HEAD)[:, :, :2], track.pose.scale, np.zeros(1, int))
        silent = ~speaks[np.arange(7) * 10]

        def cost(ways: tuple[str, ...], v: np.ndarray = shown, silent: np.ndarray = silent) -> tuple[float, list[int]] | None:
            at, direction, total, frames = 0, 1, 0.0, [0]
            for k, way in enumerate(ways):
                if way == "hold":
                    if k and ways[k - 1] == "hold":
                        return None
                    total += CHANGE + (v[at] * 0.1 / VISIBLE) ** 2
                elif way == "turn":
                    total += TURN + (v[at] * BOUNCE_S / VISIBLE) ** 2
                    direction = -direction
                step = {"hold": 0, "one": direction, "two": 2 * direction, "turn": direction}[way]
                if not 0 <= at + step < 5:
                    return None
                if way == "two":
                    total += CHANGE + (v[at + direction] * 0.1 / VISIBLE) ** 2
                at += step
                frames.append(at)
                if silent[k + 1]:
                    total += 0.1 * (v[at] / RESTING) ** 2
            left = (4 - at if direction > 0 else at) / 4
            return total - min(TURN, CHANGE / 2 * 5) * left, frames

        found = [c for ways in product(("hold", "one", "two", "turn"), repeat=6) if (c := cost(ways)) is not None]
        assert plan.frames.tolist() == min(found)[1]


def test_what_is_far_ahead_changes_nothing_and_takes_no_memory() -> None:
    media, track = _target(speed=_restless(3000, 5))

    def peak(until_s: float) -> tuple[np.ndarray, int]:
        tracemalloc.start()
        frames = retime(media, [(track, _speech(until_s))], until_s).frames
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return frames, size

    retime(media, [(track, _speech(1))], 1)  # the track measures its pose once
    (short, less), (long, more) = peak(60), peak(240)
    np.testing.assert_array_equal(short[: 40 * 25], long[: 40 * 25])
    assert more < 1.15 * less


def test_blinks_are_judged_by_the_persons_own_eyes() -> None:
    """Someone whose eyes are always half shut blinks no more than others."""
    blinks = np.zeros(200, bool)
    blinks[100:104] = True
    _, track = _target(speed=np.zeros(200), blinks=blinks)
    half_shut = track.blendshapes + np.float32(0.35)
    _, sleepy = _target(speed=np.zeros(200), blinks=blinks)
    sleepy.blendshapes[:] = half_shut
    for judged in (track, sleepy):
        assert np.flatnonzero(find_blinks(judged)).tolist() == list(range(98, 106))


def test_speed_is_of_turning_and_moving_and_not_across_a_cut() -> None:
    _, track = _target(speed=np.full(100, 0.4), shots=(0, 50))
    heads = track.pose.to_pixels(HEAD)[:, :, :2]
    heads[50:] += 200
    speed = head_speed(track.times_s, heads, track.pose.scale, track.shots)
    assert np.median(speed) == pytest.approx(0.4, abs=0.01)
    assert speed.max() < 0.45
