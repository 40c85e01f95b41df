"""The bank holds the footage's own samples, window by window, and is made once for the same footage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipwright.data.errors import FaceError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Yuv, file_sha256, probe
from lipwright.data.mouth import INNER_LIPS, aperture, measure_mouth
from lipwright.pipeline.render.bank import MOST_WINDOWS, Bank, collect_windows, measure_looks, window_boxes


def test_windows_are_the_footage_itself(talk_bank: Bank, talk_pictures: list[Yuv]) -> None:
    assert len(talk_bank.frames) == len(talk_pictures) <= MOST_WINDOWS
    for index in (0, 31, len(talk_bank.frames) - 1):
        window = talk_bank.window(index)
        left, top, right, bottom = talk_bank.boxes[index]
        picture = talk_pictures[talk_bank.frames[index]]
        assert np.array_equal(window.y, picture.y[top:bottom, left:right])
        half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
        assert np.array_equal(window.uv, np.dstack([picture.u[half], picture.v[half]]))
        assert np.array_equal(window.half[..., 1:], window.uv)
        assert window.corner.tolist() == [left, top]


def test_boxes_are_whole_chroma_samples_inside_the_picture(talk_bank: Bank) -> None:
    boxes = talk_bank.boxes
    assert (boxes % 2 == 0).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= 320).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_boxes_hold_mouth_and_chin(talk_bank: Bank) -> None:
    chin_and_lips = talk_bank.points[:, [0, 17, 61, 291, 152], :2]
    assert (chin_and_lips >= talk_bank.boxes[:, None, :2]).all()
    assert (chin_and_lips <= talk_bank.boxes[:, None, 2:]).all()


def test_mouths_are_those_measured(talk_bank: Bank, talk_track: FaceTrack) -> None:
    np.testing.assert_allclose(talk_bank.mouths, measure_mouth(talk_track)[talk_bank.frames], atol=1e-5)


def test_a_bank_is_made_once_and_made_anew_when_its_file_is_short(talk: Any, talk_track: FaceTrack, talk_bank: Bank) -> None:
    media, sha256, file = probe(talk.path), file_sha256(talk.path), talk_bank.file
    whole, made = file.read_bytes(), file.stat().st_mtime_ns
    inode = file.stat().st_ino
    assert collect_windows(media, talk_track, sha256).file == file
    assert file.stat().st_ino == inode, made
    file.write_bytes(whole[:1000])
    collect_windows(media, talk_track, sha256)
    assert file.read_bytes() == whole
    assert not list(file.parent.glob("*partial*"))


def test_nothing_is_taken_from_the_end_on(talk: Any, talk_track: FaceTrack) -> None:
    bank = collect_windows(probe(talk.path), talk_track, file_sha256(talk.path), end_s=1.0)
    assert (talk_track.times_s[bank.frames] < 1.0).all()
    assert len(bank.frames) == 25


def test_footage_without_a_face_is_refused_by_name(talk: Any, talk_track: FaceTrack) -> None:
    faceless = replace(talk_track, points=np.full_like(talk_track.points, np.nan))
    with pytest.raises(FaceError, match=r"talk\.mp4"):
        collect_windows(probe(talk.path), faceless, "0" * 64)


def test_a_face_that_leaves_the_picture_has_no_window(talk: Any, talk_track: FaceTrack) -> None:
    points = talk_track.points[:]
    points[10:20, :, 0] += 5000
    bank = collect_windows(probe(talk.path), replace(talk_track, points=points), "1" * 64)
    assert not set(range(10, 20)) & set(bank.frames.tolist())


def test_a_box_is_clipped_to_the_picture(talk_bank: Bank) -> None:
    boxes = window_boxes(talk_bank.pose, 161, 181)
    assert (boxes <= [160, 180, 160, 180]).all()
    assert Path(talk_bank.file).stat().st_size == talk_bank.offsets[-1]


def test_looks_are_the_light_between_the_lips(talk_bank: Bank) -> None:
    looks, seen = measure_looks(talk_bank), []
    wide = np.flatnonzero(aperture(talk_bank.mouths) > 0.1)
    for k in wide:
        window = talk_bank.window(int(k))
        inside = np.zeros(window.y.shape, np.uint8)
        cv2.fillPoly(inside, [(talk_bank.points[k, INNER_LIPS, :2] - window.corner).round().astype(np.int32)], 1)
        seen.append(window.y[inside > 0].mean() / 255)
    assert len(wide) > 10
    assert looks.shape[0] == len(talk_bank.frames)
    assert np.corrcoef(looks[wide].mean(1), seen)[0, 1] > 0.9
