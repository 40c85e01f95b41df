"""Several faces in a picture: how many count, and which one is meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_FACES = 4
"""So many are looked for."""

BESIDE = 0.5
"""A face of less than this share of the largest one's height is background."""

REACH = 0.75
"""From one frame to the next a face moves by less than this share of its height; by twice as much while it was lost."""

SAME = 0.5
"""Two faces of a picture whose middles are closer than this share of their height are one."""

PRESENT = 0.25
"""Who is seen in less than this share of the frames that the most seen one is in was no more than passing by."""

WHICH = ("largest", "left", "right", "track")
"""Which of several faces is meant: of each shot the largest one (and longest seen), the one at the left or right of the
picture; or the largest of the first shot, and in the next ones whoever is nearest to its place."""

HAIRLINE, CHIN = 10, 152


def height_px(points: np.ndarray) -> np.ndarray:
    """Return the height of faces (…, 478, 3), hairline to chin, in pixels."""
    return np.linalg.norm(points[..., HAIRLINE, :2] - points[..., CHIN, :2], axis=-1)


def distinct(faces: np.ndarray) -> np.ndarray:
    """Return which of some faces (N, 478, 3) to keep, (M,) int64: a landmarker of several may find one twice."""
    if len(faces) < 2:
        return np.arange(len(faces))
    kept: list[int] = []
    heights, places = height_px(faces), faces[..., :2].mean(1)
    for k, place in enumerate(places):
        if all(np.linalg.norm(place - places[i]) > SAME * heights[i] for i in kept):
            kept.append(k)
    return np.array(kept, np.int64)


def nearest(faces: np.ndarray, face: np.ndarray) -> int:
    """Return which of some faces (N, 478, 3) is where a face (478, 3) was."""
    return int(np.linalg.norm((faces - face)[..., :2].mean(1), axis=-1).argmin())


def in_front(faces: np.ndarray) -> np.ndarray:
    """Return the faces (N, 478, 3) of a picture that are not background."""
    heights = height_px(faces)
    return faces[heights >= BESIDE * heights.max(initial=0)]


@dataclass
class Person:
    """A face through a shot.

    Attributes
    ----------
    frames
        Where it was found: frame of the shot → number of the face in that frame.
    places : list of ndarray, shape (2,)
        Its middle in these frames, pixels.
    heights_px : list of float
    """

    frames: dict[int, int] = field(default_factory=dict)
    places: list[np.ndarray] = field(default_factory=list)
    heights_px: list[float] = field(default_factory=list)

    def distance(self, place: np.ndarray) -> float:
        """Return how far a face is from where this one was last, in heights of it."""
        return float(np.linalg.norm(place - self.places[-1]) / self.heights_px[-1])

    def reach(self, frame: int) -> float:
        """Return how far it may have come by a later frame, in heights of it."""
        return REACH if frame - next(reversed(self.frames)) == 1 else 2 * REACH


def find_people(shot: Iterable[np.ndarray]) -> list[Person]:
    """Follow every face through a shot: from frame to frame, and after it was lost, a face is who was last nearest to it.

    Parameters
    ----------
    shot
        The faces of each frame, (N, 478, 3), in any order.
    """
    people: list[Person] = []
    for frame, faces in enumerate(shot):
        heights, places = height_px(faces), faces[..., :2].mean(1)
        pairs = sorted((p.distance(place), i, k) for i, p in enumerate(people) for k, place in enumerate(places))
        taken: dict[int, int] = {}
        for apart, i, k in pairs:
            if apart < people[i].reach(frame) and i not in taken.values() and k not in taken:
                taken[k] = i
        for k in range(len(faces)):
            if k not in taken:
                people.append(Person())
            person = people[taken.get(k, -1)]
            person.frames[frame] = k
            person.places.append(places[k])
            person.heights_px.append(float(heights[k]))
    return people


def choose(people: Sequence[Person], which: str, before: np.ndarray | None = None) -> Person | None:
    """Return who of a shot is meant; None if there is nobody.

    Parameters
    ----------
    people
        From `find_people`.
    which
        One of `WHICH`.
    before
        Where the one who is meant was last in the shot before.
    """
    seen = max((len(p.frames) for p in people), default=0)
    there = [p for p in people if len(p.frames) >= PRESENT * seen]
    sizes = [float(np.median(p.heights_px)) for p in there]
    front = [(p, size) for p, size in zip(there, sizes, strict=True) if size >= BESIDE * max(sizes)]
    if not front:
        return None
    if which == "track" and before is not None:
        return min(front, key=lambda f: float(np.linalg.norm(f[0].places[0] - before)))[0]
    if which in ("left", "right"):
        across = {"left": 1, "right": -1}[which]
        return min(front, key=lambda f: across * float(np.median([x for x, _ in f[0].places])))[0]
    return max(front, key=lambda f: sum(f[0].heights_px))[0]
