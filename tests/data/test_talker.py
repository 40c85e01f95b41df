"""The talking photograph, seen through the real face landmarker."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise

import cv2
import numpy as np
import pytest

from lipwright.data.articulation import REST_WIDTH, articulate
from lipwright.data.landmarker import Landmarker
from lipwright.data.speech import Speech, synthesize
from lipwright.data.talker import Head, Talker, astronaut, talking_frames


def row(
    aperture: float, width: float = REST_WIDTH, rounding: float = 0.0, tuck: float = 0.0, jaw: float | None = None
) -> np.ndarray:
    """One row of `articulate`; the jaw drops with the aperture unless told."""
    return np.array([aperture, width, rounding, tuck, 3.0 * aperture if jaw is None else jaw], np.float32)


def track(frames: list[np.ndarray]) -> np.ndarray:
    """Landmarks (F, 478, 2)."""
    points = []
    with Landmarker() as find:
        for k, frame in enumerate(frames):
            faces, _ = find(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), float(k))
            assert len(faces) == 1, f"no face in frame {k}"
            points.append(faces[0, :, :2])
    return np.array(points, np.float64)


def measure(frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Aperture and width of each frame, as shares of the distance between the outer eye corners."""
    points = track(frames)

    def distance(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a] - points[:, b], axis=-1)

    return distance(13, 14) / distance(33, 263), distance(61, 291) / distance(33, 263)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return astronaut()


@pytest.fixture(scope="module")
def points(photo: np.ndarray) -> np.ndarray:
    return track([photo])[0]


@pytest.fixture(scope="module")
def talker(photo: np.ndarray, points: np.ndarray) -> Talker:
    return Talker(photo, points)


@pytest.fixture(scope="module")
def speech() -> Speech:
    return synthesize("My mother bought five blue boats, you know.")


def test_astronaut_is_a_square_picture_of_the_asked_size() -> None:
    assert astronaut(320).shape == (320, 320, 3)
    assert astronaut(320).dtype == np.uint8


def test_measured_aperture_follows_the_commanded_one(talker: Talker) -> None:
    commanded = np.array([0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32])
    measured, _ = measure([talker.frame(row(aperture)) for aperture in commanded])
    assert (np.diff(measured) > 0.015).all()
    np.testing.assert_allclose(measured, commanded, atol=0.035)
    assert measured[0] < 0.02


def test_measured_width_follows_the_commanded_one(talker: Talker) -> None:
    commanded = np.array([0.48, 0.52, 0.56, 0.60, 0.64, 0.68])
    _, measured = measure([talker.frame(row(0.1, width)) for width in commanded])
    assert (np.diff(measured) > 0.01).all()
    np.testing.assert_allclose(measured, commanded, atol=0.05)


def test_lips_closed_over_a_dropped_jaw_stay_closed(talker: Talker) -> None:
    measured, _ = measure([talker.frame(row(0.0, jaw=jaw)) for jaw in (0.0, 0.3, 0.6)])
    assert measured.max() < 0.03


def test_speech_is_seen_as_commanded(talker: Talker, speech: Speech) -> None:
    frames = [frame for _, frame in talking_frames(talker, speech, rate=Fraction(12))]
    mouth = articulate(speech.phones, np.arange(len(frames)) / 12)
    aperture, width = measure(frames)
    assert np.corrcoef(aperture, mouth[:, 0])[0, 1] > 0.97
    assert np.corrcoef(width, mouth[:, 1])[0, 1] > 0.85


def test_only_the_lower_face_changes_when_only_the_mouth_moves(photo: np.ndarray, points: np.ndarray, talker: Talker) -> None:
    changed = (talker.frame(row(0.3)) != photo).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.min() > points[159, 1]  # below the upper lids
    assert columns.min() > points[234, 0] - 0.1 * talker.eyes_px
    assert columns.max() < points[454, 0] + 0.1 * talker.eyes_px
    assert rows.max() < points[152, 1] + 0.5 * talker.eyes_px
    assert not changed[:100].any()
    assert not changed[-16:].any()


def test_mouth_differs_between_closed_and_open_and_is_dark_inside(points: np.ndarray, talker: Talker) -> None:
    closed, opened = talker.frame(row(0.0)), talker.frame(row(0.3))
    x, y = points[13].round().astype(int)
    throat = slice(y + 24, y + 30), slice(x - 8, x + 8)
    assert opened[throat].mean() < 60
    assert closed[throat].mean() > 100


def test_teeth_show_in_an_open_mouth_and_not_in_a_closed_one(points: np.ndarray, talker: Talker) -> None:
    x, y = points[13].round().astype(int)
    area = slice(y + 4, y + 14), slice(x - 16, x + 16)
    closed, opened = (talker.frame(row(aperture))[area].astype(int) for aperture in (0.0, 0.2))
    assert np.percentile(opened.min(-1), 90) > 180  # white
    assert np.percentile(closed.min(-1), 90) < 160


def test_a_small_change_of_the_mouth_is_a_small_change_of_the_picture(talker: Talker) -> None:
    apertures = np.linspace(0.0, 0.32, 81)
    frames = [talker.frame(row(aperture)).astype(np.int16) for aperture in apertures[:12]]
    jumps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert max(jumps) < 4 * np.median(jumps)


def test_blink_closes_the_eyes_and_leaves_the_mouth(points: np.ndarray, talker: Talker) -> None:
    opened, closed = talker.frame(row(0.1)), talker.frame(row(0.1), blink=1.0)
    below_the_eyes = int(points[145, 1] + 0.1 * talker.eyes_px)
    np.testing.assert_array_equal(closed[below_the_eyes:], opened[below_the_eyes:])
    tracked = track([opened, closed])
    for above, below in ((159, 145), (386, 374)):
        gaps = np.linalg.norm(tracked[:, above] - tracked[:, below], axis=-1)
        assert gaps[1] < 0.65 * gaps[0]


def test_head_motion_moves_the_face_and_keeps_the_border(photo: np.ndarray, talker: Talker) -> None:
    still, moved = talker.frame(row(0.1)), talker.frame(row(0.1), head=Head(6.0, -3.0, 0.03, 1.01))
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        np.testing.assert_array_equal(moved[edge], photo[edge])
    a, b = track([still, moved])
    eyes = (b - a)[[33, 263]]
    assert (eyes[:, 0] > 3.0).all()
    assert np.arctan2(*(b[263] - b[33])[::-1]) - np.arctan2(*(a[263] - a[33])[::-1]) == pytest.approx(0.03, abs=0.015)


def test_frames_come_at_the_rate_through_the_whole_speech(talker: Talker, speech: Speech) -> None:
    rate = Fraction(30000, 1001)
    times = [time for time, _ in islice(talking_frames(talker, speech, rate=rate), 5)]
    assert times == [k / rate for k in range(5)]
    *_, last = (time for time, _ in talking_frames(talker, speech, rate=Fraction(5)))
    assert speech.duration_s - 0.2 <= last < speech.duration_s


def test_the_seed_decides_blinks_and_motion(talker: Talker, speech: Speech) -> None:
    def first(seed: int) -> list[np.ndarray]:
        return [frame for _, frame in islice(talking_frames(talker, speech, seed=seed), 3)]

    np.testing.assert_array_equal(first(1), first(1))
    assert (np.array(first(1)) != np.array(first(2))).any()


def test_wrong_shapes_are_refused(photo: np.ndarray, points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Talker(photo.astype(np.float32), points)
    with pytest.raises(ValueError, match=r"\(468, 2\)"):
        Talker(photo, points[:468])
