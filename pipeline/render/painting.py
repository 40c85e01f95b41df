"""Mouths onto pictures: which windows each is painted from, and how strongly, frame after frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from lipwright.data.face_space import Pose
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Yuv
from lipwright.data.mouth import LIPS
from lipwright.pipeline.render.bank import Bank, are_windows, window_boxes
from lipwright.pipeline.render.choose import Joined, choose_windows, paint_strength
from lipwright.pipeline.render.composite import Painted, paint_mouth


@dataclass(frozen=True)
class Canvas:
    """Frames of a video as mouths are painted on them.

    Attributes
    ----------
    bank
        What to paint from.
    points : ndarray, shape (F, 478, 3), float32
        Landmarks, pixels.
    pose
        Of the heads.
    own : ndarray, shape (F, 40, 3), float32
        The frames' own mouths, face space.
    strength : ndarray, shape (F,), float64
        Share of the painting in what is seen; 0 where there is no face, or one that looks away.
    """

    bank: Bank
    points: np.ndarray
    pose: Pose
    own: np.ndarray
    strength: np.ndarray

    @classmethod
    def of(cls, track: FaceTrack, rows: np.ndarray, bank: Bank) -> Canvas:
        """Take the frames `rows`, (F,) int64, of a tracked video."""
        points, pose = track.points[rows], track.pose[rows]
        own = pose.to_face(points[:, LIPS].astype(np.float64)).astype(np.float32)
        return cls(bank, points, pose, own, paint_strength(pose, bank))

    def asked(self, mouths: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Bring mouths (N, 40, 3) for some frames, (N,) int64, as near to these frames' own as the painting is weak."""
        weak = 1 - self.strength[frames, None, None]
        return (mouths + weak * (self.own[frames] - mouths)).astype(np.float32)

    def paint(self, k: int, picture: Yuv, mouth: np.ndarray, joined: Joined | None) -> Yuv | Painted:
        """Paint a mouth, (40, 3) as asked, onto the k-th frame; without windows to paint from, return the picture itself."""
        pose, (height, width) = self.pose[k : k + 1], picture.y.shape
        if (
            joined is None
            or not are_windows(window_boxes(pose, width, height))[0]
            or not _has_lips(self.points[k], width, height)
        ):
            return picture
        return paint_mouth(picture, self.points[k], pose, mouth, self.bank, joined, strength=float(self.strength[k]))


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
    canvas = Canvas.of(track, rows, bank)
    paint = valid & (canvas.strength > 0)
    asked = mouths.copy()
    asked[paint] = canvas.asked(mouths[paint], np.flatnonzero(paint))
    joined = choose_windows(bank, asked, canvas.pose, paint)
    for k, picture in zip(range(len(rows))[inside], pictures, strict=True):
        yield canvas.paint(k, picture, asked[k], joined[k])


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
