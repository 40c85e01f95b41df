"""The bank: lower faces of a person's own footage, to take mouths from.

Pixels stand in one file in the cache, window after window, and are read one at a time, so that a render's memory does not
grow with the footage. Where each window lies, and what mouth it shows, follows from the face track.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lipwright.data import cache
from lipwright.data.errors import FaceError
from lipwright.data.face_space import Pose, fit_pose
from lipwright.data.files import whole_file
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import Media, file_sha256, probe, read_frames
from lipwright.data.mouth import LIPS
from lipwright.pipeline.progress import Progress, told_as

MOST_WINDOWS = 2000
"""Of longer footage, an evenly spaced selection is kept: more of the same mouths would not look better."""

BANK_VERSION = "1"
Box = tuple[int, int, int, int]
"""Left, top, right, bottom of a window, pixels."""

_CORNERS = np.array([(x, y, z) for x in (-0.85, 0.85) for y in (0.2, 1.95) for z in (-0.4, 0.2)])
"""A box of face space round all that a mouth's painting may need: nose tip to collar, cheek to cheek."""


def window_boxes(pose: Pose, width: int, height: int) -> np.ndarray:
    """Return the window of each frame, (F, 4) int64: left, top, right, bottom; even, inside the picture."""
    corners = pose.to_pixels(_CORNERS)[..., :2]
    low, high = np.floor(corners.min(1) / 2) * 2, np.ceil(corners.max(1) / 2) * 2
    limit = np.array([width, height]) // 2 * 2
    return np.hstack([np.clip(low, 0, limit), np.clip(high, 0, limit)]).astype(np.int64)


def are_windows(boxes: np.ndarray) -> np.ndarray:
    """Tell which boxes (F, 4) hold anything to paint, (F,) bool: not those of a face that has left the picture."""
    return ((boxes[:, 2:] - boxes[:, :2]) > 8).all(1)


@dataclass(frozen=True)
class Bank:
    """Windows of one video, and what they show.

    Attributes
    ----------
    file
        Raw pixels, one window after another, each (h, w, 3) uint8 in the video's own Y, U, V.
    frames : ndarray, shape (N,), int64
        Which frames of the video the windows are.
    boxes : ndarray, shape (N, 4), int64
    offsets : ndarray, shape (N + 1,), int64
        Where each window begins in the file, bytes.
    points : ndarray, shape (N, 478, 3), float32
        Landmarks, pixels of the frame.
    pose
        Of the N frames.
    face : ndarray, shape (N, 478, 3), float32
        Landmarks in face space.
    """

    file: Path
    frames: np.ndarray
    boxes: np.ndarray
    offsets: np.ndarray
    points: np.ndarray
    pose: Pose
    face: np.ndarray

    @cached_property
    def mouths(self) -> np.ndarray:
        """The mouths in face space, (N, 40, 3) float32."""
        return self.face[:, LIPS]

    def window(self, index: int) -> np.ndarray:
        """Read one window, (h, w, 3) uint8."""
        left, top, right, bottom = self.boxes[index]
        count = int(self.offsets[index + 1] - self.offsets[index])
        pixels = np.fromfile(self.file, np.uint8, count=count, offset=int(self.offsets[index]))
        return pixels.reshape(bottom - top, right - left, 3)


def build_bank(media: Media, track: FaceTrack, sha256: str, *, end_s: float | None = None) -> Bank:
    """Collect the bank of a video, or find its pixels in the cache.

    Parameters
    ----------
    media, track, sha256
        The video, its face track and its hash.
    end_s
        Take nothing from this time on.

    Raises
    ------
    FaceError
        No frame shows a face.
    """
    usable = track.found & (track.times_s < (np.inf if end_s is None else end_s))
    pose = fit_pose(track.points)
    boxes = np.zeros((len(usable), 4), np.int64)
    boxes[usable] = window_boxes(pose[usable], track.width, track.height)
    usable &= are_windows(boxes)
    frames = np.flatnonzero(usable)
    if not len(frames):
        raise FaceError(f"{media.path} shows no face to take mouths from; give footage in which the person can be seen")
    if len(frames) > MOST_WINDOWS:
        frames = frames[np.linspace(0, len(frames) - 1, MOST_WINDOWS).round().astype(int)]
    boxes = boxes[frames]
    offsets = np.concatenate([[0], np.cumsum(3 * (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))])
    span = "" if end_s is None else f"-{frames[-1]}"
    file = cache.cached_path("banks", f"{sha256}-{BANK_VERSION}{span}.yuv")
    if not file.exists() or file.stat().st_size != offsets[-1]:
        _write_windows(file, media, frames, boxes)
    points = track.points[frames]
    face = pose[frames].to_face(points.astype(np.float64)).astype(np.float32)
    return Bank(file, frames, boxes, offsets, points, pose[frames], face)


def bank_of(path: Path, progress: Progress | None = None) -> Bank:
    """Collect the bank of other footage, tracked first if need be."""
    media, sha256 = probe(path), file_sha256(path)
    return build_bank(media, face_track(media, sha256=sha256, progress=told_as(progress, "track bank")), sha256)


def _write_windows(file: Path, media: Media, frames: np.ndarray, boxes: np.ndarray) -> None:
    wanted = {int(frame): box for frame, box in zip(frames, boxes, strict=True)}
    with whole_file(file) as partial, partial.open("wb") as out:
        for frame in read_frames(media):
            if (box := wanted.get(frame.index)) is not None:
                out.write(np.ascontiguousarray(frame.yuv().window(tuple(box))).data)
            if frame.index >= frames[-1]:
                break
    cache.prune("banks")
