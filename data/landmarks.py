"""Frames → face track: one face's 478 points and 52 blendshapes for every frame of a video."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from lipwright.data import cache
from lipwright.data.errors import MediaError
from lipwright.data.faces import BESIDE, choose, find_people, height_px, in_front
from lipwright.data.files import whole_file
from lipwright.data.landmarker import BLENDSHAPES, POINTS, Corner, Faces, Landmarker, cut, find_small
from lipwright.data.media import Media, file_sha256, read_frames
from lipwright.data.shots import mark_shots

log = logging.getLogger(__name__)

SEARCHED_S = 1.0
"""How often small faces are looked for while there is none."""

LINGERS_S = 0.5
"""A second face is not found in every frame: it counts so long before and after."""

TRACKER_VERSION = "6"
"""Part of a cached track's name: raised when the same video would be tracked differently."""


@dataclass(frozen=True)
class FaceTrack:
    """One face through a video.

    Attributes
    ----------
    pts : ndarray, shape (F,), int64
        Time stamps in the video's own ticks.
    times_s : ndarray, shape (F,), float64
        The same on the file's clock.
    points : ndarray, shape (F, 478, 3), float32
        Landmarks as (x·width, y·height, z·width), pixels; NaN where no face was found.
    blendshapes : ndarray, shape (F, 52), float32
        MediaPipe's ARKit blendshapes, 0 to 1; NaN where no face was found.
    width, height
        Size of the upright picture.
    shots : ndarray, shape (S,), int64
        The first frame of each shot.
    crowded : ndarray, shape (F,), bool
        Where there are other faces beside it, and nobody said which one is meant.
    """

    pts: np.ndarray
    times_s: np.ndarray
    points: np.ndarray
    blendshapes: np.ndarray
    width: int
    height: int
    shots: np.ndarray
    crowded: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Where there is a face, (F,) bool."""
        return np.isfinite(self.points[:, 0, 0])


class Follower:
    """Finds the faces in the successive frames of one shot; if they are too small for the whole picture, in a square."""

    def __init__(self) -> None:
        self._landmarker = Landmarker()
        self._still: Landmarker | None = None
        self._corner: Corner | None = None
        self._searched_s = -math.inf

    def __call__(self, rgb: np.ndarray, time_s: float) -> Faces:
        """Find the faces in the next frame; as `Landmarker`."""
        faces = self._find(rgb, time_s)
        if not len(faces[0]) and time_s - self._searched_s >= SEARCHED_S:
            self._searched_s = time_s
            if (corner := self._search(rgb)) != self._corner:
                self._landmarker.close()
                self._landmarker, self._corner = Landmarker(), corner
                faces = self._find(rgb, time_s)
        return faces

    def _find(self, rgb: np.ndarray, time_s: float) -> Faces:
        if self._corner is None:
            return self._landmarker(rgb, time_s)
        points, blendshapes = self._landmarker(cut(rgb, self._corner), time_s)
        return points + np.array([*self._corner, 0], np.float32), blendshapes

    def _search(self, rgb: np.ndarray) -> Corner | None:
        """Return where a square around the largest small face stands."""
        self._still = self._still or Landmarker(still=True)
        faces = find_small(self._still, rgb)
        if not len(faces):
            return None
        middle = faces[height_px(faces).argmax(), :, :2].mean(0)
        height, width = rgb.shape[:2]
        left, top = np.clip(middle - min(height, width) / 2, 0, [width - min(height, width), height - min(height, width)])
        return round(float(left)), round(float(top))

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._landmarker.close()
        if self._still:
            self._still.close()


@dataclass(frozen=True)
class _Followed:
    """One face through a shot.

    Attributes
    ----------
    points, blendshapes
        As in `FaceTrack`.
    crowded : ndarray, shape (F,), bool
        Where there are others that count.
    place : ndarray, shape (2,), or None
        Where it, or who was followed before, was last.
    """

    points: np.ndarray
    blendshapes: np.ndarray
    crowded: np.ndarray
    place: np.ndarray | None


def _follow(images: Iterable[tuple[Fraction, np.ndarray]], which: str, place: np.ndarray | None = None) -> _Followed:
    """Follow the face that is meant through one shot.

    What a landmarker knows of one shot would lead it astray in the next, so there is a new one for each.
    """
    times_s: list[float] = []
    found: list[Faces] = []
    with Follower() as find:
        for time, rgb in images:
            times_s.append(float(time))
            found.append(find(rgb, times_s[-1]))
    points, blendshapes = (np.full((len(found), *size), np.nan, np.float32) for size in ((POINTS, 3), (BLENDSHAPES,)))
    person = choose(find_people([faces for faces, _ in found]), which, place)
    if person is not None:
        place = person.places[-1]
        for frame, k in person.frames.items():
            points[frame], blendshapes[frame] = found[frame][0][k], found[frame][1][k]
    crowded = np.array([_beside(faces, own) for (faces, _), own in zip(found, points, strict=True)], bool)
    return _Followed(points, blendshapes, _lasting(crowded, np.array(times_s)), place)


def _beside(faces: np.ndarray, followed: np.ndarray) -> bool:
    """Say whether there is another face than the followed one (NaN: none is) that counts."""
    front = in_front(faces)
    if np.isnan(followed[0, 0]):
        return len(front) > 1
    return len(front) > 1 or bool((height_px(followed) < BESIDE * height_px(front)).any())


def _lasting(crowded: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Let others count for a while before and after they are found."""
    seen = np.concatenate([[0], np.cumsum(crowded)])
    first, end = (np.searchsorted(times_s, times_s + side) for side in (-LINGERS_S, LINGERS_S))
    return seen[end] > seen[first]


def track_images(images: Iterable[tuple[Fraction, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Follow the largest face through one shot's (time, RGB image) pairs.

    Returns
    -------
    points : ndarray, shape (F, 478, 3), float32
    blendshapes : ndarray, shape (F, 52), float32
        NaN without a face.
    """
    followed = _follow(images, "largest")
    return followed.points, followed.blendshapes


def track_faces(
    media: Media,
    *,
    which: str | None = None,
    within_s: tuple[float, float] = (-math.inf, math.inf),
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FaceTrack:
    """Follow one face through a video, shot by shot, without the cache.

    Parameters
    ----------
    media
        From `probe`.
    which
        Which of several faces, out of `WHICH`; None: the largest, and where there are others is told.
    within_s
        Only through the frames from the first of these times up to the second.
    threads
        Decoder threads, as in `read_frames`.
    progress
        Called with (frames done, frames in all or 0).

    Raises
    ------
    MediaError
        There is no video stream, or none of its frames can be decoded.
    """
    video = media.need_video()
    pts: list[int] = []
    times_s: list[float] = []

    def images() -> Iterator[tuple[Fraction, np.ndarray]]:
        start_s, end_s = within_s
        from_pts = None if start_s == -math.inf else math.ceil((Fraction(start_s) + media.zero) / video.time_base)
        for frame in read_frames(media, threads=threads, from_pts=from_pts):
            if frame.time >= end_s:
                return
            pts.append(frame.pts)
            times_s.append(float(frame.time))
            yield frame.time, frame.rgb()
            if progress:
                progress(len(pts), video.frames)

    tracked: list[_Followed] = []
    place: np.ndarray | None = None
    for _, shot in groupby(mark_shots(images()), key=itemgetter(0)):
        tracked.append(_follow(((time, rgb) for _, time, rgb in shot), which or "largest", place))
        place = tracked[-1].place
    if not pts:
        raise MediaError(f"{media.path} has no video frame that can be decoded")
    points, blendshapes, crowded = (
        np.concatenate([getattr(shot, name) for shot in tracked]) for name in ("points", "blendshapes", "crowded")
    )
    crowded &= which is None
    shots = np.cumsum([0, *(len(shot.points) for shot in tracked[:-1])])
    size = video.width, video.height
    return FaceTrack(np.array(pts, np.int64), np.array(times_s), points, blendshapes, *size, shots, crowded)


def face_track(
    media: Media,
    *,
    which: str | None = None,
    sha256: str | None = None,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FaceTrack:
    """Return a video's face track, from the cache if the same bytes were tracked before.

    `sha256` is the file's, if it is known already; the rest is as in `track_faces`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    video = media.need_video()
    key = "-".join(filter(None, [sha256 or file_sha256(media.path), TRACKER_VERSION, which]))
    path = cache.cached_path("tracks", f"{key}.safetensors")
    try:
        track = FaceTrack(**load_file(path), width=video.width, height=video.height)
    except (FileNotFoundError, SafetensorError, TypeError):
        track = track_faces(media, which=which, threads=threads, progress=progress)
        _keep(track, path)
    length_s = track.times_s[-1] - track.times_s[0]
    if length_s < 0.95 * video.duration_s - 0.5:
        log.warning("%s ends early: %.1f of %.1f s can be read", media.path, length_s, video.duration_s)
    return track


def _keep(track: FaceTrack, path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {name: getattr(track, name) for name in ("pts", "times_s", "points", "blendshapes", "shots", "crowded")}
    with whole_file(path) as partial:
        save_file(arrays, partial)
    cache.prune("tracks")
