"""Picture → faces: MediaPipe's 478 points and 52 blendshapes of every face in it, and where its model comes from."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data import cache
from lipwright.data.errors import MissingPartError
from lipwright.data.faces import MOST_FACES, distinct
from lipwright.data.media import file_sha256

log = logging.getLogger(__name__)

MODEL_NAME = "face_landmarker.task"
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_URL = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
MODEL_VARIABLE = "LIPWRIGHT_FACE_LANDMARKER"

POINTS = 478
BLENDSHAPE_NAMES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""In MediaPipe's order: ARKit's names but tongueOut, and first how much of the face is none of them."""
BLENDSHAPES = len(BLENDSHAPE_NAMES)

Faces = tuple[np.ndarray, np.ndarray]
"""Points (N, 478, 3) float32, (x·width, y·height, z·width) in pixels, and blendshapes (N, 52) float32, 0 to 1."""


def model_here() -> Path | None:
    """Return the landmark model's file: `LIPWRIGHT_FACE_LANDMARKER`, else the cache; None if it is to be fetched.

    Raises
    ------
    MissingPartError
        The file that is named is not there, or it is not the one that Lipwright was built with.
    """
    named = os.environ.get(MODEL_VARIABLE)
    path = Path(named) if named else cache.cache_folder() / MODEL_NAME
    if named and not path.is_file():
        raise MissingPartError(f"{MODEL_VARIABLE} names {path}, which does not exist; correct or unset it")
    if path.is_file():
        if (seen := _sha256_at(path, path.stat().st_mtime_ns)) != MODEL_SHA256:
            raise MissingPartError(
                f"{path} is not the face landmark model (sha256 {seen[:12]}…, expected {MODEL_SHA256[:12]}…); delete it"
            )
        return path
    return None


def model_path() -> Path:
    """Return the landmark model's file, fetched and checked if it is not here (`model_here`).

    Raises
    ------
    MissingPartError
        It cannot be fetched, or is not the one that Lipwright was built with.
    """
    if (path := model_here()) is not None:
        return path
    import pooch

    path = cache.cache_folder() / MODEL_NAME
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


@lru_cache
def _sha256_at(path: Path, _mtime_ns: int) -> str:
    """Return a file's hash as it was when last changed: every shot has a landmarker, and the model takes 15 ms to hash."""
    return file_sha256(path)


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
    """MediaPipe's FaceLandmarker over the successive frames of one shot: it looks for faces where they were.

    Parameters
    ----------
    faces
        So many at most. One alone would be smoothed in time: its readings come late, and its fast closures flat
        (`docs/corpora.md`).
    still
        The frames have nothing to do with each other.
    """

    def __init__(self, faces: int = MOST_FACES, *, still: bool = False) -> None:
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

    def __call__(self, rgb: np.ndarray, time_s: float) -> Faces:
        """Find the faces in the next frame.

        Parameters
        ----------
        rgb : ndarray, shape (H, W, 3), uint8
            C-contiguous.
        time_s
            Later than the frame before.

        Returns
        -------
        Faces
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


def cut(rgb: np.ndarray, corner: Corner) -> np.ndarray:
    """Cut a square out of a picture."""
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
        faces, _ = find(cut(rgb, corner), 0.0)
        found = np.concatenate([found, faces + np.array([*corner, 0], np.float32)])
    return found[distinct(found)]
