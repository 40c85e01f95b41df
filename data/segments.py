"""Face track → segments: the stretches of a video that can be used, and why the rest cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lipwright.data.faces import height_px
from lipwright.data.mouth import LONGEST_GAP_S

if TYPE_CHECKING:
    from lipwright.data.landmarks import FaceTrack

LEAST_S = 2.0
"""A shorter stretch is not worth its edges."""

MOST_S = 120.0
"""A longer stretch is cut into equal parts: each is held in memory."""

BRIDGED_S = 1.0
"""A stretch goes on over so long without a usable face; its steps do not count."""

LEAST_SEEN = 0.5
"""In less than this share of a stretch the mouth is known: from usable frames that are near enough to each other."""

SAME_S = 1e-6
"""Times closer than this are meant equal."""

LEAST_FACE_PX = 64
"""Of a smaller face, hairline to chin, the lips are a few pixels."""

TURNED_DEG = (40.0, 32.0)
"""Yaw and pitch beyond which half of the mouth is guessed: where a renderer begins to leave the mouth alone, too."""

BOUNDS = {
    "least_s": LEAST_S,
    "most_s": MOST_S,
    "bridged_s": BRIDGED_S,
    "least_seen": LEAST_SEEN,
    "least_face_px": LEAST_FACE_PX,
    "turned_deg": list(TURNED_DEG),
}
"""What segments depend on, as JSON values."""

NO_FACE, TURNED, SMALL, SEVERAL, HIDDEN, SHORT, SPARSE, NO_SOUND, OTHER_SOUND = (
    "no face", "head turned away", "face too small", "several faces", "mouth hidden", "too short", "too few frames a second",
    "no sound", "music or other sound",
)  # fmt: skip
FLAWS = (NO_FACE, TURNED, SMALL, SEVERAL, HIDDEN)
"""What may be wrong with a frame."""


@dataclass(frozen=True)
class Segment:
    """A stretch of frames of one shot.

    Attributes
    ----------
    first, end
        Its frames: from the first up to, but not with, the end.
    reason
        Why it cannot be used; None: it can.
    """

    first: int
    end: int
    reason: str | None = None


def usable_frames(track: FaceTrack) -> tuple[np.ndarray, np.ndarray]:
    """Say of each frame whether its mouth can be learned from.

    Returns
    -------
    usable : ndarray, shape (F,), bool
    flaw : ndarray, shape (F,), int64
        What is wrong with it, as an index of `FLAWS`; −1: nothing.
    """
    flaw = np.full(len(track.pts), -1)
    flaw[track.hidden] = FLAWS.index(HIDDEN)
    flaw[track.crowded] = FLAWS.index(SEVERAL)
    flaw[track.measure(height_px) < LEAST_FACE_PX] = FLAWS.index(SMALL)  # NaN is not less
    flaw[(np.abs(track.pose.angles_deg()) > TURNED_DEG).any(1)] = FLAWS.index(TURNED)
    flaw[~track.found] = FLAWS.index(NO_FACE)
    return flaw < 0, flaw


def _known_s(times_s: np.ndarray) -> float:
    """Return for how long a mouth is known that is seen at these times."""
    steps = np.diff(times_s)
    return float(steps[steps <= LONGEST_GAP_S + SAME_S].sum())


def find_segments(track: FaceTrack) -> list[Segment]:
    """Cut a face track into segments, all of it, in order: no shot change is inside of one.

    A usable one begins and ends with a usable frame, unless it is a part of one that was too long.
    """
    usable, flaw = usable_frames(track)
    segments: list[Segment] = []

    def reject(first: int, end: int, why: str | None = None) -> None:
        if first < end:
            seen = np.bincount(flaw[first:end] + 1, minlength=len(FLAWS) + 1)[1:]
            segments.append(Segment(first, end, why or FLAWS[int(seen.argmax())]))

    for first, end in zip(track.shots, [*track.shots[1:], len(track.pts)], strict=True):
        done = int(first)
        frames = first + np.flatnonzero(usable[first:end])
        apart = np.flatnonzero(np.diff(track.times_s[frames]) > BRIDGED_S + SAME_S)
        for run in np.split(frames, apart + 1) if len(frames) else []:
            start, stop = int(run[0]), int(run[-1]) + 1
            reject(done, start)
            if (length_s := track.times_s[stop - 1] - track.times_s[start]) < LEAST_S - SAME_S:
                reject(start, stop, SHORT)
            else:
                parts = math.ceil(length_s / MOST_S)
                cuts = track.times_s[start] + length_s * np.arange(1, parts) / parts
                for a, b in pairwise([start, *np.searchsorted(track.times_s, cuts).tolist(), stop]):
                    known_s = _known_s(track.times_s[run[(run >= a) & (run < b)]])
                    if known_s < LEAST_SEEN * (track.times_s[b - 1] - track.times_s[a]):
                        reject(a, b, SPARSE if usable[a:b].all() else None)
                    else:
                        segments.append(Segment(a, b))
            done = stop
        reject(done, int(end))
    return segments
