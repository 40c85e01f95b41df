"""Mouths with something before them are told from mouths, however wide they open and whatever light is on them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipwright.data.face_space import ANCHORS, CANONICAL
from lipwright.data.landmarks import COMES_S, FaceTrack, track_faces
from lipwright.data.lower_face import FEWEST, SIDE, find_hidden, small_faces
from lipwright.data.media import Yuv, probe, read_frames
from lipwright.data.segments import FLAWS, HIDDEN, usable_frames

Paint = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(RGB picture, landmarks, size of the face in pixels) → RGB picture."""

COVERED = slice(60, 73)
"""Half a second."""

MOUTH = [13, 14]
CHEEKS = [50, 280]


@pytest.fixture(scope="module")
def pictures(talk) -> list[np.ndarray]:
    return [frame.rgb() for frame in read_frames(probe(talk.path), threads=1)]


@pytest.fixture(scope="module")
def faces(pictures: list[np.ndarray], talk_track: FaceTrack) -> np.ndarray:
    points = talk_track.points[:]
    return np.concatenate([small_faces(rgb, points[k : k + 1]) for k, rgb in enumerate(pictures)])


def hide(faces: np.ndarray, track: FaceTrack, shots: tuple[int, ...] = (0,)) -> np.ndarray:
    return find_hidden(faces, track.points, track.found, np.array(shots))


def disk(rgb: np.ndarray, points: np.ndarray, unit: float) -> np.ndarray:
    """It is taken for a mouth that is open wide."""
    centre = points[MOUTH, :2].mean(0) + np.array([0, 0.08 * unit])
    return cv2.circle(rgb.copy(), centre.round().astype(int).tolist(), round(0.34 * unit), (30, 30, 34), -1)


def hand(rgb: np.ndarray, points: np.ndarray, unit: float) -> np.ndarray:
    """Four fingers of the face's own colour."""
    skin = np.mean([rgb[y - 3 : y + 4, x - 3 : x + 4] for x, y in points[CHEEKS, :2].astype(int)], (0, 1, 2))
    x, y = points[MOUTH, :2].mean(0)
    out = rgb.copy()
    for k in range(-2, 3):
        across = round(y + 0.17 * unit * k)
        ends = (round(x - 0.55 * unit), across), (round(x + 0.55 * unit), across)
        cv2.line(out, *ends, (0.8 * skin).tolist(), round(0.24 * unit))
        cv2.line(out, *ends, skin.tolist(), round(0.17 * unit))
    return out


def film(encode: Callable[..., Path], pictures: list[np.ndarray]) -> Path:
    video = [(Fraction(k, 25), Yuv.from_bgr(np.ascontiguousarray(rgb[..., ::-1]))) for k, rgb in enumerate(pictures)]
    return encode("film.mp4", video=video)


@pytest.mark.parametrize("paint", [disk, hand])
def test_a_mouth_with_something_before_it_is_told_while_tracking(
    encode: Callable[..., Path], pictures: list[np.ndarray], talk_track: FaceTrack, paint: Paint
) -> None:
    shown = list(pictures)
    for k in range(*COVERED.indices(len(shown))):
        shown[k] = paint(shown[k], talk_track.points[k], float(talk_track.pose.scale[k]))
    track = track_faces(probe(film(encode, shown)))
    covered = np.zeros(len(shown), bool)
    covered[COVERED] = True
    assert track.found[covered].mean() > 0.5  # landmarks are invented
    coming = np.abs(track.times_s[:, None] - track.times_s[covered]).min(1) <= COMES_S + 1e-6
    assert track.hidden[covered & track.found].all()
    assert not track.hidden[~coming].any()
    usable, flaw = usable_frames(track)
    assert not usable[covered].any()
    assert usable[~coming].all()
    assert set(flaw[track.hidden & track.found]) == {FLAWS.index(HIDDEN)}


def test_no_mouth_of_a_bare_face_is_hidden(talk_track: FaceTrack, faces: np.ndarray) -> None:
    assert not talk_track.hidden.any()
    assert not hide(faces, talk_track).any()


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("change", ["dark", "from a side", "warm", "noise", "stubble"])
def test_another_light_hides_nothing(talk_track: FaceTrack, faces: np.ndarray, change: str, share: float) -> None:
    rng = np.random.default_rng(0)
    some = faces[-round(share * len(faces)) :].astype(np.float64)
    if change == "dark":
        some = (some - [0, 128, 128]) * 0.7 + [0, 128, 128]
    elif change == "from a side":
        some[..., 0] *= np.linspace(0.7, 1.1, SIDE)
    elif change == "warm":
        some += [0, -10, 10]
    elif change == "noise":
        some += rng.normal(0, 6, some.shape)
    else:
        some[:, 18:, :, 0] -= 25 * rng.random((SIDE - 18, SIDE))
    changed = np.concatenate([faces[: -len(some)], np.clip(some, 0, 255).astype(np.uint8)])
    assert hide(changed, talk_track).mean() < 0.01


def test_of_few_faces_nothing_is_told(talk_track: FaceTrack, faces: np.ndarray) -> None:
    covered = faces.copy()
    covered[:12] = 30
    assert hide(covered, talk_track)[:12].all()
    few = talk_track.part(slice(FEWEST - 1))
    assert not hide(covered[: FEWEST - 1], few).any()
    assert not find_hidden(covered, talk_track.points, np.zeros(len(faces), bool), np.array([0])).any()


def test_what_is_not_usable_is_not_looked_at(talk_track: FaceTrack, faces: np.ndarray) -> None:
    covered, usable = faces.copy(), talk_track.found.copy()
    covered[:12], usable[:6] = 30, False
    assert np.flatnonzero(find_hidden(covered, talk_track.points, usable, np.array([0]))).tolist() == list(range(6, 12))


def test_a_whole_shot_is_another_light(talk_track: FaceTrack, faces: np.ndarray) -> None:
    covered = faces.copy()
    covered[:12] = 30
    assert not hide(covered, talk_track, shots=(0, 12)).any()
    assert hide(covered, talk_track, shots=(0, 30))[:12].all()


def test_the_small_face_is_upright_and_where_it_is_told_to_be() -> None:
    points = np.zeros((478, 3))
    points[ANCHORS] = list(CANONICAL.values())
    for turned_deg, scale in ((0, 64), (25, 150), (-70, 333)):
        turn = np.radians(turned_deg)
        rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        placed = scale * points @ rotation.T + [400, 300, 0]
        y, x = np.mgrid[:700, :900]
        _, down = rotation.T[:2, :2] @ np.stack([x - 400, y - 300]).reshape(2, -1) / scale
        grey = np.clip(40 * (1 + down), 0, 255).reshape(700, 900)
        rgb = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
        (face,) = small_faces(rgb, placed[None])
        expected = 40 * (1 + 0.42 + (np.arange(SIDE) + 0.5) / SIDE)
        np.testing.assert_allclose(face[..., 0], np.repeat(expected[:, None], SIDE, 1), atol=2.5)


def test_a_face_at_the_edge_of_the_picture_or_beyond_has_one_too(pictures: list[np.ndarray], talk_track: FaceTrack) -> None:
    for shift in ([-200, 0], [200, 0], [0, 250], [0, -900], [5000, 5000]):
        moved = talk_track.points[0][None] + np.float32([*shift, 0])
        assert small_faces(pictures[0], moved).shape == (1, SIDE, SIDE, 3)
    assert small_faces(pictures[0], np.zeros((0, 478, 3), np.float32)).shape == (0, SIDE, SIDE, 3)
