"""Frames → face track: one face's 478 points and 52 blendshapes for every frame of a video."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property
from itertools import count, groupby, pairwise
from operator import itemgetter
from pathlib import Path

import numpy as np

from lipwright.data import cache
from lipwright.data.ahead import ahead
from lipwright.data.errors import MediaError
from lipwright.data.face_space import Pose, fit_pose
from lipwright.data.files import whole_file
from lipwright.data.follower import Finds, Followed, follow, lasting
from lipwright.data.landmarker import BLENDSHAPES, POINTS
from lipwright.data.lower_face import find_hidden
from lipwright.data.media import Media, file_sha256, read_frames
from lipwright.data.rows import BLOCK, Rows, Store
from lipwright.data.segments import usable_frames
from lipwright.data.shots import mark_shots

log = logging.getLogger(__name__)

TRACKER_VERSION = "9"
"""Part of a cached track's name: raised when the same video would be tracked differently."""

COMES_S = 0.1
"""What comes before a mouth is before half of it for so long; and when it goes."""


@dataclass(frozen=True)
class FaceTrack:
    """One face through a video.

    Attributes
    ----------
    pts : ndarray, shape (F,), int64
        Time stamps in the video's own ticks.
    times_s : ndarray, shape (F,), float64
        The same on the file's clock.
    points : Rows or ndarray, shape (F, 478, 3), float32
        Landmarks as (x·width, y·height, z·width), pixels; NaN where no face was found.
    blendshapes : Rows or ndarray, shape (F, 52), float32
        MediaPipe's ARKit blendshapes, 0 to 1; NaN where no face was found.
    width, height
        Size of the upright picture.
    shots : ndarray, shape (S,), int64
        The first frame of each shot.
    crowded : ndarray, shape (F,), bool
        Where there are other faces beside it, and nobody said which one is meant.
    hidden : ndarray, shape (F,), bool
        Where something is before the mouth, or comes or goes: its points are invented.
    """

    pts: np.ndarray
    times_s: np.ndarray
    points: np.ndarray | Rows
    blendshapes: np.ndarray | Rows
    width: int
    height: int
    shots: np.ndarray
    crowded: np.ndarray
    hidden: np.ndarray

    def measure(self, each: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Measure something of the points (N, 478, 3) of every frame, block by block."""
        return np.concatenate([each(self.points[k : k + BLOCK]) for k in range(0, max(len(self.pts), 1), BLOCK)])

    @cached_property
    def pose(self) -> Pose:
        """Where the head is in every frame; NaN without a face."""
        blocks = [fit_pose(self.points[k : k + BLOCK]) for k in range(0, max(len(self.pts), 1), BLOCK)]
        return Pose(*(np.concatenate([getattr(block, part.name) for block in blocks]) for part in fields(Pose)))

    def part(self, frames: slice) -> FaceTrack:
        """Return the track of some frames, as one shot."""
        points, blendshapes = (a.part(frames) if isinstance(a, Rows) else a[frames] for a in (self.points, self.blendshapes))
        return FaceTrack(
            self.pts[frames],
            self.times_s[frames],
            points,
            blendshapes,
            self.width,
            self.height,
            shots=np.zeros(1, np.int64),
            crowded=self.crowded[frames],
            hidden=self.hidden[frames],
        )

    @property
    def found(self) -> np.ndarray:
        """Where there is a face, (F,) bool."""
        return np.isfinite(self.pose.scale)


def track_faces(
    media: Media,
    *,
    which: str | None = None,
    within_s: tuple[float, float] = (-math.inf, math.inf),
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
        for frame in read_frames(media, threads=1, from_pts=from_pts):
            if frame.time >= end_s:
                return
            pts.append(frame.pts)
            times_s.append(float(frame.time))
            yield frame.time, frame.rgb()

    def counted(shot: Iterable[tuple[int, Fraction, np.ndarray]]) -> Iterator[tuple[Fraction, np.ndarray]]:
        for _, time, rgb in shot:
            yield time, rgb
            if progress:
                progress(next(done), video.frames)

    done, finds = count(1), Finds()
    tracked: list[Followed] = []
    with closing(ahead(mark_shots(images()), depth=1)) as frames:  # decoding takes a quarter of the time
        for _, shot in groupby(frames, key=itemgetter(0)):
            place = tracked[-1].place if tracked else None
            tracked.append(follow(counted(shot), which or "largest", finds, place))
    if not pts:
        raise MediaError(f"{media.path} has no video frame that can be decoded")
    faces, crowded = (np.concatenate([getattr(shot, name) for shot in tracked]) for name in ("faces", "crowded"))
    track = FaceTrack(
        np.array(pts, np.int64),
        np.array(times_s),
        finds.points(faces),
        finds.blendshapes(faces),
        video.width,
        video.height,
        shots=np.cumsum([0, *(len(shot.faces) for shot in tracked[:-1])]),
        crowded=crowded & (which is None),
        hidden=np.zeros(len(pts), bool),
    )
    hidden = find_hidden(finds.small_faces(faces), track.points, usable_frames(track)[0], track.shots)
    shots = pairwise([*track.shots, len(pts)])
    return replace(track, hidden=np.concatenate([lasting(hidden[a:b], track.times_s[a:b], COMES_S) for a, b in shots]))


def face_track(
    media: Media,
    *,
    which: str | None = None,
    sha256: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FaceTrack:
    """Return a video's face track, from the cache if the same bytes were tracked before.

    `sha256` is the file's, if it is known already; the rest is as in `track_faces`.
    """
    video = media.need_video()
    key = "-".join(filter(None, [sha256 or file_sha256(media.path), TRACKER_VERSION, which]))
    path = cache.cached_path("tracks", f"{key}.safetensors")
    track = _kept(path, video.width, video.height)
    if track is None:
        track = track_faces(media, which=which, progress=progress)
        _keep(track, path)
    length_s = track.times_s[-1] - track.times_s[0]
    if length_s < 0.95 * video.duration_s - 0.5:
        log.warning("%s ends early: %.1f of %.1f s can be read", media.path, length_s, video.duration_s)
    return track


_TYPES = {"int64": "I64", "float64": "F64", "float32": "F32", "bool": "BOOL"}
_ON_DISK = ("points", "blendshapes")
_IN_MEMORY = ("pts", "times_s", "shots", "crowded", "hidden")


def _keep(track: FaceTrack, path: Path) -> None:
    """Write a track, block by block, as `safetensors.numpy.save_file` would all at once."""
    head, end = {}, 0
    for name in (*_ON_DISK, *_IN_MEMORY):
        array = getattr(track, name)
        kind = np.dtype(np.float32) if name in _ON_DISK else array.dtype
        start, end = end, end + math.prod(array.shape) * kind.itemsize
        head[name] = {"dtype": _TYPES[kind.name], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as partial, partial.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in _ON_DISK:
            array = getattr(track, name)
            for k in range(0, len(array), BLOCK):
                out.write(array[k : k + BLOCK].tobytes())
        for name in _IN_MEMORY:
            out.write(getattr(track, name).tobytes())
    cache.prune("tracks")


def _kept(path: Path, width: int, height: int) -> FaceTrack | None:
    """Return the track in a file; None if there is no whole one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:  # says whether it is whole
            arrays = {name: file.get_tensor(name) for name in _IN_MEMORY}
        store = Store(path.open("rb"))
        size = np.zeros(1, "<u8")
        store.read(0, size)
        text = np.zeros(int(size[0]), np.uint8)
        store.read(8, text)
        head = json.loads(text.tobytes())
        for name, shape in zip(_ON_DISK, ((POINTS, 3), (BLENDSHAPES,)), strict=True):
            records = np.arange(len(arrays["pts"]))
            stride = 4 * math.prod(shape)
            if head[name]["shape"] != [len(records), *shape]:
                return None
            arrays[name] = Rows(store, records, shape, start=8 + len(text) + head[name]["data_offsets"][0], stride=stride)
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    return FaceTrack(**arrays, width=width, height=height)
