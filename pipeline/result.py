"""What a model makes of the very video that it is judged on: its frames beside the same frames with the model's mouth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Media, Yuv, read_frames
from lipwright.data.mouth import MouthTrack
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.render.composite import Painted
from lipwright.pipeline.render.painting import painted_frames
from lipwright.pipeline.render.reading import bank_for

BANK_SHARE = 0.75
"""Of a video whose own first part is the bank of its rest."""


@dataclass(frozen=True)
class Footage:
    """Where the mouths of results are taken from: another video, the first 75 % of each, or all of it."""

    other: Path | None
    first_part: bool

    def bank(self, media: Media, track: FaceTrack, sha256: str, progress: Progress | None = None) -> Bank:
        """Collect the bank for a video; `FaceError` if no whole mouth is seen."""
        end_s = bank_end_s(track) if self.first_part and self.other is None else None
        return bank_for(media, track, sha256, self.other, end_s=end_s, progress=progress)


def bank_end_s(track: FaceTrack) -> float:
    """Return the time at which the first 75 % of a video end."""
    return float(track.times_s[0] + BANK_SHARE * (track.times_s[-1] - track.times_s[0]))


@dataclass(frozen=True)
class Shown:
    """A frame: which of the track's it is, when, as filmed, and with the model's mouth."""

    row: int
    time: Fraction
    source: Yuv
    result: Yuv


def results(media: Media, track: FaceTrack, bank: Bank, said: MouthTrack, rows: np.ndarray | None = None) -> Iterator[Shown]:
    """Paint what a model says onto the frames it says it for.

    Parameters
    ----------
    media, track
        The video and its face track.
    bank
        What is painted from.
    said
        The model's mouth.
    rows : ndarray, shape (F,), int64
        Which of the frames, one after another; by default all.

    Yields
    ------
    Shown
        Where nothing can be painted, the result is the source.
    """
    rows = np.arange(len(track.pts)) if rows is None else rows
    mouths, valid = said.at(track.times_s[rows])
    current: list[tuple[Fraction, Yuv]] = []

    def pictures() -> Iterator[Yuv]:
        for frame in read_frames(media, from_pts=int(track.pts[rows[0]])):
            current[:] = [(frame.time, frame.yuv())]
            yield current[0][1]

    frames, threads = painted_frames(pictures(), track, rows, mouths, valid, bank), ThreadpoolController()
    for row in rows:
        with threads.limit(limits=1):  # as when rendering; who looks at the frames may use more
            painted = next(frames, None)
        if painted is None:
            return
        time, source = current[0]
        yield Shown(int(row), time, source, painted.picture if isinstance(painted, Painted) else painted)
