"""The thin-plate map takes points to their goals, is the identity where they stand there, and reproduces affine maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipwright.pipeline.render.warp import Box, thin_plate_warp

BOX = (40, 60, 40 + 133, 60 + 91)  # not a whole number of the map's blocks


def _points(seed: int, count: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).uniform((45, 65), (165, 145), (count, 2))


def _map(to: np.ndarray, start: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    return thin_plate_warp(to, start[None], box).maps(0)


def _grid() -> np.ndarray:
    left, top, right, bottom = BOX
    return np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), -1).astype(float)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_equal_points_give_the_identity(seed: int) -> None:
    points = _points(seed)
    map_x, map_y = _map(points, points, BOX)
    assert map_x.shape == map_y.shape == (91, 133)
    np.testing.assert_allclose(np.stack([map_x, map_y], -1), _grid(), atol=0.01)


@given(
    seed=st.integers(0, 2**32 - 1),
    matrix=st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4),
    shift=st.lists(st.floats(-50, 50), min_size=2, max_size=2),
)
@settings(max_examples=30, deadline=None)
def test_an_affine_map_is_reproduced(seed: int, matrix: list[float], shift: list[float]) -> None:
    points, linear = _points(seed), np.array(matrix).reshape(2, 2)
    map_x, map_y = _map(points, points @ linear.T + shift, BOX)
    np.testing.assert_allclose(np.stack([map_x, map_y], -1), _grid() @ linear.T + shift, atol=0.02)


def test_points_go_to_their_goals() -> None:
    to = np.stack(np.meshgrid(np.linspace(50, 160, 6), np.linspace(70, 140, 5)), -1).reshape(-1, 2)
    start = to + np.random.default_rng(1).normal(0, 2, to.shape)
    map_x, map_y = _map(to, start, BOX)
    columns, rows = (to.round().astype(int) - BOX[:2]).T
    came = np.stack([map_x[rows, columns], map_y[rows, columns]], -1) + (to - to.round())
    # Points may miss by a little: the map is stiffened, and computed on every eighth pixel.
    assert np.linalg.norm(came - start, axis=1).mean() < 0.5 * np.linalg.norm(to - start, axis=1).mean()


@pytest.mark.parametrize("size", [(10, 10), (16, 8), (200, 150)])
def test_a_map_covers_its_window_whatever_its_size(size: tuple[int, int]) -> None:
    points = _points(3)
    map_x, map_y = _map(points, points, (0, 0, *size))
    assert map_x.shape == map_y.shape == (size[1], size[0])
    assert map_x.dtype == np.float32
    assert map_x.flags.c_contiguous


def test_several_pictures_are_warped_as_each_would_be_alone() -> None:
    to, starts = _points(4), np.stack([_points(5), _points(6), _points(7)])
    together = thin_plate_warp(to, starts, BOX)
    for k, start in enumerate(starts):
        for joint, alone in zip(together.maps(k), _map(to, start, BOX), strict=True):
            np.testing.assert_allclose(joint, alone, atol=1e-3)


def test_the_map_at_half_size_is_the_whole_one_at_the_chroma_samples() -> None:
    to = _points(8)
    warp = thin_plate_warp(to, (to + np.random.default_rng(9).normal(0, 3, to.shape))[None], (40, 60, 172, 150))
    for whole, half in zip(warp.maps(0), warp.maps(0, 2), strict=True):
        means = whole.reshape(45, 2, 66, 2).mean((1, 3))
        np.testing.assert_allclose(half, (means - 0.5) / 2, atol=0.05)
