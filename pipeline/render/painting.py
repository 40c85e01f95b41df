"""Mouths onto pictures: which windows each is painted from, and how strongly, frame after frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Yuv
from lipwright.data.mouth import LIPS
from lipwright.pipeline.render.bank import Bank, are_windows, window_boxes
from lipwright.pipeline.render.choose import choose_windows, paint_strength
from lipwright.pipeline.render.composite import Painted, paint_mouth


def painted_frames(
    pictures: Iterable[Yuv],
    track: FaceTrack,
    rows: np.ndarray,
    mouths: np.ndarray,
    valid: np.ndarray,
    bank: Bank,
    *,
    inside: slice = slice(None),
) -> Iterator[Yuv | Painted]:
    """Paint mouths onto pictures, one by one.

    Parameters
    ----------
    pictures : iterable of Yuv
        Those of the frames `inside`.
    track
        Of the video that they come from.
    rows : ndarray, shape (F,), int64
        Which of its frames they are.
    mouths : ndarray, shape (F, 40, 3), float32
        What the tracker is to read from them, in the bank's face space.
    valid : ndarray, shape (F,), bool
        Where to paint; elsewhere, and without a face, the picture passes through untouched.
    bank
        What to paint from.
    inside
        Which of the F frames are painted; what comes before and after steadies the choice of windows at the ends.

    Yields
    ------
    Yuv or Painted
        The picture itself where nothing was painted.
    """
    points = track.points[rows]
    pose = track.pose[rows]
    paint = valid & np.isfinite(pose.scale)
    strength = paint_strength(pose, bank)
    paint &= strength > 0
    asked, own = mouths.copy(), pose.to_face(points[:, LIPS].astype(np.float64)).astype(np.float32)
    asked[paint] += (1 - strength[paint, None, None]) * (own[paint] - asked[paint])
    joined = choose_windows(bank, asked, pose, paint)
    for k, picture in zip(range(len(rows))[inside], pictures, strict=True):
        here, (height, width) = pose[np.array([k])], picture.y.shape
        if (windows := joined[k]) and are_windows(window_boxes(here, width, height))[0] and _has_lips(points[k], width, height):
            yield paint_mouth(picture, points[k], here, asked[k], bank, windows, strength=float(strength[k]))
        else:
            yield picture


def _has_lips(points: np.ndarray, width: int, height: int) -> bool:
    """Say whether any of the lips of a face (478, 3) is in the picture: a face may be found whose mouth is beyond the edge."""
    x, y = points[LIPS, :2].T
    return bool(((x >= 0) & (x < width) & (y >= 0) & (y < height)).any())


def outside_difference(source: Yuv, painted: Painted) -> int:
    """Return the greatest difference between a frame and its painted version outside the mask, in levels."""
    left, top, right, bottom = painted.box
    worst = 0.0
    for own, other, step in zip(vars(source).values(), vars(painted.picture).values(), (1, 2, 2), strict=True):
        difference = cv2.absdiff(own, other)
        difference[top // step : bottom // step, left // step : right // step][painted.mask[::step, ::step]] = 0
        worst = max(worst, cv2.minMaxLoc(difference)[1])
    return int(worst)
