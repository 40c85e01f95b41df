"""Views of a painted frame: a quarter of it, lips drawn where they are, and the mouth alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Yuv
from lipwright.data.mouth import LIPS
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.composite import paint_mouth
from lipwright.pipeline.render.views import BLUE, draw_label, draw_lips, half_of, half_size, mouth_layer


@pytest.mark.parametrize("size", [(64, 48), (66, 50), (63, 47), (7, 5), (2, 2)])
def test_half_of_a_picture_has_half_its_sides_and_its_light(picture: Callable[..., Yuv], size: tuple[int, int]) -> None:
    own = picture(*size)
    half = half_size(own)
    width, height = half_of(*size)
    assert half.y.shape == (height, width)
    assert half.u.shape == half.v.shape == (height // 2, width // 2)
    assert width % 2 == height % 2 == 0
    assert abs(width - size[0] / 2) <= 2
    if min(size) > 8:
        assert half.y.mean() == pytest.approx(own.y.mean(), abs=4)
        assert half.u.mean() == pytest.approx(own.u.mean(), abs=4)


def test_lips_are_drawn_where_they_are(talk_track: FaceTrack, talk_pictures: list[Yuv]) -> None:
    own, lips = talk_pictures[20], talk_track.points[20][LIPS, :2]
    before = own.y.copy()
    drawn = draw_lips(own, lips, BLUE, float(talk_track.pose.scale[20]))
    assert np.array_equal(own.y, before)  # on a copy
    rows, columns = np.nonzero(drawn.y != own.y)
    away = np.linalg.norm(np.column_stack([columns, rows])[:, None] - lips, axis=-1)
    assert away.min(1).max() < 12  # nothing far from them,
    assert (away.min(0) < 2).all()  # and each of them reached
    assert (drawn.u.astype(int) - own.u).max() > 40  # bluer


@pytest.mark.parametrize("size", [(160, 120), (161, 91), (1920, 1080), (1080, 1920), (40, 30)])
@pytest.mark.parametrize("level", [16, 128, 235])
def test_a_label_is_read_in_a_corner_of_any_picture(size: tuple[int, int], level: int) -> None:
    width, height = size
    half = (-(-height // 2), -(-width // 2))
    own = Yuv(np.full((height, width), level, np.uint8), np.full(half, 60, np.uint8), np.full(half, 200, np.uint8))
    drawn = draw_label(own)
    assert (own.y == level).all()  # on a copy
    assert (own.u == 60).all()
    rows, columns = np.nonzero((drawn.y != level) | (drawn.u.repeat(2, 0).repeat(2, 1)[:height, :width] != 60))
    assert rows.max() < max(30, height / 6)
    assert size == (40, 30) or columns.max() < width / 2
    label = drawn.y[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    plate = np.median(label)
    assert plate < 70
    high, _ = np.nonzero(label > plate + 100)
    assert np.ptp(high) + 1 >= max(7, min(size) / 36)
    assert 0.05 < (label > plate + 100).mean() < 0.4


def test_a_layer_over_its_frame_is_the_painted_frame(talk_track: FaceTrack, talk_pictures: list[Yuv], talk_bank: Bank) -> None:
    own, pose = talk_pictures[20], talk_track.pose[20:21]
    painted = paint_mouth(own, talk_track.points[20], pose, talk_bank.mouths[60], talk_bank, Joined.alone(60))
    layer = mouth_layer(painted.picture, [(painted, float(pose.scale[0]))])
    share = layer.alpha / 255.0
    over = share * layer.yuv.y + (1 - share) * own.y
    assert np.abs(over - painted.picture.y).max() < 14
    assert np.abs(over - painted.picture.y).mean() < 0.05
    left, top, right, bottom = painted.box
    outside = layer.alpha.copy()
    outside[top:bottom, left:right][painted.mask] = 0
    assert not outside.any()
    far = np.ones(own.y.shape, bool)
    far[top - 20 : bottom + 20, left - 20 : right + 20] = False
    assert (layer.yuv.y[far] == 16).all()  # nothing of the picture is stored
    assert (layer.yuv.u[far[::2, ::2]] == 128).all()
    lips = talk_track.points[20][LIPS, :2].round().astype(int)
    assert (layer.alpha[lips[:, 1], lips[:, 0]] == 255).all()


def test_a_frame_that_was_not_painted_is_an_empty_layer(talk_pictures: list[Yuv]) -> None:
    assert not mouth_layer(talk_pictures[0], []).alpha.any()
