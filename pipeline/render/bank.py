"""The bank: lower faces of a person's own footage, to take mouths from.

Pixels stand in one file in the cache, window after window, as they were filmed: a mouth is resampled once, when it is
warped to its place. They are read one window at a time, so that a render's memory does not grow with the footage (pages of
a mapped file would count). Where each window lies follows from the face track; what mouth it shows, too, until
`lipwright.pipeline.render.reading` knows better.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lipwright.data import cache
from lipwright.data.errors import FaceError
from lipwright.data.face_space import Pose
from lipwright.data.files import whole_file
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Media, Yuv, read_frames
from lipwright.data.mouth import INNER_LIPS, LIPS
from lipwright.pipeline.progress import Progress

if TYPE_CHECKING:
    from lipwright.pipeline.render.occlusion import Likeness

MOST_WINDOWS = 2000
"""Of longer footage, an evenly spaced selection is kept: more of the same mouths would not look better."""

BANK_VERSION = "7"
SHARP_PX = 64
"""Pixels a unit of face space at which sharpness is measured: finer is grain."""

LOOK_DEPTHS = (0.15, 0.38, 0.62, 0.85)
"""Where a mouth's look is taken, between the inner lips, from the upper one down."""

_CORNERS = np.array([(x, y, z) for x in (-0.85, 0.85) for y in (0.2, 1.95) for z in (-0.4, 0.2)])
"""A box of face space round all that a mouth's painting may need: nose tip to collar, cheek to cheek."""


def window_boxes(pose: Pose, width: int, height: int) -> np.ndarray:
    """Return the window of each frame, (F, 4) int64: left, top, right, bottom; even, inside the picture."""
    corners = pose.to_pixels(_CORNERS)[..., :2]
    return even_boxes(corners.min(1), corners.max(1), width, height)


def even_boxes(low: np.ndarray, high: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return boxes round (F, 2) to (F, 2) pixels, (F, 4) int64: whole chroma samples, inside the picture."""
    limit = np.array([width, height]) // 2 * 2
    low, high = np.floor(low / 2) * 2, np.ceil(high / 2) * 2
    return np.hstack([np.clip(low, 0, limit), np.clip(high, 0, limit)]).astype(np.int64)


def evenly(count: int, most: int) -> np.ndarray:
    """Return which of `count` things to keep so that at most `most`, evenly spaced, remain, (N,) int64."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def are_windows(boxes: np.ndarray) -> np.ndarray:
    """Tell which boxes (F, 4) hold anything to paint, (F,) bool: not those of a face that has left the picture."""
    return ((boxes[:, 2:] - boxes[:, :2]) > 8).all(1)


@dataclass(frozen=True)
class Window:
    """The lower face in one frame of the footage, as filmed.

    Attributes
    ----------
    y : ndarray, shape (h, w), uint8
    uv : ndarray, shape (h / 2, w / 2, 2), uint8
    corner : ndarray, shape (2,), int64
        Where it lies in the frame: left, top.
    """

    y: np.ndarray
    uv: np.ndarray
    corner: np.ndarray

    @staticmethod
    def of(picture: Yuv, box: np.ndarray) -> Window:
        """Cut a window out of a picture."""
        left, top, right, bottom = box
        half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
        return Window(picture.y[top:bottom, left:right], cv2.merge([picture.u[half], picture.v[half]]), box[:2])

    @cached_property
    def half(self) -> np.ndarray:
        """The window on the grid of its chroma samples, (h / 2, w / 2, 3) uint8: Y, U, V."""
        height, width = self.uv.shape[:2]
        return cv2.merge([cv2.resize(self.y, (width, height), interpolation=cv2.INTER_AREA), *cv2.split(self.uv)])


@dataclass(frozen=True)
class Bank:
    """Windows of one video, and what they show.

    Attributes
    ----------
    file
        Raw pixels, one window after another: Y, then U and V of each sample, uint8.
    frames : ndarray, shape (N,), int64
        Which frames of the video the windows are.
    boxes : ndarray, shape (N, 4), int64
    points : ndarray, shape (N, 478, 3), float32
        Landmarks, pixels of the frame.
    pose
        Of the N frames.
    face : ndarray, shape (N, 478, 3), float32
        Landmarks in face space.
    sharpness : ndarray, shape (N,), float32
        Of the mouths, against the footage's median; 1 for all until `measure_sharpness`.
    looks : ndarray, shape (N, L), float32
        What is seen between the lips, luma / 255 on a grid that opens with them; 0 until `measure_looks`.
    clear : ndarray, shape (N,), bool
        Windows with nothing before the mouth; all, until something was looked for.
    likeness
        What the face that is painted on can look like; None where too little of it is known.
    """

    file: Path
    frames: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    pose: Pose
    face: np.ndarray
    sharpness: np.ndarray
    looks: np.ndarray
    clear: np.ndarray
    likeness: Likeness | None = None

    @cached_property
    def mouths(self) -> np.ndarray:
        """The mouths in face space, (N, 40, 3) float32."""
        return self.face[:, LIPS]

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each window begins in the file, bytes, (N + 1,) int64."""
        area = (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])
        return np.concatenate([[0], np.cumsum(area + area // 2)])

    def window(self, index: int) -> Window:
        """Read one window."""
        left, top, right, bottom = self.boxes[index]
        width, height = right - left, bottom - top
        samples = np.fromfile(self.file, np.uint8, count=int(width * height * 3 // 2), offset=int(self.offsets[index]))
        y, uv = samples[: width * height], samples[width * height :]
        corner = np.array([left, top])
        return Window(y.reshape(height, width), uv.reshape(height // 2, width // 2, 2), corner)


def collect_windows(
    media: Media, track: FaceTrack, sha256: str, *, end_s: float | None = None, progress: Progress | None = None
) -> Bank:
    """Collect the bank of a video as it was tracked, or find its pixels in the cache.

    Parameters
    ----------
    media, track, sha256
        The video, its face track and its hash.
    end_s
        Take nothing from this time on.
    progress
        Called with (what, done, in all).

    Raises
    ------
    FaceError
        No frame shows a whole mouth.
    """
    usable = track.found & (track.times_s < (np.inf if end_s is None else end_s))
    pose = track.pose
    boxes = np.zeros((len(usable), 4), np.int64)
    boxes[usable] = window_boxes(pose[usable], track.width, track.height)
    with np.errstate(invalid="ignore"):  # NaN without a face
        lips = track.measure(lambda points: points[:, LIPS, :2])
        usable &= are_windows(boxes) & ((lips >= 0) & (lips < (track.width, track.height))).all((1, 2))
    frames = np.flatnonzero(usable)
    if not len(frames):
        raise FaceError(f"{media.path} shows no whole mouth to paint from; give footage in which the person can be seen")
    frames = frames[evenly(len(frames), MOST_WINDOWS)]
    points = track.points[frames]
    face = pose[frames].to_face(points.astype(np.float64)).astype(np.float32)
    # Of the same video there are other banks: of another face, or of its beginning alone.
    content = hashlib.sha256(BANK_VERSION.encode())
    for values in (frames, boxes[frames], points):
        content.update(values.tobytes())
    file = cache.cached_path("banks", f"{sha256}-{content.hexdigest()[:16]}.yuv")
    bank = Bank(
        file,
        frames,
        boxes[frames],
        points,
        pose[frames],
        face,
        sharpness=np.ones(len(frames), np.float32),
        looks=np.zeros((len(frames), 1), np.float32),
        clear=np.ones(len(frames), bool),
    )
    if not file.exists() or file.stat().st_size != bank.offsets[-1]:
        _write_windows(bank, media, progress)
    return bank


def measure_looks(bank: Bank) -> np.ndarray:
    """Return what is seen between the lips of each window, (N, L) float32: teeth, tongue, or the dark."""
    count = len(INNER_LIPS) // 2
    depth = np.array(LOOK_DEPTHS)[:, None, None]
    looks = np.zeros((len(bank.frames), len(LOOK_DEPTHS) * (count - 1)), np.float32)
    for k in range(len(looks)):
        window = bank.window(k)
        inner = bank.points[k, INNER_LIPS, :2] - window.corner
        lower, upper = inner[1:count], inner[:count:-1]  # from corner to corner, without the corners
        at = (((1 - depth) * upper + depth * lower - 0.5) / 2).astype(np.float32)
        y = window.half[..., 0]
        luma = cv2.remap(y, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        looks[k] = luma.ravel() / 255
    return looks


def measure_sharpness(bank: Bank) -> np.ndarray:
    """Return how sharp each window's mouth is, (N,) float32: contrast of its finest detail over its contrast, 1 = median."""
    values = np.zeros(len(bank.frames), np.float32)
    for k in range(len(values)):
        window, unit = bank.window(k), float(bank.pose.scale[k])
        middle = bank.points[k, LIPS, :2].mean(0) - window.corner
        low, high = np.maximum(middle - 0.4 * unit, 0).astype(int), (middle + 0.4 * unit).astype(int)
        mouth = window.y[low[1] : high[1], low[0] : high[0]]
        shrink = SHARP_PX / unit
        if mouth.size and shrink < 1:
            mouth = cv2.resize(mouth, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        if mouth.size:
            values[k] = cv2.Laplacian(mouth, cv2.CV_32F).std() / (mouth.std() + 1)
    return values / max(float(np.median(values)), 1e-6)


def _write_windows(bank: Bank, media: Media, progress: Progress | None) -> None:
    wanted = {int(frame): box for frame, box in zip(bank.frames, bank.boxes, strict=True)}
    with whole_file(bank.file) as partial, partial.open("wb") as out:
        for frame in read_frames(media):
            if (box := wanted.get(frame.index)) is not None:
                window = Window.of(frame.yuv(), box)
                out.write(window.y.tobytes() + window.uv.tobytes())
            if progress:
                progress("cut bank", frame.index + 1, int(bank.frames[-1]) + 1)
            if frame.index >= bank.frames[-1]:
                break
    cache.prune("banks")
