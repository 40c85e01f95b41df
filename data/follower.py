"""Shot → one face, followed from frame to frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lipwright.data.faces import BESIDE, Person, choose, find_people, height_px
from lipwright.data.landmarker import BLENDSHAPES, POINTS, Corner, Faces, Landmarker, cut, find_small
from lipwright.data.lower_face import SIDE, small_faces
from lipwright.data.rows import Rows, Store

SEARCHED_S = 1.0
"""How often small faces are looked for while there is none."""

GLIMPSE_S = 0.2
"""Another face that is found for no longer than this, in all, was a hand, or a picture in passing."""

LINGERS_S = 0.5
"""Another face is not found in every frame: it counts so long before and after."""

NUMBERS = 4 * (POINTS * 3 + BLENDSHAPES)
RECORD = NUMBERS + SIDE * SIDE * 3
"""Bytes of a face: points and blendshapes, and these with what the lower face looks like."""


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


class Finds:
    """All faces that were found, on disk: of those that are not followed, memory need not know more than where they are."""

    def __init__(self) -> None:
        self._store = Store.scratch()
        self._count = 0

    def add(self, faces: Faces, rgb: np.ndarray) -> int:
        """Keep the faces of a picture; return the number of the first one."""
        points, blendshapes = faces
        numbers = np.hstack([points.reshape(-1, POINTS * 3), blendshapes]).view(np.uint8)
        self._store.append(np.hstack([numbers, small_faces(rgb, points).reshape(-1, SIDE * SIDE * 3)]))
        self._count += len(points)
        return self._count - len(points)

    def points(self, faces: np.ndarray) -> Rows:
        """Return the points (F, 478, 3) of faces by number, −1: NaN."""
        return Rows(self._store, faces, (POINTS, 3), start=0, stride=RECORD)

    def blendshapes(self, faces: np.ndarray) -> Rows:
        """Return the blendshapes (F, 52) of faces by number, −1: NaN."""
        return Rows(self._store, faces, (BLENDSHAPES,), start=4 * POINTS * 3, stride=RECORD)

    def small_faces(self, faces: np.ndarray) -> Rows:
        """Return what the lower faces look like, (F, SIDE, SIDE, 3) uint8, of faces by number, −1: 0."""
        return Rows(self._store, faces, (SIDE, SIDE, 3), start=NUMBERS, stride=RECORD, kind=np.uint8)


@dataclass(frozen=True)
class Followed:
    """One face through a shot.

    Attributes
    ----------
    faces : ndarray, shape (F,), int64
        Its number among all that were found in each frame; −1: it was not.
    crowded : ndarray, shape (F,), bool
        Where there are others that count.
    place : ndarray, shape (2,), or None
        Where it, or who was followed before, was last.
    """

    faces: np.ndarray
    crowded: np.ndarray
    place: np.ndarray | None


def follow(
    images: Iterable[tuple[Fraction, np.ndarray]], which: str, finds: Finds, place: np.ndarray | None = None
) -> Followed:
    """Follow the face that is meant through one shot.

    What a landmarker knows of one shot would lead it astray in the next, so there is a new one for each.

    Parameters
    ----------
    images
        Times and RGB pictures (H, W, 3) uint8.
    which
        One of `lipwright.data.faces.WHICH`.
    finds
        Where all faces are kept.
    place : ndarray, shape (2,)
        Where the one who is meant was last in the shot before.
    """
    times_s: list[float] = []
    first: list[int] = []

    def shot() -> Iterator[np.ndarray]:
        with Follower() as find:
            for time, rgb in images:
                times_s.append(float(time))
                faces = find(rgb, times_s[-1])
                first.append(finds.add(faces, rgb))
                yield faces[0]

    people = find_people(shot())
    person = choose(people, which, place)
    followed = {} if person is None else person.frames
    faces = np.array([number + followed[k] if k in followed else -1 for k, number in enumerate(first)], np.int64)
    crowded = _crowded(people, person, np.array(times_s))
    return Followed(faces, lasting(crowded, np.array(times_s), LINGERS_S), place if person is None else person.places[-1])


def _crowded(people: Iterable[Person], followed: Person | None, times_s: np.ndarray) -> np.ndarray:
    """Say of each frame whether there is another face than the followed one that counts."""
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    own_px = np.zeros(len(times_s))
    others_px: list[list[float]] = [[] for _ in times_s]
    for person in people:
        for frame, height in zip(person.frames, person.heights_px, strict=True):
            if person is followed:
                own_px[frame] = height
            elif len(person.frames) * step_s > GLIMPSE_S:
                others_px[frame].append(height)
    front = [sum(h >= BESIDE * max(own, *others) for h in others) for own, others in zip(own_px, others_px, strict=True)]
    return np.array(front, int) > (own_px == 0)  # where nobody is followed, one of the others may be who is meant


def lasting(found: np.ndarray, times_s: np.ndarray, while_s: float) -> np.ndarray:
    """Let what is found in frames (F,) bool count for a while before and after."""
    seen = np.concatenate([[0], np.cumsum(found)])
    first, end = (np.searchsorted(times_s, times_s + side) for side in (-while_s, while_s))
    return seen[end] > seen[first]


def track_images(images: Iterable[tuple[Fraction, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Follow the largest face through one shot's (time, RGB image) pairs.

    Returns
    -------
    points : ndarray, shape (F, 478, 3), float32
    blendshapes : ndarray, shape (F, 52), float32
        NaN without a face.
    """
    finds = Finds()
    faces = follow(images, "largest", finds).faces
    return finds.points(faces)[:], finds.blendshapes(faces)[:]
