"""Edits: what a person asks of a mouth track, as spans of time in which it moves more or less, stays as it is, or is shut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lipwright.data.errors import InputError
from lipwright.data.features import STEP_HZ
from lipwright.data.voice import find_pauses

if TYPE_CHECKING:
    from lipwright.data.mouth import MouthTrack

RAMP_S = 0.05
"""An edit sets in and fades out over this time, inside its span."""

MOST_GAIN = 3.0
"""Lips that move more than so many times as far leave the face: at this, half an eye distance down, and where a prediction
closes them, 0.03 through each other."""

OPENS_BEFORE_S = 0.1
"""So long before the first sound after a pause a mouth has begun to open: the median of 76 pauses of 0.3 s and more, in
videos of six people (a fifth of the way; the base model's: 0.08 s). After the last sound it closes at once."""

SHORTEST_CLOSED_S = 0.2
"""What is left of a pause is closed if it is so long: less is a blink of the lips."""


@dataclass(frozen=True)
class Edit:
    """A change that a person asks for between two times.

    Attributes
    ----------
    start_s, end_s
        From when to when; an edit whose end does not come after its start does nothing.
    gain
        On the movement.
    closed
        The mouth is shut.
    hold
        The mouth stays as it is at the start.

    Raises
    ------
    InputError
        The gain is below 0 or above `MOST_GAIN`, or a mouth is to be held as it is and shut.
    """

    start_s: float
    end_s: float
    gain: float = 1.0
    closed: bool = False
    hold: bool = False

    def __post_init__(self) -> None:
        if self.closed and self.hold:
            raise InputError(f"from {self.start_s:g} to {self.end_s:g} s a mouth is to be closed and held; choose one")
        if not 0 <= self.gain <= MOST_GAIN:
            raise InputError(f"gain is {self.gain:g}; give a number from 0, a still mouth, to {MOST_GAIN:g}")

    def bounded(self, start_s: float, end_s: float) -> Edit:
        """Return an edit with finite times that does the same to a track from one time to another."""
        start = self.start_s if math.isfinite(self.start_s) else start_s - RAMP_S
        end = self.end_s if math.isfinite(self.end_s) else end_s + RAMP_S
        return replace(self, start_s=start, end_s=end)


def factors(edits: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Return what all edits together make of the movement at some times.

    Parameters
    ----------
    edits : ndarray, shape (E, 3), float64
        Start, end and gain of each, as `table` gives them. Those that lie elsewhere cost nothing.
    times_s : ndarray, shape (T,)
        Increasing.

    Returns
    -------
    ndarray, shape (T,), float64
        1 where nothing is asked for, 0 where the mouth is held closed.
    """
    out = np.ones(len(times_s))
    spans = np.searchsorted(times_s, edits[:, :2])
    for k in np.flatnonzero(spans[:, 0] < spans[:, 1]):
        (start, end, gain), inside = edits[k], slice(*spans[k])
        ramp = min(RAMP_S, (end - start) / 2)
        weight = np.minimum(np.minimum(times_s[inside] - start, end - times_s[inside]) / ramp, 1)
        out[inside] *= 1 + weight * (gain - 1)
    return np.minimum(out, MOST_GAIN)


def table(edits: Sequence[Edit]) -> np.ndarray:
    """Return start, end and gain of edits, (E, 3) float64."""
    rows = [(edit.start_s, edit.end_s, 0.0 if edit.closed else edit.gain) for edit in edits]
    return np.array(rows, np.float64).reshape(-1, 3)


def held(edits: Sequence[Edit], track: MouthTrack, times_s: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Return a track's mouths at some times with those edits carried out that hold them.

    Parameters
    ----------
    edits
        Of several at one time the one that begins last counts.
    track
        Where the mouth is held as it is not seen at the start, it is held as it was last seen before.
    times_s : ndarray, shape (T,)
        Increasing.
    xyz : ndarray, shape (T, 40, 3)
        The track's mouths then.
    """
    last = len(track.valid) - 1
    for edit in sorted((edit for edit in edits if edit.hold), key=lambda edit: (edit.start_s, -edit.end_s)):
        inside = slice(*np.searchsorted(times_s, (edit.start_s, edit.end_s)))
        if inside.start >= inside.stop:
            continue
        first, end = (int(np.clip(round((at - track.start_s) * STEP_HZ), 0, last)) for at in (edit.start_s, edit.end_s))
        seen = np.flatnonzero(track.valid[: first + 1])[-1:]
        if not len(seen):
            seen = first + np.flatnonzero(track.valid[first : end + 1])[:1]
        if len(seen):
            ramp = min(RAMP_S, edit.end_s - edit.start_s)
            weight = np.minimum((edit.end_s - times_s[inside]) / ramp, 1).astype(np.float32)[:, None, None]
            xyz = xyz.copy()
            xyz[inside] += weight * (track.xyz[int(seen[0])] - xyz[inside])
    return xyz


def with_gain(track: MouthTrack, gain: float) -> MouthTrack:
    """Let a mouth move `gain` times as far throughout, 0 to `MOST_GAIN`; `InputError` beyond."""
    return replace(track, edits=(*track.edits, Edit(-math.inf, math.inf, gain)))


def closed_in_silence(track: MouthTrack, speech: np.ndarray) -> MouthTrack:
    """Hold a mouth closed where nobody speaks.

    Parameters
    ----------
    track
        On the clock of the sound.
    speech : ndarray, shape (T,), bool
        Where somebody speaks, 100 steps a second from time zero (`lipwright.data.voice.find_speech`).
    """
    early, least = (round(time_s * STEP_HZ) for time_s in (OPENS_BEFORE_S, SHORTEST_CLOSED_S))
    # Before the first word and after the last there is nothing to move from or to.
    pauses = [(a or -math.inf, b - early if b < len(speech) else math.inf) for a, b in find_pauses(speech).tolist()]
    edits = [Edit(a / STEP_HZ, b / STEP_HZ, closed=True) for a, b in pauses if b - a >= least]
    return replace(track, edits=(*track.edits, *edits))
