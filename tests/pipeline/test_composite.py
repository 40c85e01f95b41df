"""A painted mouth changes samples inside its mask alone, and shows the mouth that it was asked for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from lipwright.data.follower import track_images
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import BT709, Yuv, to_rgb
from lipwright.data.mouth import LIPS, aperture, measure_mouth
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.composite import Painted, paint_mouth
from lipwright.pipeline.render.painting import outside_difference
from lipwright.pipeline.render.shape import OVAL


@pytest.fixture(scope="module")
def widest(talk_bank: Bank) -> int:
    """Return the window with the widest open mouth."""
    return int(aperture(talk_bank.mouths).argmax())


def _paint(on: int, mouth: np.ndarray, window: int, track: FaceTrack, bank: Bank, pictures: list[Yuv]) -> Painted:
    return paint_mouth(pictures[on], track.points[on], bank.pose[np.array([on])], mouth, bank, Joined.alone(window))


def test_samples_outside_the_mask_are_the_frames_own(
    talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv], widest: int
) -> None:
    for on in (0, 40, 90):
        source, before = talk_pictures[on], talk_pictures[on].copy()
        painted = _paint(on, talk_bank.mouths[widest], widest, talk_track, talk_bank, talk_pictures)
        left, top, right, bottom = painted.box
        for own, theirs, step in zip(vars(source).values(), vars(painted.picture).values(), (1, 2, 2), strict=True):
            outside = np.ones(own.shape, bool)
            outside[top // step : bottom // step, left // step : right // step] = ~painted.mask[::step, ::step]
            assert (own[outside] == theirs[outside]).all()
            assert (own != theirs).any()
        assert outside_difference(source, painted) == 0
        assert all(np.array_equal(a, b) for a, b in zip(vars(source).values(), vars(before).values(), strict=True))


def test_a_change_outside_the_mask_is_noticed(
    talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv], widest: int
) -> None:
    painted = _paint(5, talk_bank.mouths[widest], widest, talk_track, talk_bank, talk_pictures)
    painted.picture.y[3, 4] ^= 16
    assert outside_difference(talk_pictures[5], painted) == 16
    painted.picture.u[0, 0] ^= 64
    assert outside_difference(talk_pictures[5], painted) == 64


def test_the_mask_lies_below_the_nose_and_within_the_widened_face(
    talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv], widest: int
) -> None:
    painted = _paint(20, talk_bank.mouths[widest], widest, talk_track, talk_bank, talk_pictures)
    points, scale = talk_track.points[20][:, :2], float(talk_bank.pose.scale[20])
    left, top, _, _ = painted.box
    rows, columns = np.nonzero(painted.mask)
    down = points[152] - points[168]
    below = ((columns + left - points[1, 0]) * down[0] + (rows + top - points[1, 1]) * down[1]) / np.hypot(*down)
    assert below.min() > -2.0
    contour = points[OVAL].astype(np.float32)[:, None]
    reach = [cv2.pointPolygonTest(contour, (float(c + left), float(r + top)), True) for r, c in zip(rows, columns, strict=True)]
    assert min(reach) > -0.35 * scale  # the chin that is painted may hang lower than the frame's own
    assert 0.1 < painted.mask_share < 0.8


def test_painting_a_frames_own_mouth_changes_little(talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv]) -> None:
    for on in (3, 50):
        painted = _paint(on, talk_bank.mouths[on], on, talk_track, talk_bank, talk_pictures)
        left, top, right, bottom = painted.box
        difference = cv2.absdiff(talk_pictures[on].y, painted.picture.y)[top:bottom, left:right][painted.mask]
        assert difference.mean() < 1.0


def test_the_painted_mouth_is_as_open_as_it_was_asked_to_be(
    talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv], widest: int
) -> None:
    """Tracked again, frames painted with an open mouth are open and with a closed one closed, whatever they were."""
    closed = int(aperture(talk_bank.mouths).argmin())
    frames = [0, 0, 30, 30, 60, 60, 90, 90]
    painted = [
        _paint(on, talk_bank.mouths[window], window, talk_track, talk_bank, talk_pictures)
        for on, window in zip(frames, [closed, widest] * 4, strict=True)
    ]
    images: list[Any] = [(k, to_rgb(p.picture.to_picture(BT709))) for k, p in enumerate(painted)]
    points, shapes = track_images(images)
    n = len(frames)
    shown = aperture(
        measure_mouth(
            FaceTrack(np.arange(n), np.arange(n) * 1.0, points, shapes, 320, 320, np.zeros(1, int), *np.zeros((2, n), bool))
        )
    )
    asked = aperture(talk_bank.mouths[[closed, widest] * 4])
    assert np.abs(shown - asked).max() < 0.3 * (asked.max() - asked.min())


def test_what_is_no_light_at_the_masks_edge_does_not_tint_the_mouth(
    talk_track: FaceTrack, talk_bank: Bank, talk_pictures: list[Yuv], widest: int
) -> None:
    """A white collar in the frame at the chin, where the window has skin, leaves lips and cheeks as they are."""
    on, mouth = 20, talk_bank.mouths[widest]
    plain = _paint(on, mouth, widest, talk_track, talk_bank, talk_pictures).picture.y.astype(int)
    chin, scale = talk_track.points[on][152, :2], float(talk_bank.pose.scale[on])
    picture = talk_pictures[on].copy()
    cv2.circle(picture.y, tuple(map(int, chin)), round(0.15 * scale), 255, -1)
    painted = _paint(on, mouth, widest, talk_track, talk_bank, [picture] * (on + 1)).picture.y.astype(int)
    lips = talk_track.points[on][LIPS, :2].round().astype(int)
    assert np.abs(painted - plain)[lips[:, 1], lips[:, 0]].max() <= 3
