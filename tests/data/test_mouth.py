"""The mouth: sampled only where it is known, compared across people, edited by hand, written and read without loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.edits import RAMP_S, Edit
from lipwright.data.errors import InputError, TrackError
from lipwright.data.face_space import ANCHORS, CANONICAL
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import (
    INNER_LIPS,
    LEAST_SCALE,
    LIPS,
    LONGEST_GAP_S,
    OPEN_NEUTRAL,
    OUTER_LIPS,
    POINTS,
    MouthTrack,
    Speaker,
    aperture,
    interpolate,
    load_track,
    measure_mouth,
    measure_speaker,
    protrusion,
    store_mouths,
    track_of,
    width,
)  # fmt: skip

AT = {int(point): k for k, point in enumerate(LIPS)}


def mouths(opening: np.ndarray, seed: int | None = None) -> np.ndarray:
    """Lens-shaped mouths (T, 40, 3) whose aperture is `opening` (T,) exactly; with a seed, a little uneven."""
    angle = np.linspace(np.pi, -np.pi, 21)[:-1]  # from the left corner by the lower lip and back by the upper
    shape = np.stack([np.cos(angle), np.sin(angle)], -1)
    outer = shape * (0.3, 0.06)
    out = np.zeros((len(opening), POINTS, 3))
    out[:, :20, :2] = outer + np.stack([np.zeros(20), np.sign(np.round(shape[:, 1], 9))], -1) * opening[:, None, None] / 2
    out[:, 20:, :2] = shape * np.stack([np.full(len(opening), 0.25), opening / 2], -1)[:, None]
    out += (0.0, 0.7, -0.3)
    if seed is not None:
        uneven = np.random.default_rng(seed).normal(0, 0.003, (POINTS, 3))
        uneven[[AT[13], AT[14]]] = 0
        out += uneven
    return out.astype(np.float32)


def test_the_forty_points_are_the_forty_points() -> None:
    assert POINTS == 40
    assert len(set(LIPS.tolist())) == 40
    assert len(OUTER_LIPS) == len(INNER_LIPS) == 20
    assert {13, 14, 78, 308} <= set(INNER_LIPS)
    assert {61, 291, 0, 17} <= set(OUTER_LIPS)


def test_protrusion_is_how_far_the_middle_stands_before_the_corners() -> None:
    flat = mouths(np.array([0.0, 0.2]))
    np.testing.assert_allclose(protrusion(flat), 0, atol=1e-6)
    pushed = flat.copy()
    pushed[..., 2] -= 0.1 * (1 - (flat[..., 0] / 0.3) ** 2)  # towards the camera, the middle most
    np.testing.assert_allclose(protrusion(pushed), 0.1, atol=1e-6)


def test_aperture_and_width_are_distances() -> None:
    opening = np.array([0.0, 0.05, 0.3])
    np.testing.assert_allclose(aperture(mouths(opening)), opening, atol=1e-6)
    np.testing.assert_allclose(width(mouths(opening)), 0.6, atol=1e-6)
    assert aperture(mouths(opening)[None]).shape == (1, 3)
    moved = mouths(opening) + np.float32([1, 2, 3])
    np.testing.assert_allclose(aperture(moved), opening, atol=1e-6)


# Interpolation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (40, 3)])
def test_known_times_give_known_values(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.1, 50))
    values = rng.normal(0, 1, (50, *shape)).astype(np.float32)
    out, valid = interpolate(times, values, np.ones(50, bool), times)
    assert valid.all()
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, values)


def test_between_neighbours_it_is_linear_whatever_the_rate() -> None:
    for times in (
        np.arange(100) / 25,
        np.arange(100) * 1001 / 30000,
        np.cumsum(np.random.default_rng(1).uniform(0.01, 0.11, 100)),
    ):
        at = np.arange(int(times[0] * 100) + 1, int(times[-1] * 100)) / 100
        out, valid = interpolate(times, 3 * times - 1, np.ones(len(times), bool), at)
        assert valid.all()
        np.testing.assert_allclose(out, 3 * at - 1, atol=1e-5)


@pytest.mark.parametrize(("gap_s", "bridged"), [(0.11, True), (0.12, True), (0.121, False), (0.5, False)])
def test_gaps_are_bridged_up_to_the_limit(gap_s: float, bridged: bool) -> None:
    assert LONGEST_GAP_S == 0.12
    times = np.array([0.0, 0.04, 0.04 + gap_s, 0.08 + gap_s])
    at = np.array([0.02, 0.04, 0.04 + gap_s / 3, 0.04 + gap_s, 0.06 + gap_s])
    out, valid = interpolate(times, times, np.ones(4, bool), at)
    assert valid.tolist() == [True, True, bridged, True, True]
    np.testing.assert_allclose(out[valid], at[valid], atol=1e-6)
    assert not out[~valid].any()


def test_outside_there_is_nothing() -> None:
    times = np.array([1.0, 1.1])
    at = np.array([-5.0, 0.99, 1.0, 1.05, 1.1, 1.11, 99.0])
    out, valid = interpolate(times, np.ones(2), np.ones(2, bool), at)
    assert valid.tolist() == [False, False, True, True, True, False, False]
    np.testing.assert_array_equal(out, valid)


def test_invalid_frames_are_passed_over_and_their_values_never_seen() -> None:
    times = np.arange(10) / 25
    values = times.copy()
    valid = np.ones(10, bool)
    values[[3, 6, 7, 8]], valid[[3, 6, 7, 8]] = np.nan, False
    at = np.arange(0, 37) / 100
    out, good = interpolate(times, values, valid, at)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[good], at[good], atol=1e-6)
    # one missing frame (80 ms) is bridged, three (160 ms) are not
    np.testing.assert_array_equal(good, (at <= 0.2 + 1e-9) | (at >= 0.36 - 1e-9))


@pytest.mark.parametrize("frames", [0, 3])
def test_without_valid_frames_nothing_is_valid(frames: int) -> None:
    out, valid = interpolate(np.arange(frames) / 25, np.full((frames, 2), np.nan), np.zeros(frames, bool), np.arange(5) / 100)
    assert out.shape == (5, 2)
    assert not out.any()
    assert not valid.any()


def test_a_single_frame_is_known_at_its_own_time_alone() -> None:
    out, valid = interpolate(np.array([0.5]), np.array([2.0]), np.array([True]), np.array([0.49, 0.5, 0.51]))
    assert valid.tolist() == [False, True, False]
    assert out[1] == 2.0


def test_times_that_are_meant_equal_are() -> None:
    times = np.arange(30) * 0.1
    assert interpolate(times, times, np.ones(30, bool), times + 3e-7)[1].all()
    assert interpolate(times, times, np.ones(30, bool), times - 3e-7)[1].all()


# Speaker --------------------------------------------------------------------------------------------------------------


def test_neutral_and_scale_of_a_speaker() -> None:
    rng = np.random.default_rng(0)
    opening = rng.permutation(np.linspace(0.0, 0.4, 401))
    speaker = measure_speaker(mouths(opening, seed=1))
    assert speaker.scale == pytest.approx(0.34, abs=0.002)  # 90th − 5th percentile
    assert aperture(speaker.neutral) == pytest.approx(0.01, abs=0.001)  # mean under the 5th
    assert not speaker.neutral_estimated
    assert speaker.neutral.shape == (POINTS, 3)


def test_frames_without_a_face_do_not_count() -> None:
    xyz = mouths(np.linspace(0, 0.4, 100))
    holes = np.insert(xyz, [0, 10, 50, 100], np.nan, axis=0)
    a, b = measure_speaker(xyz), measure_speaker(holes)
    assert a.scale == b.scale
    np.testing.assert_array_equal(a.neutral, b.neutral)


def test_order_does_not_matter() -> None:
    xyz = mouths(np.linspace(0, 0.4, 100), seed=2)
    a, b = measure_speaker(xyz), measure_speaker(xyz[np.random.default_rng(0).permutation(100)])
    assert a.scale == b.scale
    np.testing.assert_allclose(a.neutral, b.neutral, atol=1e-6)


def test_a_mouth_never_seen_closed_is_closed_by_calculation() -> None:
    xyz = mouths(np.linspace(OPEN_NEUTRAL + 0.02, 0.4, 200), seed=3)
    speaker = measure_speaker(xyz)
    assert speaker.neutral_estimated
    assert aperture(speaker.neutral) == pytest.approx(0, abs=1e-6)
    lower, upper = (speaker.neutral[[AT[p] for p in side]] for side in (INNER_LIPS[1:10], INNER_LIPS[:10:-1]))
    np.testing.assert_allclose(lower, upper, atol=1e-6)
    narrow = mouths(np.array([OPEN_NEUTRAL + 0.02]), seed=3)[0]
    outer = [AT[p] for p in OUTER_LIPS]
    np.testing.assert_allclose(speaker.neutral[outer], narrow[outer], atol=0.01)  # the outer lips stay


def test_a_person_who_does_not_speak_has_no_scale() -> None:
    silent = measure_speaker(mouths(np.linspace(0, LEAST_SCALE, 100)))
    assert silent.scale is None
    assert measure_speaker(mouths(np.full(1, 0.2))).scale is None
    shapes = silent.normalise(mouths(np.array([0.0, 0.3])), scale=0.25)
    np.testing.assert_allclose(silent.place(shapes, 0.25), mouths(np.array([0.0, 0.3])), atol=1e-6)
    assert aperture(silent.place(2 * shapes, 0.25)[1]) > 0.5


@pytest.mark.parametrize("scale", [None, 0.2])
def test_normalise_and_place_are_inverse(scale: float | None) -> None:
    speaker = Speaker(mouths(np.zeros(1), seed=4)[0], scale)
    xyz = mouths(np.linspace(0, 0.4, 20), seed=5)
    np.testing.assert_allclose(speaker.place(speaker.normalise(xyz, 0.3), 0.3), xyz, atol=1e-6)
    assert not speaker.normalise(speaker.neutral, 0.3).any()


def test_normalised_mouths_do_not_know_their_speaker() -> None:
    opening = np.linspace(0, 0.2, 101)
    small, large = mouths(opening), mouths(opening) * np.float32(1.7) + np.float32([0.1, -0.3, 0.2])
    a, b = (measure_speaker(xyz).normalise(xyz, 1.0) for xyz in (small, large))
    np.testing.assert_allclose(a, b, atol=1e-4)


# Measuring ------------------------------------------------------------------------------------------------------------


def face_track(opening: np.ndarray, rate: float = 25.0, start_s: float = 0.0) -> FaceTrack:
    """A face whose mouth opens by `opening` (F,), at a fixed pose of 200 px; NaN marks frames without a face."""
    frames = len(opening)
    points = np.zeros((frames, 478, 3), np.float32)
    points[:, ANCHORS] = np.float32(list(CANONICAL.values()))
    points[:, LIPS] = mouths(np.nan_to_num(opening))
    points = points * 200 + np.float32([320, 200, 0])
    points[np.isnan(opening)] = np.nan
    times_s = start_s + np.arange(frames) / rate
    return FaceTrack(
        np.arange(frames),
        times_s,
        points,
        np.zeros((frames, 52), np.float32),
        640,
        480,
        np.zeros(1, int),
        *np.zeros((2, frames), bool),
    )


def test_the_mouth_is_measured_in_face_space() -> None:
    opening = np.array([0.0, 0.1, np.nan, 0.3])
    mouth = measure_mouth(face_track(opening))
    assert mouth.dtype == np.float32
    assert np.isnan(mouth[2]).all()
    seen = [0, 1, 3]
    np.testing.assert_allclose(mouth[seen], mouths(opening[seen]), atol=1e-5)


def test_the_track_runs_on_the_grid_from_time_zero() -> None:
    opening = 0.2 + 0.2 * np.sin(np.arange(50))
    track = track_of(face_track(opening, start_s=0.08))
    assert len(track.xyz) == int((0.08 + 49 / 25) * 100) + 1
    np.testing.assert_allclose(track.times_s, np.arange(len(track.xyz)) / 100)
    np.testing.assert_array_equal(track.valid, track.times_s > 0.0799)
    np.testing.assert_allclose(aperture(track.xyz)[8::4], opening, atol=1e-4)


@pytest.mark.parametrize("rate", [24000 / 1001, 25.0, 30000 / 1001, 50.0])
def test_measured_mouths_come_back_at_the_frames_times(rate: float) -> None:
    times = np.arange(60) / rate
    face = face_track(0.2 + 0.15 * np.sin(2 * np.pi * 2 * times), rate)
    back, valid = track_of(face).at(times)
    assert valid[:-1].all()
    np.testing.assert_allclose(aperture(back)[:-1], 0.2 + 0.15 * np.sin(2 * np.pi * 2 * times)[:-1], atol=0.012)


# Edits ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def track() -> MouthTrack:
    """Two seconds of movement, unknown between 1.0 and 1.1 s."""
    time = np.arange(200) / 100
    xyz = mouths(0.2 + 0.15 * np.sin(2 * np.pi * 3 * time), seed=6)
    valid = (time < 1.0) | (time > 1.1)
    xyz[~valid] = 0
    return MouthTrack(xyz, valid, Speaker(mouths(np.zeros(1), seed=6)[0], 0.3), start_s=0.5)


def edited(track: MouthTrack, *edits: Edit) -> np.ndarray:
    """Every step of a track, edits carried out."""
    return replace(track, edits=edits).steps(0, len(track.valid))[1]


def test_no_edits_change_nothing(track: MouthTrack) -> None:
    np.testing.assert_array_equal(edited(track), track.xyz)


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 2.0])
def test_gain_scales_the_opening_inside_its_span_alone(track: MouthTrack, gain: float) -> None:
    given = np.array(track.xyz)
    done = edited(track, Edit(0.8, 1.2, gain=gain))
    times = track.times_s
    outside = (times <= 0.8) | (times >= 1.2)
    np.testing.assert_array_equal(done[outside], track.xyz[outside])
    held = (times > 0.8 + RAMP_S + 1e-6) & (times < 1.2 - RAMP_S - 1e-6)
    neutral = track.speaker.neutral
    np.testing.assert_allclose(done[held] - neutral, gain * (track.xyz[held] - neutral), atol=1e-5)
    np.testing.assert_array_equal(track.xyz, given)


def test_closed_is_the_neutral_mouth(track: MouthTrack) -> None:
    done = edited(track, Edit(0.8, 1.2, gain=3.0, closed=True))
    held = (track.times_s > 0.86) & (track.times_s < 1.14)
    assert (done[held] == track.speaker.neutral).all()


def test_an_edit_sets_in_softly(track: MouthTrack) -> None:
    still = replace(track, xyz=np.repeat(track.xyz[5:6], 200, 0), valid=np.ones(200, bool))
    opening = aperture(edited(still, Edit(0.8, 1.2, closed=True)))
    assert np.abs(np.diff(opening)).max() < 0.25 * np.ptp(opening)


@pytest.mark.parametrize("edit", [Edit(0.8, 0.8, closed=True), Edit(1.2, 0.8, closed=True), Edit(50, 60, closed=True)])
def test_an_edit_of_no_length_or_elsewhere_does_nothing(track: MouthTrack, edit: Edit) -> None:
    np.testing.assert_array_equal(edited(track, edit), track.xyz)


def test_held_is_the_mouth_of_the_start(track: MouthTrack) -> None:
    done = edited(track, Edit(0.8, 1.2, hold=True))
    times = track.times_s
    outside = (times < 0.8 - 1e-6) | (times >= 1.2)
    np.testing.assert_array_equal(done[outside], track.xyz[outside])
    (start,) = np.flatnonzero(np.isclose(times, 0.8))
    held = (times > 0.8 - 1e-6) & (times < 1.2 - RAMP_S - 1e-6)
    assert track.valid[start]
    np.testing.assert_allclose(done[held], np.repeat(track.xyz[start][None], held.sum(), 0), atol=1e-6)


def test_a_mouth_that_is_not_seen_is_held_as_it_was_seen_last(track: MouthTrack) -> None:
    valid = track.valid.copy()
    valid[28:33] = False  # 0.78 to 0.82 s
    done = edited(replace(track, valid=valid), Edit(0.8, 1.2, hold=True))
    np.testing.assert_allclose(done[40], track.xyz[27], atol=1e-6)


def test_a_held_mouth_moves_by_the_gain_of_its_time_too(track: MouthTrack) -> None:
    neutral, hold = track.speaker.neutral, Edit(0.8, 1.2, hold=True)
    both = edited(track, hold, Edit(0.5, 2.0, gain=0.5))[40]
    np.testing.assert_allclose(both - neutral, 0.5 * (edited(track, hold)[40] - neutral), atol=1e-5)
    np.testing.assert_array_equal(edited(track, Edit(0.5, 2.0, gain=0.5), hold)[40], both)


def test_of_two_holds_the_one_that_begins_last_counts(track: MouthTrack) -> None:
    early, late = Edit(0.6, 1.6, hold=True), Edit(1.0, 1.4, hold=True)
    for edits in ((early, late), (late, early)):
        done = edited(track, *edits)
        np.testing.assert_allclose(done[60], track.xyz[50], atol=1e-6)
        np.testing.assert_allclose(done[30], track.xyz[10], atol=1e-6)


def test_closed_and_held_is_refused() -> None:
    with pytest.raises(InputError, match="choose one"):
        Edit(0, 1, closed=True, hold=True)


def test_edits_add_up_in_any_order(track: MouthTrack) -> None:
    more, less = Edit(0.5, 2.4, gain=0.5), Edit(0.7, 2.0, gain=1.5)
    np.testing.assert_allclose(edited(track, more, less), edited(track, less, more), atol=1e-6)
    once = edited(track, Edit(0.5, 2.4, gain=0.75))
    np.testing.assert_allclose(edited(track, more, less)[30:140], once[30:140], atol=1e-5)


# Reading a part -------------------------------------------------------------------------------------------------------


class _Counted:
    """Mouths that note which of them were read."""

    def __init__(self, xyz: np.ndarray) -> None:
        self.xyz, self.read = xyz, np.zeros(len(xyz), bool)

    def __getitem__(self, key: slice) -> np.ndarray:
        self.read[key] = True
        return self.xyz[key]


EDITS = (Edit(0.9, 1.6, gain=2.0), Edit(1.2, 1.9, hold=True), Edit(1.5, 2.2, closed=True), Edit(-np.inf, np.inf, gain=0.7))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("edits", [(), EDITS], ids=["plain", "edited"])
def test_any_times_read_as_from_the_whole_track(track: MouthTrack, stored: bool, edits: tuple[Edit, ...]) -> None:
    track = replace(track, xyz=store_mouths([track.xyz[:70], track.xyz[70:]]) if stored else track.xyz, edits=edits)
    times_s, xyz = track.steps(0, 200)
    rng = np.random.default_rng(0)
    for span_s in (0.001, 0.03, 0.4, 5.0):
        for start_s in np.arange(0.2, 2.8, 0.07):
            at = rng.permutation(start_s + span_s * rng.uniform(size=9))
            at[:4] = np.round(at[:4], 2)  # on the grid
            for got, expected in zip(track.at(at), interpolate(times_s, xyz, track.valid, at), strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("from_s", "to_s"), [(0.5, 0.6), (1.2, 1.2), (2.4, 2.6), (-9.0, -8.0), (70.0, 80.0)])
def test_only_the_steps_that_are_needed_are_read(track: MouthTrack, from_s: float, to_s: float) -> None:
    counted: Any = _Counted(np.array(track.xyz))
    replace(track, xyz=counted, edits=EDITS).at(np.linspace(to_s, from_s, 7))
    read = track.times_s[counted.read]
    assert len(read) <= 100 * (to_s - from_s) + 27
    assert not len(read) or from_s < 0 or from_s > 3 or (read.min() >= from_s - 0.131 and read.max() <= to_s + 0.131)


def test_at_no_times_there_is_nothing(track: MouthTrack) -> None:
    xyz, valid = track.at(np.zeros(0))
    assert (xyz.shape, valid.shape) == ((0, 40, 3), (0,))


@pytest.mark.parametrize("steps", [1, 255, 256, 257, 700])
def test_something_is_measured_of_every_step(steps: int) -> None:
    xyz = mouths(np.linspace(0, 0.4, steps))
    track = MouthTrack(store_mouths([xyz]), np.ones(steps, bool), Speaker(mouths(np.zeros(1))[0], 0.3))
    np.testing.assert_array_equal(track.measure(aperture), aperture(xyz))
    np.testing.assert_allclose(replace(track, edits=(Edit(-9, 99, gain=2.0),)).measure(aperture), 2 * aperture(xyz), atol=1e-6)


@pytest.mark.parametrize("scales", [(0.3, 0.2), (0.3, None), (None, 0.2), (None, None)])
@pytest.mark.parametrize("steps", [20, 300])
def test_a_movement_goes_onto_another_mouth(scales: tuple[float | None, float | None], steps: int) -> None:
    own, other = (Speaker(mouths(np.zeros(1), seed=k)[0], scale) for k, scale in enumerate(scales))
    valid = np.random.default_rng(0).uniform(size=steps) < 0.8
    track = MouthTrack(mouths(np.linspace(0, 0.4, steps), seed=0), valid, own, 0.5, (Edit(0.6, 0.7, closed=True),))
    moved = track.on(other)
    assert (moved.speaker, moved.start_s, moved.edits) == (other, 0.5, track.edits)
    np.testing.assert_array_equal(moved.valid, valid)
    range_ = (scales[1] or scales[0] or 1) / (scales[0] or scales[1] or 1)
    np.testing.assert_allclose(moved.xyz[:], other.neutral + range_ * (track.xyz - own.neutral), atol=1e-5)
    shapes = [t.steps(0, steps)[1] - t.speaker.neutral for t in (track, moved)]  # the edit does the same before and after
    np.testing.assert_allclose(shapes[1], range_ * shapes[0], atol=1e-5)


# The file -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.3, None])
@pytest.mark.parametrize("edits", [(), (Edit(0.5, 1.0, gain=0.5), Edit(1.0, 1.5, closed=True), Edit(2.0, 3.0, hold=True))])
def test_save_then_load_is_the_same(track: MouthTrack, tmp_path: Path, scale: float | None, edits: tuple[Edit, ...]) -> None:
    track = replace(track, edits=edits, speaker=replace(track.speaker, scale=scale, neutral_estimated=scale is None))
    track.save(tmp_path / "track.json")
    back = load_track(tmp_path / "track.json")
    np.testing.assert_allclose(back.xyz, track.xyz, atol=5.1e-6)  # five decimals
    np.testing.assert_array_equal(back.valid, track.valid)
    np.testing.assert_allclose(back.speaker.neutral, track.speaker.neutral, atol=5.1e-6)
    assert (back.speaker.scale, back.speaker.neutral_estimated) == (scale, scale is None)
    assert (back.start_s, back.edits) == (0.5, edits)
    back.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "track.json").read_text()


def test_a_track_on_disk_is_saved_as_one_in_memory(tmp_path: Path) -> None:
    xyz = mouths(np.linspace(0, 0.4, 600), seed=1)
    track = MouthTrack(xyz, np.random.default_rng(0).uniform(size=600) < 0.9, Speaker(xyz[0], 0.3))
    track.save(tmp_path / "memory.json")
    replace(track, xyz=store_mouths([xyz])).save(tmp_path / "disk.json")
    assert (tmp_path / "disk.json").read_text() == (tmp_path / "memory.json").read_text()
    np.testing.assert_allclose(
        load_track(tmp_path / "disk.json").xyz[:], np.where(track.valid[:, None, None], xyz, 0), atol=5.1e-6
    )


@pytest.mark.parametrize(
    "edit", [Edit(-np.inf, np.inf, gain=1.5), Edit(-np.inf, 1.1, closed=True), Edit(1.3, np.inf, gain=0.0)]
)
def test_an_edit_without_end_is_saved_with_one_and_does_the_same(track: MouthTrack, tmp_path: Path, edit: Edit) -> None:
    track = replace(track, edits=(edit,), valid=np.ones(200, bool))
    track.save(tmp_path / "track.json")
    assert "Infinity" not in (tmp_path / "track.json").read_text()
    back = load_track(tmp_path / "track.json")
    np.testing.assert_allclose(back.steps(0, 200)[1], track.steps(0, 200)[1], atol=2e-5)
    again = replace(back, edits=(back.edits[0].bounded(-9, 9),))
    assert again.edits == back.edits


def test_the_file_has_the_fields_of_the_format(track: MouthTrack, tmp_path: Path) -> None:
    track.save(tmp_path / "track.json")
    document = json.loads((tmp_path / "track.json").read_text())
    assert (document["format"], document["version"], document["step_hz"]) == ("lipwright-mouth", 1, 100)
    assert np.array(document["xyz"]).shape == (200, 40, 3)
    assert np.array(document["neutral"]).shape == (40, 3)
    assert len(document["valid"]) == 200
    assert document["points"] == LIPS.tolist()
    assert {"start_s", "scale", "edits"} <= document.keys()


def test_steps_that_are_not_valid_are_written_as_zeros(track: MouthTrack, tmp_path: Path) -> None:
    xyz = track.xyz.copy()
    xyz[~track.valid] = np.nan
    replace(track, xyz=xyz).save(tmp_path / "track.json")
    assert not load_track(tmp_path / "track.json").xyz[~track.valid].any()


def test_edits_may_be_left_out_and_written_short(track: MouthTrack, tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    track.save(path)
    document = json.loads(path.read_text())
    del document["edits"]
    path.write_text(json.dumps(document))
    assert load_track(path).edits == ()
    path.write_text(json.dumps(document | {"edits": [{"start_s": 0, "end_s": 1, "closed": True}]}))
    assert load_track(path).edits == (Edit(0, 1, closed=True),)


def test_saving_is_all_or_nothing(track: MouthTrack, tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OSError):  # noqa: PT011
        track.save(tmp_path / "folder.json")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.json"]


def _set(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document | fields


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {key: value for key, value in document.items() if key != name}


def _xyz(change: Callable[[list[Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document | {"xyz": change(document["xyz"])}


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda document: [document],
    "another format": _set(format="lipwright-model"),
    "no format": _without("format"),
    "another version": _set(version=2),
    "another rate": _set(step_hz=25),
    "other points": _set(points=LIPS[::-1].tolist()),
    "no points": _without("points"),
    "no xyz": _without("xyz"),
    "no neutral": _without("neutral"),
    "no valid": _without("valid"),
    "no scale": _without("scale"),
    "no start": _without("start_s"),
    "no steps": _set(xyz=[], valid=[]),
    "xyz too short": _xyz(lambda xyz: xyz[:-1]),
    "valid too short": lambda document: document | {"valid": document["valid"][:-1]},
    "39 points": _xyz(lambda xyz: [step[:-1] for step in xyz]),
    "ragged": _xyz(lambda xyz: [*xyz[:-1], xyz[-1][:-1]]),
    "turned round": _xyz(lambda xyz: np.array(xyz).transpose(0, 2, 1).tolist()),
    "flat": _xyz(lambda xyz: np.array(xyz).ravel().tolist()),
    "text in xyz": _xyz(lambda xyz: "none"),
    "null in xyz": _xyz(lambda xyz: [None, *xyz[1:]]),
    "not a number": _xyz(lambda xyz: [[[float("nan")] * 3] * 40, *xyz[1:]]),
    "infinite": _xyz(lambda xyz: [[[float("inf")] * 3] * 40, *xyz[1:]]),
    "neutral of 39": _set(neutral=[[0.0] * 3] * 39),
    "neutral not a number": _set(neutral=[[float("nan")] * 3] * 40),
    "valid is text": _set(valid="true"),
    "valid in words": lambda document: document | {"valid": ["no"] * len(document["valid"])},
    "scale is text": _set(scale="wide"),
    "scale is negative": _set(scale=-0.2),
    "scale is zero": _set(scale=0.0),
    "scale is not a number": _set(scale=float("nan")),
    "start is text": _set(start_s="now"),
    "start is null": _set(start_s=None),
    "start is not a number": _set(start_s=float("nan")),
    "start is infinite": _set(start_s=float("inf")),
    "edits is a number": _set(edits=5),
    "edits is null": _set(edits=None),
    "an edit is a list": _set(edits=[[0, 1]]),
    "an edit without end": _set(edits=[{"start_s": 0}]),
    "an edit with a wrong name": _set(edits=[{"start_s": 0, "end_s": 1, "loudness": 2}]),
    "an edit in words": _set(edits=[{"start_s": "0:01", "end_s": "0:02"}]),
    "an edit with a gain in words": _set(edits=[{"start_s": 0, "end_s": 1, "gain": "double"}]),
    "an edit with too great a gain": _set(edits=[{"start_s": 0, "end_s": 1, "gain": 3.1}]),
    "an edit with a negative gain": _set(edits=[{"start_s": 0, "end_s": 1, "gain": -1}]),
    "an edit that is not a number": _set(edits=[{"start_s": 0, "end_s": float("nan")}]),
    "an edit closed in words": _set(edits=[{"start_s": 0, "end_s": 1, "closed": "no"}]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named(track: MouthTrack, tmp_path: Path, what: str) -> None:
    path = tmp_path / "broken.json"
    track.save(path)
    load_track(path)
    path.write_text(json.dumps(BROKEN[what](json.loads(path.read_text()))))
    with pytest.raises(TrackError, match=r"broken\.json") as caught:
        load_track(path)
    assert len(str(caught.value)) < 600
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "content", [b"", b"no json", b'{"format": "lipwright-mouth", "xyz": [[', b"\xff\xfe\x00", b"null", b"3"]
)
def test_what_is_no_track_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.json").write_bytes(content)
    with pytest.raises(TrackError, match=r"text\.json is not a mouth track"):
        load_track(tmp_path / "text.json")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrackError, match=r"none\.json does not exist"):
        load_track(tmp_path / "none.json")
    with pytest.raises(TrackError, match="not a mouth track"):
        load_track(tmp_path)
