"""Lips go where they are told, the chin with them, and nothing moves at the mask's edge."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lipwright.data.mouth import INNER_LIPS, LIPS, OUTER_LIPS, aperture
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.shape import (
    BELOW,
    BOUND,
    CHIN_MOST,
    CHIN_MOVES,
    JAW,
    MOVING,
    STILL,
    WIDENED,
    Mask,
    _below_chin,
    _held,
    lower_face,
)

SIZE = (320, 320)


def _lay_out(bank: Bank, on: int, mouth: np.ndarray, windows: list[int]) -> tuple[np.ndarray, np.ndarray, Mask]:
    shares = np.full(len(windows), 1 / len(windows))
    joined = Joined(np.array(windows), shares, np.eye(len(windows))[0])
    return lower_face(bank.points[on], bank.pose[np.array([on])], mouth, bank, joined, SIZE)


def test_a_frames_own_mouth_moves_nothing(talk_bank: Bank) -> None:
    for on in (0, 55):
        to, starts, _ = _lay_out(talk_bank, on, talk_bank.mouths[on], [on])
        assert np.abs(to - starts[0]).max() < 0.2


def test_lips_and_chin_follow_the_mouth_that_is_asked_for(talk_bank: Bank) -> None:
    opening = aperture(talk_bank.mouths)
    closed, wide = int(opening.argmin()), int(opening.argmax())
    to, starts, _ = _lay_out(talk_bank, closed, talk_bank.mouths[wide], [wide])
    pose = talk_bank.pose[np.array([closed])]
    np.testing.assert_allclose(to[:40], pose.to_pixels(talk_bank.mouths[wide])[0, :, :2], atol=0.01)
    chin = 40 + int(np.flatnonzero(MOVING == 152)[0])
    assert to[chin, 1] > talk_bank.points[closed, 152, 1] + 0.12 * opening[wide] * float(pose.scale[0])
    assert np.array_equal(starts[0, :40], talk_bank.points[wide, LIPS, :2])


def test_what_is_asked_beyond_the_window_moves_the_skin_less_the_farther_it_is(talk_bank: Bank) -> None:
    on, mouth = 20, talk_bank.mouths[20].copy()
    mouth[:, 0] *= 1.3  # wider
    to, _, _ = _lay_out(talk_bank, on, mouth, [on])
    before, _, _ = _lay_out(talk_bank, on, talk_bank.mouths[on], [on])
    moved = np.abs(to - before)[:, 0]
    near, far = (40 + int(np.flatnonzero(point == MOVING)[0]) for point in (57, 212))
    corner = int(np.flatnonzero(LIPS == 61)[0])
    assert moved[corner] > moved[near] > moved[far]
    still = slice(40 + len(MOVING), 40 + len(MOVING) + len(STILL))
    assert moved[still].max() == 0


@pytest.mark.parametrize("on", [0, 40, 90])
def test_the_mask_is_a_quarter_of_the_face_and_its_edge_is_at_rest(talk_bank: Bank, on: int) -> None:
    wide = int(aperture(talk_bank.mouths).argmax())
    to, _, mask = _lay_out(talk_bank, on, talk_bank.mouths[wide], [wide])
    at_rest = _lay_out(talk_bank, on, talk_bank.mouths[on], [on])[2]
    assert 0.1 < at_rest.share < 0.25
    assert at_rest.share < mask.share < 0.26  # below a chin that moves it reaches farther
    assert mask.inside.shape == mask.depth.shape
    assert ((mask.depth > 0) == (mask.inside > 0)).all()
    assert 0.3 < mask.depth.max() < 0.6
    hull = cv2.convexHull(talk_bank.points[on, BOUND, :2])
    unit = float(talk_bank.pose.scale[on])
    own = talk_bank.points[on, MOVING, :2].astype(float)
    outside = np.array([cv2.pointPolygonTest(hull, point.tolist(), True) < -WIDENED * unit for point in own])
    bound = np.isin(MOVING, (152, 148, 377, 176, 400))
    assert outside.any()
    assert np.abs(to[40 : 40 + len(MOVING)] - own)[outside & ~bound].max() < 1.5


def test_a_chin_goes_along_but_not_far_from_its_jaw() -> None:
    own, down = np.random.default_rng(2).normal(0, 20, (20, 2)), np.array([0.0, 1.0])
    held = [_held(own, own + far * 80 * down, np.zeros((40, 2)), 80) - own for far in (0.0, 0.02, 0.05, 0.1, 0.3, 1.0)]
    moved = [float(away[:9, 1].mean()) / 80 for away in held]
    assert moved[0] == 0
    assert moved[1] == pytest.approx(0.02, rel=0.05)
    assert moved == sorted(moved)
    assert CHIN_MOST * 0.99 < moved[-1] <= CHIN_MOST


def test_a_lower_lip_takes_the_skin_below_it_along_and_the_chin_less_far(talk_bank: Bank) -> None:
    on, low = 20, OUTER_LIPS[1:10] + INNER_LIPS[1:10]
    lower = talk_bank.mouths[on].copy()
    lower[np.isin(LIPS, low), 1] += 0.03
    to, before = (_lay_out(talk_bank, on, mouth, [on])[0] for mouth in (lower, talk_bank.mouths[on]))
    moved = np.linalg.norm(to - before, axis=1)
    lip, skin, chin = np.flatnonzero(LIPS == 17)[0], *(40 + np.flatnonzero(point == MOVING)[0] for point in (18, 199))
    assert moved[lip] > moved[skin] > 0.75 * moved[lip] > moved[chin] > 0.9 * JAW * moved[lip]


@pytest.mark.parametrize("by", [-0.2, 0.15])
def test_skin_between_a_lip_and_a_chin_that_is_held_back_is_stretched_evenly(talk_bank: Bank, by: float) -> None:
    on = 20
    pose = talk_bank.pose[np.array([on])]
    points = talk_bank.points[on].copy()
    points[MOVING] += (pose.to_pixels(np.array([0, by, 0])) - pose.to_pixels(np.zeros(3)))[0]  # a jaw elsewhere than the bank's
    joined = Joined.alone(on)
    to, starts, _ = lower_face(points, pose, talk_bank.mouths[on], talk_bank, joined, SIZE)
    lip = int(np.flatnonzero(LIPS == 17)[0])
    line = [lip, *(40 + int(np.flatnonzero(point == MOVING)[0]) for point in (18, 200, 199, 152))]
    steps, before = (np.linalg.norm(np.diff(p[line], axis=0), axis=1) for p in (to, starts[0]))
    whole = steps.sum() / before.sum()
    assert abs(whole - 1) > 0.2
    np.testing.assert_allclose(steps / before, whole, rtol=0.1)


@pytest.mark.parametrize("tilt_deg", [0, 25])
def test_below_a_chin_that_moves_the_mask_reaches_farther(tilt_deg: float) -> None:
    """Below both the chin that is filmed and the one that is painted, along the face's own upright."""
    unit, tilt = 80.0, np.radians(tilt_deg)
    down = np.array([-np.sin(tilt), np.cos(tilt)])
    across = np.array([down[1], -down[0]])
    points = np.zeros((478, 3))
    points[152, :2] = points[168, :2] + 1.36 * unit * down
    own = points[152, :2] + unit * np.array([0, -0.1, 0.1, -0.2, 0.2])[:, None] * across

    def below(moved: float) -> np.ndarray:
        """Give how far the points lie below the two chins, (2, 5), in units of face space."""
        moving = own + moved * unit * down
        out = _below_chin(points, own, moving, unit)
        return np.stack([(out[:5] - own) @ down, (out[5:] - moving) @ down]) / unit

    for still in (0.0, CHIN_MOVES[0]):
        np.testing.assert_allclose(below(still), 0, atol=1e-6)
    depths = np.array([below(moved) for moved in np.linspace(*CHIN_MOVES, 5)])
    assert (np.diff(depths, axis=0) > 0).all()
    np.testing.assert_allclose(depths[-1], BELOW, atol=1e-6)
    np.testing.assert_allclose(below(0.2), BELOW, atol=1e-6)
