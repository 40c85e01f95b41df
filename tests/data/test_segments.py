"""Segments: all frames are in one, none spans a cut, what cannot be used says why."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.data.face_space import ANCHORS, CANONICAL
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import LONGEST_GAP_S
from lipwright.data.segments import (
    BRIDGED_S,
    HIDDEN,
    LEAST_FACE_PX,
    LEAST_S,
    MOST_S,
    NO_FACE,
    SEVERAL,
    SHORT,
    SMALL,
    SPARSE,
    TURNED,
    TURNED_DEG,
    Segment,
    find_segments,
    usable_frames,
)  # fmt: skip


def turn(yaw_deg: float, pitch_deg: float) -> np.ndarray:
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    across = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    down = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    return across @ down


def track(
    frames: int,
    *,
    rate_hz: float = 25,
    times_s: np.ndarray | None = None,
    shots: tuple[int, ...] = (0,),
    missing: tuple[slice, ...] = (),
    turned: tuple[tuple[slice, tuple[float, float]], ...] = (),
    height_px: float = 200,
    small: tuple[slice, ...] = (),
    crowded: tuple[slice, ...] = (),
    hidden: tuple[slice, ...] = (),
) -> FaceTrack:
    """A face that looks at the camera, but for some of its frames."""
    points = np.zeros((frames, 478, 3), np.float32)
    face = np.zeros((478, 3))
    face[ANCHORS] = list(CANONICAL.values())
    face[152] = face[10] + [0, 1.6, 0]
    scale, rotation = np.full(frames, height_px / 1.6), np.repeat(np.eye(3)[None], frames, 0)
    for where in small:
        scale[where] = (LEAST_FACE_PX - 2) / 1.6
    for where, (yaw, pitch) in turned:
        rotation[where] = turn(yaw, pitch)
    points[:] = scale[:, None, None] * (face @ rotation.transpose(0, 2, 1)) + 300
    for where in missing:
        points[where] = np.nan
    others, covered = np.zeros((2, frames), bool)
    for where in crowded:
        others[where] = True
    for where in hidden:
        covered[where] = True
    times_s = np.arange(frames) / rate_hz if times_s is None else times_s
    blendshapes = np.zeros((frames, 52), np.float32)
    return FaceTrack(np.arange(frames), times_s, points, blendshapes, 640, 480, np.array(shots), others, covered)


def test_a_whole_video_is_one_segment() -> None:
    assert find_segments(track(100)) == [Segment(0, 100)]


@pytest.mark.parametrize("rate_hz", [12.5, 25, 30000 / 1001, 60])
def test_segments_end_at_cuts(rate_hz: float) -> None:
    n = int(3 * rate_hz)
    segments = find_segments(track(3 * n, rate_hz=rate_hz, shots=(0, n, 2 * n)))
    assert segments == [Segment(0, n), Segment(n, 2 * n), Segment(2 * n, 3 * n)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"missing": (slice(100, 200),)}, NO_FACE),
        ({"turned": ((slice(100, 200), (TURNED_DEG[0] + 3, 0)),)}, TURNED),
        ({"turned": ((slice(100, 200), (0, -TURNED_DEG[1] - 3)),)}, TURNED),
        ({"small": (slice(100, 200),)}, SMALL),
        ({"crowded": (slice(100, 200),)}, SEVERAL),
        ({"hidden": (slice(100, 200),)}, HIDDEN),
        ({"small": (slice(100, 120),), "missing": (slice(120, 200),)}, NO_FACE),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_cut_out_and_says_why(change: dict, why: str) -> None:
    assert find_segments(track(300, **change)) == [Segment(0, 100), Segment(100, 200, why), Segment(200, 300)]


def test_a_head_may_turn_as_far_as_the_bounds() -> None:
    turned = ((slice(50), (TURNED_DEG[0] - 2, 0)), (slice(50, 99), (0, 2 - TURNED_DEG[1])), (slice(99, 100), (50, 0)))
    assert usable_frames(track(100, turned=turned))[0].tolist() == [True] * 99 + [False]


@pytest.mark.parametrize(("gap", "bridged"), [(1, True), (24, True), (26, False)])
def test_a_short_loss_does_not_end_a_segment(gap: int, bridged: bool) -> None:
    segments = find_segments(track(300, missing=(slice(150, 150 + gap),)))
    expected = [Segment(0, 300)] if bridged else [Segment(0, 150), Segment(150, 150 + gap, NO_FACE), Segment(150 + gap, 300)]
    assert segments == expected


def test_a_hand_before_the_mouth_does_not_end_a_segment_and_a_part_of_the_track_knows_it() -> None:
    given = track(300, hidden=(slice(150, 165),))
    assert find_segments(given) == [Segment(0, 300)]
    assert np.flatnonzero(~usable_frames(given.part(slice(100, 200)))[0]).tolist() == list(range(50, 65))


def test_a_loss_at_a_cut_belongs_to_its_own_shot() -> None:
    segments = find_segments(track(300, shots=(0, 150), missing=(slice(140, 160),)))
    assert segments == [Segment(0, 140), Segment(140, 150, NO_FACE), Segment(150, 160, NO_FACE), Segment(160, 300)]


@pytest.mark.parametrize("seconds", [LEAST_S - 0.1, LEAST_S + 0.1])
def test_what_is_too_short_is_left(seconds: float) -> None:
    n = round(seconds * 25) + 1
    segments = find_segments(track(n + 100, shots=(0, n)))
    assert segments[0] == Segment(0, n, None if seconds > LEAST_S else SHORT)


def test_time_counts_not_frames() -> None:
    times_s = np.concatenate([np.arange(20) * 0.2, 4 + np.arange(40) * 0.02])
    segments = find_segments(track(60, times_s=times_s, shots=(0, 20)))
    assert segments == [Segment(0, 20, SPARSE), Segment(20, 60, SHORT)]


@pytest.mark.parametrize("rate_hz", [5, 8, 8.4, 10, 15])
def test_too_few_frames_a_second_are_not_speech(rate_hz: float) -> None:
    (segment,) = find_segments(track(round(5 * rate_hz), rate_hz=rate_hz))
    assert segment.reason == (None if 1 / rate_hz <= LONGEST_GAP_S else SPARSE)


@pytest.mark.parametrize(("every", "why"), [(24, NO_FACE), (6, NO_FACE), (3, None)])
def test_a_face_that_flickers_is_no_stretch(every: int, why: str | None) -> None:
    lost = tuple(slice(k + 1, k + every) for k in range(0, 250, every))
    assert find_segments(track(251, missing=lost))[0].reason == why


def test_two_seconds_are_two_seconds_at_any_time() -> None:
    for start_s in np.linspace(0, 5000, 77):
        assert find_segments(track(51, times_s=start_s + np.arange(51) / 25)) == [Segment(0, 51)]


@pytest.mark.parametrize(("seconds", "parts"), [(119.9, 1), (120.5, 2), (500, 5)])
def test_a_long_stretch_is_cut_into_equal_parts(seconds: float, parts: int) -> None:
    long = track(round(25 * seconds) + 1)
    segments = find_segments(long)
    assert [s.reason for s in segments] == [None] * parts
    assert [s.first for s in segments] == [0, *(s.end for s in segments[:-1])]
    assert segments[-1].end == len(long.pts)
    lengths = [s.end - s.first for s in segments]
    assert max(lengths) - min(lengths) <= 1
    assert all(long.times_s[s.end - 1] - long.times_s[s.first] <= MOST_S for s in segments)


def test_each_part_of_a_long_stretch_must_be_seen_for_itself() -> None:
    lost = tuple(slice(k + 1, k + 22) for k in range(2990, 5970, 22))  # one frame in 22: near enough to go on
    segments = find_segments(track(6001, missing=lost))
    assert [(s.first, s.reason) for s in segments if s.first < 3000] == [(0, None)]
    assert next(s.reason for s in segments if s.first >= 3000) == NO_FACE
    assert sum(s.end - s.first for s in segments) == 6001


def test_nothing_seen_is_one_rejected_segment() -> None:
    assert find_segments(track(50, missing=(slice(None),))) == [Segment(0, 50, NO_FACE)]


def test_whatever_happens_every_frame_is_in_one_segment() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 600))
        shots = (0, *sorted(set(rng.integers(1, n + 1, 3).tolist()) - {n}))
        missing = tuple(slice(int(a), int(a + rng.integers(1, 60))) for a in rng.integers(0, n, 4))
        given = track(n, shots=shots, missing=missing)
        segments = find_segments(given)
        assert [i for s in segments for i in range(s.first, s.end)] == list(range(n))
        for s in segments:
            assert not any(s.first < cut < s.end for cut in shots)
            if s.reason is None:
                inside = given.times_s[s.first : s.end][given.found[s.first : s.end]]
                assert inside[-1] - inside[0] >= LEAST_S
                assert np.diff(inside).max() <= BRIDGED_S
                assert given.found[[s.first, s.end - 1]].all()
