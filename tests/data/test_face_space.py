"""Face space: a head's pose is found exactly, and going there and back changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.data.face_space import ANCHORS, CANONICAL, Pose, fit_pose

MODEL = np.array(list(CANONICAL.values()))


def turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix of angles in degrees about y, x and z."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(np.radians([yaw, pitch, roll])), np.sin(np.radians([yaw, pitch, roll]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def random_pose(rng: np.random.Generator, frames: int) -> Pose:
    angles = rng.uniform([-40, -25, -30], [40, 25, 30], (frames, 3))
    return Pose(np.array([turn(*a) for a in angles]), rng.uniform(40, 400, frames), rng.uniform(-200, 1500, (frames, 3)))


def landmarks(pose: Pose, rng: np.random.Generator) -> np.ndarray:
    """478 points whose anchors are the canonical face in this pose; the rest is anywhere."""
    points = rng.uniform(0, 1000, (len(pose.scale), 478, 3))
    points[:, ANCHORS] = pose.to_pixels(MODEL)
    return points


def test_the_table_is_what_it_promises() -> None:
    assert np.linalg.norm(np.subtract(CANONICAL[33], CANONICAL[263])) == pytest.approx(1.0)
    np.testing.assert_allclose(np.add(CANONICAL[33], CANONICAL[263]), 0, atol=1e-9)
    np.testing.assert_allclose(np.multiply(CANONICAL[133], (-1, 1, 1)), CANONICAL[362], atol=1e-9)
    assert CANONICAL[10][1] < CANONICAL[33][1] < CANONICAL[1][1]  # forehead above eyes above nose: y points down
    assert CANONICAL[4][2] == min(z for _, _, z in CANONICAL.values())  # the nose's tip is nearest: z points away


@pytest.mark.parametrize("seed", range(5))
def test_there_and_back_is_the_identity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = random_pose(rng, 50)
    face = rng.normal(0, 0.5, (50, 40, 3))
    np.testing.assert_allclose(pose.to_face(pose.to_pixels(face)), face, atol=1e-9)
    pixels = rng.uniform(0, 1000, (50, 40, 3))
    np.testing.assert_allclose(pose.to_pixels(pose.to_face(pixels)), pixels, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_the_pose_of_the_canonical_points_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = random_pose(rng, 50)
    found = fit_pose(landmarks(pose, rng))
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-9)
    np.testing.assert_allclose(found.scale, pose.scale, rtol=1e-9)
    np.testing.assert_allclose(found.shift, pose.shift, atol=1e-7)


@pytest.mark.parametrize("yaw", [-40, -20, 0, 20, 40])
def test_a_turned_head_is_found_in_single_precision(yaw: float) -> None:
    rng = np.random.default_rng(0)
    pose = Pose(turn(yaw, 5, -8)[None], np.array([120.0]), np.array([[320.0, 240.0, 10.0]]))
    found = fit_pose(landmarks(pose, rng).astype(np.float32))
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-5)
    np.testing.assert_allclose(found.scale, 120, rtol=1e-5)


def test_mouths_do_not_depend_on_the_pose() -> None:
    rng = np.random.default_rng(7)
    pose = random_pose(rng, 30)
    mouth = rng.normal(0, 0.3, (40, 3))
    points = landmarks(pose, rng)
    there = fit_pose(points).to_face(pose.to_pixels(mouth))
    np.testing.assert_allclose(there, np.broadcast_to(mouth, there.shape), atol=1e-8)


def test_noise_gives_the_best_rotation_and_never_a_mirror() -> None:
    rng = np.random.default_rng(2)
    points = landmarks(random_pose(rng, 40), rng)
    points[:, ANCHORS] += rng.normal(0, 20, (40, len(ANCHORS), 3))
    found = fit_pose(points)
    np.testing.assert_allclose(np.linalg.det(found.rotation), 1.0, atol=1e-9)

    def misses(pose: Pose) -> np.ndarray:
        return ((pose.to_pixels(MODEL) - points[:, ANCHORS]) ** 2).sum((1, 2))

    best = misses(found)
    for axis in np.eye(3):
        for sign in (-1, 1):
            assert (misses(Pose(turn(*(sign * axis)) @ found.rotation, found.scale, found.shift)) >= best - 1e-6).all()
            assert (misses(Pose(found.rotation, found.scale, found.shift + sign * axis)) >= best - 1e-6).all()
    for factor in (0.99, 1.01):
        assert (misses(Pose(found.rotation, found.scale * factor, found.shift)) >= best - 1e-6).all()


def test_a_mirrored_face_is_not_turned_inside_out() -> None:
    rng = np.random.default_rng(3)
    points = landmarks(random_pose(rng, 10), rng) * (-1, 1, 1)
    np.testing.assert_allclose(np.linalg.det(fit_pose(points).rotation), 1.0, atol=1e-9)


@pytest.mark.parametrize("missing", [[0], [3, 4], [9], list(range(10))])
def test_frames_without_a_face_stay_so_and_change_no_other(missing: list[int]) -> None:
    rng = np.random.default_rng(1)
    pose = random_pose(rng, 10)
    points = landmarks(pose, rng)
    whole = fit_pose(points)
    points[missing] = np.nan
    found = fit_pose(points)
    there = np.setdiff1d(np.arange(10), missing)
    for values, full in zip(vars(found).values(), vars(whole).values(), strict=True):
        assert np.isnan(values[missing]).all()
        np.testing.assert_array_equal(values[there], full[there])
    face = found.to_face(points[:, :40])
    assert np.isnan(face[missing]).all()
    assert np.isfinite(face[there]).all()
    assert np.isnan(found.to_pixels(MODEL)[missing]).all()


def test_no_frames_have_no_poses() -> None:
    found = fit_pose(np.zeros((0, 478, 3)))
    assert found.rotation.shape == (0, 3, 3)
    assert found.to_pixels(MODEL).shape == (0, len(MODEL), 3)


def test_poses_can_be_chosen_from() -> None:
    pose = random_pose(np.random.default_rng(4), 10)
    part = pose[np.array([2, 5])]
    np.testing.assert_array_equal(part.shift, pose.shift[[2, 5]])
    np.testing.assert_array_equal(pose[3:5].rotation, pose.rotation[3:5])
    assert part.to_pixels(MODEL).shape == (2, len(MODEL), 3)


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (30, 0), (-45, 0), (0, 20), (0, -35), (25, 10)])
def test_angles_tell_where_a_face_looks(yaw: float, pitch: float) -> None:
    pose = Pose((turn(0, pitch, 0) @ turn(-yaw, 0, 0))[None], np.ones(1), np.zeros((1, 3)))
    nose = pose.to_pixels(np.array([[0.0, 0.0, -1.0]]))[0, 0]
    found_yaw, found_pitch = pose.angles_deg()[0]
    assert np.sign(found_yaw) == np.sign(nose[0].round(9))
    assert np.sign(found_pitch) == np.sign(nose[1].round(9))
    if yaw == 0 or pitch == 0:
        np.testing.assert_allclose([abs(found_yaw), abs(found_pitch)], [abs(yaw), abs(pitch)], atol=1e-6)


def test_a_plane_that_faces_the_face_is_placed_like_its_points() -> None:
    rng = np.random.default_rng(7)
    pose = random_pose(rng, 20)
    corner, step = (-0.4, 0.5, -0.2), 0.03
    grid = rng.uniform(0, 30, (12, 2))
    on_plane = np.column_stack([np.array(corner[:2]) + step * grid, np.full(12, corner[2])])
    there = np.einsum("fij,pj->fpi", pose.from_plane(corner, step), np.column_stack([grid, np.ones(12)]))
    np.testing.assert_allclose(there, pose.to_pixels(on_plane)[..., :2], atol=1e-9)
