"""Frames → face track: MediaPipe's 478 face points and 52 blendshapes for every frame of a video."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data import cache
from lipwright.data.errors import MediaError, MissingPartError
from lipwright.data.faces import BESIDE, MOST_FACES, choose, distinct, find_people, height_px, in_front
from lipwright.data.files import whole_file
from lipwright.data.media import Media, file_sha256, read_frames
from lipwright.data.shots import mark_shots

log = logging.getLogger(__name__)

MODEL_NAME = "face_landmarker.task"
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_URL = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
MODEL_VARIABLE = "LIPWRIGHT_FACE_LANDMARKER"

POINTS = 478
BLENDSHAPES = 52

SURVEY_S = 1.0
"""How often other faces are looked for."""

TRACKER_VERSION = "5"
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
        Where there are other faces beside it, and nobody said which one is meant. (Looked for once a second.)
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


def model_path() -> Path:
    """Return the landmark model's file: `LIPWRIGHT_FACE_LANDMARKER`, else the cache, else fetched and checked.

    Raises
    ------
    MissingPartError
        The file is nowhere and cannot be fetched, or is not the one that Lipwright was built with.
    """
    named = os.environ.get(MODEL_VARIABLE)
    path = Path(named) if named else cache.cache_folder() / MODEL_NAME
    if named and not path.is_file():
        raise MissingPartError(f"{MODEL_VARIABLE} names {path}, which does not exist; correct or unset it")
    if path.is_file():
        if (seen := file_sha256(path)) != MODEL_SHA256:
            raise MissingPartError(
                f"{path} is not the face landmark model (sha256 {seen[:12]}…, expected {MODEL_SHA256[:12]}…); delete it"
            )
        return path
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it writes to stderr by itself
    log.info("fetching the face landmark model to %s", path)
    try:
        pooch.retrieve(MODEL_URL, known_hash=f"sha256:{MODEL_SHA256}", fname=MODEL_NAME, path=path.parent)
    except (OSError, ValueError) as error:
        raise MissingPartError(
            f"the face landmark model is not at {path} and cannot be fetched ({type(error).__name__}); "
            f"put {MODEL_NAME} there or name it in {MODEL_VARIABLE}"
        ) from error
    return path


_STDERR = threading.Lock()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere: MediaPipe logs from C++, past `sys.stderr`."""
    with _STDERR:  # two threads would restore each other's nowhere
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)


class Landmarker:
    """MediaPipe's FaceLandmarker over the successive frames of one shot: it follows faces from frame to frame.

    Parameters
    ----------
    faces
        Most faces to follow. One alone is smoothed in time.
    still
        The frames have nothing to do with each other.
    """

    def __init__(self, faces: int = 1, *, still: bool = False) -> None:
        path = model_path()
        with _quiet_stderr():
            try:
                import mediapipe as mp
            except ImportError as error:
                raise MissingPartError(f"mediapipe cannot be imported ({error}); pip install 'mediapipe<0.10.32'") from error
            tasks = mp.tasks
            modes = tasks.vision.RunningMode
            options = tasks.vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=str(path)),
                running_mode=modes.IMAGE if still else modes.VIDEO,
                num_faces=faces,
                output_face_blendshapes=True,
            )
            self._landmarker = tasks.vision.FaceLandmarker.create_from_options(options)
        self._image: Any = mp.Image
        self._format = mp.ImageFormat.SRGB
        self._last_ms = -1
        self._still = still

    def __call__(self, rgb: np.ndarray, time_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Find the face in the next frame, or one of several; as `find_all`, without N, or None if there is none."""
        points, blendshapes = self.find_all(rgb, time_s)
        return (points[0], blendshapes[0]) if len(points) else None

    def find_all(self, rgb: np.ndarray, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Find the faces in the next frame.

        Parameters
        ----------
        rgb : ndarray, shape (H, W, 3), uint8
            C-contiguous.
        time_s
            Later than the frame before.

        Returns
        -------
        points : ndarray, shape (N, 478, 3), float32
            As in `FaceTrack`.
        blendshapes : ndarray, shape (N, 52), float32
        """
        if not rgb.flags.c_contiguous:
            raise ValueError("Expected a C-contiguous frame: MediaPipe finds no face in padded rows.")
        first = self._last_ms < 0
        self._last_ms = max(self._last_ms + 1, round(time_s * 1000))
        image = self._image(image_format=self._format, data=rgb)
        with _quiet_stderr() if first else nullcontext():
            result = self._landmarker.detect(image) if self._still else self._landmarker.detect_for_video(image, self._last_ms)
        height, width = rgb.shape[:2]
        faces = [[(p.x * width, p.y * height, p.z * width) for p in face] for face in result.face_landmarks]
        scores = [[b.score for b in face] for face in result.face_blendshapes]
        points = np.array(faces, np.float32).reshape(-1, POINTS, 3)
        blendshapes = np.array(scores, np.float32).reshape(-1, BLENDSHAPES)
        kept = distinct(points)
        return points[kept], blendshapes[kept]

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End MediaPipe's threads."""
        with _quiet_stderr():
            self._landmarker.close()


Corner = tuple[int, int]
"""Left and top of a square whose side is the shorter one of the picture."""


def _cut(rgb: np.ndarray, corner: Corner) -> np.ndarray:
    left, top = corner
    side = min(rgb.shape[:2])
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


def find_small(find: Landmarker, rgb: np.ndarray) -> np.ndarray:
    """Find faces (N, 478, 3) in squares along a picture's longer side: in the whole of it, the detector misses small ones.

    `find` is for still frames.
    """
    height, width = rgb.shape[:2]
    found = np.zeros((0, POINTS, 3), np.float32)
    over, side = abs(width - height), min(width, height)
    # Each overlaps the next by half, so that no face is cut by all. A square picture has been searched already.
    for offset in np.linspace(0, over, math.ceil(2 * over / side) + 1).astype(int).tolist() if over else []:
        corner = (offset, 0) if width > height else (0, offset)
        faces, _ = find.find_all(_cut(rgb, corner), 0.0)
        found = np.concatenate([found, faces + np.array([*corner, 0], np.float32)])
    return found[distinct(found)]


class Follower:
    """Finds one face in the successive frames of one shot; if it is too small for the whole picture, in a square around it."""

    def __init__(self) -> None:
        self._landmarker = Landmarker()
        self._still: Landmarker | None = None
        self._corner: Corner | None = None
        self._searched_s = -math.inf

    def __call__(self, rgb: np.ndarray, time_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Find the face in the next frame; as `Landmarker`."""
        face = self._find(rgb, time_s)
        if face is None and time_s - self._searched_s >= SURVEY_S:
            self._searched_s = time_s
            if (corner := self._search(rgb)) != self._corner:
                self._landmarker.close()
                self._landmarker, self._corner = Landmarker(), corner
                face = self._find(rgb, time_s)
        return face

    def _find(self, rgb: np.ndarray, time_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        if self._corner is None:
            return self._landmarker(rgb, time_s)
        face = self._landmarker(_cut(rgb, self._corner), time_s)
        return face and (face[0] + np.array([*self._corner, 0], np.float32), face[1])

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


def track_images(images: Iterable[tuple[Fraction, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Follow one face through one shot's (time, RGB image) pairs.

    Returns
    -------
    points : ndarray, shape (F, 478, 3), float32
    blendshapes : ndarray, shape (F, 52), float32
        NaN without a face.
    """
    points, shapes = [], []
    with Follower() as find:
        for time, rgb in images:
            face = find(rgb, float(time))
            points.append(face[0] if face else np.full((POINTS, 3), np.nan, np.float32))
            shapes.append(face[1] if face else np.full(BLENDSHAPES, np.nan, np.float32))
    return np.array(points).reshape(-1, POINTS, 3), np.array(shapes).reshape(-1, BLENDSHAPES)


Shot = Iterable[tuple[int, Fraction, np.ndarray]]
"""As from `mark_shots`. What a landmarker knows of one would lead it astray in the next, so there is a new one for each."""


def _beside(faces: np.ndarray, followed: np.ndarray) -> bool:
    """Say whether there is another face than the followed one (NaN: none is) that counts."""
    front = in_front(faces)
    if np.isnan(followed[0, 0]):
        return len(front) > 1
    return len(front) > 1 or bool((height_px(followed) < BESIDE * height_px(front)).any())


def _follow_first(shot: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow the face that is found first: points, blendshapes, and where there are others beside it."""
    looked: list[int] = []
    in_sight: list[np.ndarray] = []

    def images(survey: Landmarker) -> Iterator[tuple[Fraction, np.ndarray]]:
        last_s = -np.inf
        for index, (_, time, rgb) in enumerate(shot):
            if time - last_s >= SURVEY_S:
                looked.append(index)
                in_sight.append(survey.find_all(rgb, float(time))[0])
                last_s = float(time)
            yield time, rgb

    with Landmarker(MOST_FACES) as survey:
        points, blendshapes = track_images(images(survey))
    # Between two looks, others count if either has seen them.
    before = np.searchsorted(looked, np.arange(len(points)), side="right") - 1
    seen = np.array([_beside(faces, points[index]) for faces, index in zip(in_sight, looked, strict=True)])
    return points, blendshapes, seen[before] | seen[np.minimum(before + 1, len(seen) - 1)]


def _follow_chosen(shot: Shot, which: str, place: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Follow the face that is meant: points, blendshapes, and where it was last, for the next shot."""
    with Landmarker(MOST_FACES) as find:
        found = [find.find_all(rgb, float(time)) for _, time, rgb in shot]
    points, blendshapes = (np.full((len(found), *size), np.nan, np.float32) for size in ((POINTS, 3), (BLENDSHAPES,)))
    person = choose(find_people([faces for faces, _ in found]), which, place)
    if person is None:
        return points, blendshapes, place
    for frame, k in person.frames.items():
        points[frame], blendshapes[frame] = found[frame][0][k], found[frame][1][k]
    return points, blendshapes, person.places[-1]


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
        Which of several faces, out of `WHICH`; None: the first that is found.
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

    tracked: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    place: np.ndarray | None = None
    for _, shot in groupby(mark_shots(images()), key=itemgetter(0)):
        if which is None:
            tracked.append(_follow_first(shot))
        else:
            points, blendshapes, place = _follow_chosen(shot, which, place)
            tracked.append((points, blendshapes, np.zeros(len(points), bool)))
    if not pts:
        raise MediaError(f"{media.path} has no video frame that can be decoded")
    points, blendshapes, crowded = (np.concatenate(parts) for parts in zip(*tracked, strict=True))
    shots = np.cumsum([0, *(len(points) for points, _, _ in tracked[:-1])])
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
