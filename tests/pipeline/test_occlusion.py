"""What stands before the mouth is found and keeps its own samples; a bare face hides nothing."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Yuv
from lipwright.pipeline.render.bank import Bank, Window, window_boxes
from lipwright.pipeline.render.choose import Joined
from lipwright.pipeline.render.composite import paint_mouth
from lipwright.pipeline.render.occlusion import SIDE, Likeness, free_part
from lipwright.pipeline.render.reading import likeness_of, look_for_hidden


@pytest.fixture(scope="module")
def likeness(talk_bank: Bank) -> Likeness:
    """Return what the talking photograph can look like."""
    found = likeness_of(talk_bank)
    assert found is not None
    return found


def _with_disk(picture: Yuv, centre: np.ndarray, radius: float, level: int) -> Yuv:
    out = picture.copy()
    cv2.circle(out.y, centre.round().astype(int).tolist(), round(radius), level, -1)
    for plane in (out.u, out.v):
        cv2.circle(plane, (centre / 2).round().astype(int).tolist(), round(radius / 2), 128, -1)
    return out


def test_a_bare_face_hides_nothing(talk_bank: Bank, likeness: Likeness) -> None:
    assert look_for_hidden(talk_bank, likeness).all()


@pytest.mark.parametrize("level", [20, 235])
def test_a_thing_before_the_chin_is_found_where_it_is(
    talk_bank: Bank, talk_pictures: list[Yuv], likeness: Likeness, level: int
) -> None:
    for row in (10, 60):
        points, pose = talk_bank.points[row], talk_bank.pose[np.array([row])]
        centre, radius = points[200, :2].astype(float), 0.22 * float(pose.scale[0])
        picture = _with_disk(talk_pictures[row], centre, radius, level)
        box = window_boxes(pose, 320, 320)[0]
        hidden = likeness.hidden(Window.of(picture, box), points, pose)
        assert hidden.shape == (SIDE, SIDE)
        free = free_part(hidden, pose, tuple(box.tolist()))
        y, x = np.mgrid[box[1] : box[3] : 2, box[0] : box[2] : 2]
        away = np.hypot(x - centre[0], y - centre[1])
        assert free[away < 0.5 * radius].max() < 0.3
        far = free[away > 2 * radius]
        # The hidden part's soft edge touches this border, at one sample more or less as processors round the landmarks.
        assert np.quantile(far, 0.001) > 0.95
        assert far.min() > 0.8


def test_what_stands_before_the_mouth_keeps_its_samples(
    talk_bank: Bank, talk_track: FaceTrack, talk_pictures: list[Yuv], likeness: Likeness
) -> None:
    row, bank = 60, replace(talk_bank, likeness=likeness)
    points, pose = talk_track.points[row], talk_bank.pose[np.array([row])]
    centre, radius = points[200, :2].astype(float), 0.22 * float(pose.scale[0])
    picture = _with_disk(talk_pictures[row], centre, radius, 235)
    y, x = np.mgrid[:320, :320]
    middle = np.hypot(x - centre[0], y - centre[1]) < 0.5 * radius
    kept, over = (
        paint_mouth(picture, points, pose, talk_bank.mouths[0], b, Joined.alone(0)).picture.y.astype(int)
        for b in (bank, talk_bank)
    )
    assert np.abs(kept - picture.y)[middle].mean() < 0.3 * np.abs(over - picture.y)[middle].mean()


def test_a_window_with_something_before_the_mouth_is_not_clear(
    talk_bank: Bank, talk_pictures: list[Yuv], likeness: Likeness, tmp_path_factory: pytest.TempPathFactory
) -> None:
    row, samples = 60, bytearray(talk_bank.file.read_bytes())
    centre = talk_bank.points[row, 200, :2].astype(float)
    covered = _with_disk(talk_pictures[row], centre, 0.22 * float(talk_bank.pose.scale[row]), 20)
    window, start = Window.of(covered, talk_bank.boxes[row]), int(talk_bank.offsets[row])
    samples[start : int(talk_bank.offsets[row + 1])] = window.y.tobytes() + window.uv.tobytes()
    file = tmp_path_factory.mktemp("covered") / "bank.yuv"
    file.write_bytes(samples)
    assert np.flatnonzero(~look_for_hidden(replace(talk_bank, file=file), likeness)).tolist() == [row]
