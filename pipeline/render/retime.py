"""Which frame of the target is shown when: as filmed, or moved a little so that the head rests where the speech does.

After the re-timing of target videos in *Synthesizing Obama* (Suwajanakorn et al. 2017, "Video Re-timing for Natural Head
Motion"), a dynamic programme, with the loops of *Video Textures* (Schödl et al. 2000): footage that is too short goes back
from where this is seen least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np

from lipwright.data.features import STEP_HZ
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Media
from lipwright.data.rows import BLOCK
from lipwright.data.voice import find_pauses

HEAD = np.array([(-0.5, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.35, -0.5), (0.0, -0.63, -0.15)])
"""Outer eye corners, tip of the nose and hairline, in face space: their mean speed is the head's, turning or moving."""

SMOOTH_S = 0.06
"""A speed is measured over so long each way: from frame to frame it would be the tracker's noise."""

UNSEEN = 1.0
"""Speed of a head that is not seen, eye distances a second: it may be moving."""

BLINK = 0.2
"""Eyes are shut by so much more than they usually are (blendshapes eyeBlinkLeft and eyeBlinkRight) in a blink …"""

BLINK_SHAPES = (9, 10)

LID_S = 0.08
"""… for which the lids move from so long before to so long after."""

VISIBLE = 0.01
"""A head that jumps by so much, eye distances, costs 1; costs grow with the square."""

RESTING = 0.03
"""A second of pause in which the head moves at this speed, eye distances a second, costs 1; costs grow with the square."""

LONGEST_PAUSE_S = 3.0
"""Who is silent for longer does not pause but listen, and moves as they do."""

CHANGE = 2.0
"""What a frame held or skipped costs at least."""

TURN = 150.0
"""What turning back costs at least; once in the footage's length it must …"""

BOUNCE_S = 0.2
"""… and for how long a head then goes where it came from, and should have gone on."""

NEVER = 1e5
"""What may not be, unless there is no other way: to hold, skip or turn in a blink, to skip over a cut, to turn back to one."""

SHOT_S = 1.0
"""Nobody turns back to a cut from nearer: of the shot behind it, less than twice this would be seen."""

MOST_FRAMES = 900
"""Of fast footage, such as slow motion, fewer seconds are decided at a time: the search's memory grows with the square."""

DECIDED_S, AHEAD_S = 15.0, 5.0
"""So much output is decided at a time, knowing so much of what follows."""


@dataclass(frozen=True)
class Plan:
    """Which frame of the target is shown when.

    Attributes
    ----------
    frames : ndarray, shape (N,), int64
        Frames of the target.
    ticks : ndarray, shape (N,), int64
        When each is shown, in the target's own ticks and on its container's clock.
    time_base
        Seconds a tick.
    zero
        Container seconds at which the file's clock reads zero.
    """

    frames: np.ndarray
    ticks: np.ndarray
    time_base: Fraction
    zero: Fraction

    def __len__(self) -> int:
        return len(self.frames)

    def time(self, k: int) -> Fraction:
        """Return when output frame `k` is shown, seconds, exactly."""
        return int(self.ticks[k]) * self.time_base - self.zero

    @property
    def times_s(self) -> np.ndarray:
        """When each is shown, (N,) float64, seconds."""
        return self.ticks * float(self.time_base) - float(self.zero)


def play_in_order(media: Media, pts: np.ndarray, until_s: Fraction | float) -> Plan:
    """Lay the target's frames along the output's time: as filmed, and where that is too short, forth and back.

    Each frame's distance in time to its neighbour is kept, so that a variable rate stays what it is.

    Parameters
    ----------
    media
        The target.
    pts : ndarray, shape (F,), int64
        Of all its frames.
    until_s
        End of the sound; frames that would begin at it or later are left out, all but the first.
    """
    video = media.need_video()
    first = int(pts[0])
    span = ceil((Fraction(until_s) + media.zero) / video.time_base) - first  # ticks from the first frame to the end
    if len(pts) == 1:  # a single frame is repeated at the rate that its file states
        interval = 1 / video.average_rate / video.time_base
        count = max(1, ceil(span / interval))
        ticks = np.array([first + round(k * interval) for k in range(count)], np.int64)
        return Plan(np.zeros(count, np.int64), ticks, video.time_base, media.zero)
    forth = np.arange(len(pts))
    there_and_back = np.concatenate([forth, forth[-2:0:-1]])
    intervals = np.abs(np.diff(pts[there_and_back], append=first))
    rounds = max(span, 0) // int(intervals.sum()) + 1
    ticks = np.concatenate([[0], np.cumsum(np.tile(intervals, rounds))])
    count = max(1, int(np.searchsorted(ticks, span)))
    return Plan(np.resize(there_and_back, count), first + ticks[:count], video.time_base, media.zero)


def _jump(speed: np.ndarray, error_s: np.ndarray | float) -> np.ndarray:
    """Return what it costs that heads of some speeds are shown so much too late or too early."""
    return (speed * error_s / VISIBLE) ** 2


def head_speed(times_s: np.ndarray, heads: np.ndarray, scale: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """Measure how fast a head moves.

    Parameters
    ----------
    times_s : ndarray, shape (N,)
        Increasing.
    heads : ndarray, shape (N, K, 2)
        Points of it in the picture, pixels; NaN where it is not seen.
    scale : ndarray, shape (N,)
        Pixels that an eye distance has.
    breaks : ndarray of int
        Rows before which there is a cut.

    Returns
    -------
    ndarray, shape (N,), float64
        Eye distances a second, mean over the points; NaN where it is not seen.
    """
    speed, seen = np.full(len(times_s), np.nan), np.isfinite(scale)
    edges = np.union1d(breaks, np.flatnonzero(np.diff(seen)) + 1)
    for start, end in pairwise([0, *edges[(edges > 0) & (edges < len(seen))], len(seen)]):
        if not seen[start] or end - start < 2:
            continue
        time, points = times_s[start:end], heads[start:end].reshape(end - start, -1).T
        before, after = np.maximum(time - SMOOTH_S, time[0]), np.minimum(time + SMOOTH_S, time[-1])
        moved = np.stack([np.interp(after, time, p) - np.interp(before, time, p) for p in points], 1)
        distance = np.linalg.norm(moved.reshape(end - start, -1, 2), axis=2).mean(1)
        speed[start:end] = distance / (after - before) / scale[start:end]
    return speed


def find_blinks(track: FaceTrack) -> np.ndarray:
    """Say of each frame whether the lids move in a blink, (F,) bool."""
    shut = np.concatenate([track.blendshapes[k : k + BLOCK][:, BLINK_SHAPES].mean(1) for k in range(0, len(track.pts), BLOCK)])
    if not track.found.any():
        return np.zeros(len(shut), bool)
    closed = track.times_s[shut > np.nanmedian(shut) + BLINK]
    first, last = np.searchsorted(closed, track.times_s - LID_S), np.searchsorted(closed, track.times_s + LID_S, "right")
    return last > first


def retime(media: Media, heads: Sequence[tuple[FaceTrack, np.ndarray]], until_s: Fraction | float) -> Plan:
    """Lay the target's frames along the output's time so that heads rest while nobody speaks.

    Frames are held, skipped, and played backwards where this is not seen: where the head rests, and never in a blink. This
    is decided for some seconds together, knowing some that follow (`DECIDED_S`, `AHEAD_S`), however long the sound is.

    Parameters
    ----------
    media
        The target.
    heads
        For each person who is given a mouth: the face track, and whether they speak, (T,) bool on the 100 Hz grid of the
        sound, as long for all.
    until_s
        End of the sound.

    Returns
    -------
    Plan
        As long as, and with the times of `play_in_order`.
    """
    track = heads[0][0]
    plan = play_in_order(media, track.pts, until_s)
    if len(track.pts) < 2:
        return plan
    times_s = plan.times_s
    steps = np.round(times_s * STEP_HZ).astype(int)
    pauses = _pauses(np.any([speaks for _, speaks in heads], axis=0))
    silent = pauses[np.clip(steps, 0, len(pauses) - 1)]
    footage = _Footage.of([track for track, _ in heads])
    intervals_s = np.diff(times_s)
    frames = np.zeros(len(plan), np.int64)
    state, start = (0, 0, False), 0
    while start < len(intervals_s):
        decided, seen = np.searchsorted(times_s, times_s[start] + np.array([DECIDED_S, DECIDED_S + AHEAD_S]))
        decided, seen = min(decided, start + MOST_FRAMES), min(seen, start + MOST_FRAMES * 4 // 3)
        rows = slice(start, seen)
        path = _search(footage, state, intervals_s[rows], silent[1:][rows])[: max(decided - start, 1)]
        frames[start + 1 : start + 1 + len(path)] = [frame for frame, _, _ in path]
        state, start = path[-1], start + len(path)
    return replace(plan, frames=frames)


def _pauses(speaks: np.ndarray) -> np.ndarray:
    """Tell where speech, (T,) bool on the 100 Hz grid, pauses."""
    pauses = np.zeros(len(speaks), bool)
    for first, end in find_pauses(speaks):
        pauses[first:end] = end - first <= LONGEST_PAUSE_S * STEP_HZ
    return pauses


State = tuple[int, int, bool]
"""The frame that is shown, the direction (0 forth, 1 back), and whether the frame is held."""


@dataclass(frozen=True)
class _Footage:
    """What the target's F frames cost.

    Attributes
    ----------
    times_s, speed : ndarray, shape (F,)
        When they were filmed, and how fast heads move.
    hold, skip : ndarray, shape (F,)
        What it costs to show a frame twice, and to leave it out, beside the jump that is seen.
    turn : ndarray, shape (2, F)
        What it costs to turn at a frame, to go on forth, and back.
    left : ndarray, shape (2, F)
        What the footage that is left, forth and back, is worth: it need not be turned back in so soon.
    """

    times_s: np.ndarray
    speed: np.ndarray
    hold: np.ndarray
    skip: np.ndarray
    turn: np.ndarray
    left: np.ndarray

    @classmethod
    def of(cls, tracks: Sequence[FaceTrack]) -> _Footage:
        """Measure what one or several people do in it."""
        times_s, shots = tracks[0].times_s, tracks[0].shots
        speeds = [head_speed(t.times_s, t.pose.to_pixels(HEAD)[:, :, :2], t.pose.scale, shots) for t in tracks]
        seen = np.isfinite(speeds).any(0)
        speed = np.where(seen, np.sqrt(np.nansum(np.square(speeds), 0)), UNSEEN)
        blink = np.any([find_blinks(t) for t in tracks], 0)
        begins = np.isin(np.arange(len(times_s)), shots[1:])
        skip_never = blink | begins
        skip_never[:-1] |= blink[1:] | begins[1:]
        skip_never[1:] |= blink[:-1]
        skip = CHANGE + NEVER * skip_never
        skip[0] = skip[-1] = np.inf  # nothing lies beyond
        shot, last = np.cumsum(begins), np.append(shots[1:] - 1, len(times_s) - 1)
        to_cut_s = np.stack([times_s[last[shot]] - times_s, times_s - times_s[shots[shot]]])
        to_cut_s[0, shot == len(shots) - 1] = to_cut_s[1, shot == 0] = np.inf
        passed = (times_s - times_s[0]) / (times_s[-1] - times_s[0])
        return cls(
            times_s=times_s,
            speed=speed,
            hold=CHANGE + NEVER * blink,
            skip=skip,
            turn=TURN + _jump(speed, BOUNCE_S) + NEVER * (blink | (to_cut_s < SHOT_S)),
            # Of short footage less, or it would pay to hold frames for its own sake.
            left=min(TURN, CHANGE / 2 * len(times_s)) * np.stack([1 - passed, passed]),
        )

    def around(self, frame: int, reach: int) -> _Footage:
        """Return 2 · `reach` + 1 frames, `frame` in their middle; beyond the footage's ends nothing leads anywhere."""
        frames = np.arange(frame - reach, frame + reach + 1)
        inside = np.clip(frames, 0, len(self.times_s) - 1)
        there = _Footage(*(getattr(self, field.name)[..., inside] for field in fields(self)))
        return replace(there, speed=np.where(frames == inside, there.speed, np.inf))

    def steps(self, interval_s: float) -> tuple[np.ndarray, ...]:
        """Return what each way on costs from every frame, where the next one is shown after `interval_s`.

        Returns
        -------
        hold, one, two, turn : ndarray, shape (2, F), (2, F − 1), (2, F − 2), (2, F − 1)
            To show it again, the next, the one after that, and to turn. Rows are directions, the second mirrored: both go to
            the right.
        """
        speed, times_s = self.speed, self.times_s
        hold = self.hold + _jump(speed, interval_s)
        one = _jump((speed[1:] + speed[:-1]) / 2, np.diff(times_s) - interval_s)
        two = self.skip[1:-1] + _jump(speed[1:-1], times_s[2:] - times_s[:-2] - interval_s)
        hold, one, two = (_mirrored(way, way) for way in (hold, one, two))
        return hold, one, two, _mirrored(*self.turn)[:, :-1] + one


def _mirrored(forth: np.ndarray, back: np.ndarray) -> np.ndarray:
    return np.stack([forth, back[::-1]]).astype(np.float32)


def _search(footage: _Footage, state: State, intervals_s: np.ndarray, silent: np.ndarray) -> list[State]:
    """Find the cheapest way on from a state (Viterbi).

    Parameters
    ----------
    footage
        What it costs.
    state
        What is shown now.
    intervals_s : ndarray, shape (N,)
        From each output frame to the next.
    silent : ndarray, shape (N,), bool
        Whether nobody speaks at the next.

    Returns
    -------
    list of State
        After each of them.
    """
    count, (frame, direction, held) = len(intervals_s), state
    most = min(2 * count, max(frame, len(footage.times_s) - 1 - frame))
    footage = footage.around(frame, most)
    shape = (2, 2 * most + 1)  # directions, the second mirrored: every step goes to the right
    moved, stayed = np.full(shape, np.inf, np.float32), np.full(shape, np.inf, np.float32)  # cost, by the last step
    (stayed if held else moved)[direction, most] = 0
    resting = (footage.speed / RESTING) ** 2
    rest = _mirrored(resting, resting)
    after_hold, skips, turns = np.zeros((3, count, *shape), bool)
    known: dict[float, tuple[np.ndarray, ...]] = {}
    for k, interval_s in enumerate(np.round(intervals_s, 3)):  # to 1 ms: few differ
        if interval_s not in known:
            known[interval_s] = footage.steps(interval_s)
        reach = min(2 * (k + 1), most)
        here = slice(most - reach, most + reach + 1)
        hold, one, two, turn = (way[:, here] for way in known[interval_s])
        to, again = moved[:, here], stayed[:, here]
        np.less(again, to, out=after_hold[k, :, here])
        best = np.minimum(again, to)
        np.add(to, hold, out=again)
        to[:, 0] = np.inf
        np.add(best[:, :-1], one[:, : 2 * reach], out=to[:, 1:])
        ways = (best[:, :-2] + two[:, : 2 * reach - 1], skips, 2), (best[::-1, :0:-1] + turn[:, : 2 * reach], turns, 1)
        for cost, taken, ahead in ways:
            np.less(cost, to[:, ahead:], out=taken[k, :, here][:, ahead:])
            np.minimum(cost, to[:, ahead:], out=to[:, ahead:])
        if silent[k]:
            resting = rest[:, here] * np.float32(interval_s)
            to += resting
            again += resting
    cost = np.minimum(moved, stayed) - _mirrored(*footage.left)
    direction, at = (int(i) for i in np.unravel_index(cost.argmin(), shape))
    held = bool(stayed[direction, at] < moved[direction, at])
    path: list[State] = []
    for k in reversed(range(count)):
        path.append((frame + (most - at if direction else at - most), direction, held))
        if not held:
            turned = turns[k, direction, at]
            at -= 2 if skips[k, direction, at] and not turned else 1
            if turned:
                direction, at = 1 - direction, 2 * most - at
        held = not held and bool(after_hold[k, direction, at])
    return path[::-1]
