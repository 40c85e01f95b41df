"""The mouth in face space: its 40 points, how far it opens, what it looks like closed, and its course over time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lipwright.data.edits import Edit, factors, held, table
from lipwright.data.errors import InputError, TrackError
from lipwright.data.face_space import fit_pose
from lipwright.data.features import STEP_HZ
from lipwright.data.files import whole_file
from lipwright.data.rows import BLOCK, Rows, Store

if TYPE_CHECKING:
    from lipwright.data.landmarks import FaceTrack

OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
"""Both run from the image's left corner along the lower lip to the right corner and back along the upper lip."""

LIPS = np.array(OUTER_LIPS + INNER_LIPS)
POINTS = len(LIPS)

_AT = {int(point): i for i, point in enumerate(LIPS)}
_INNER_PAIRS = np.array([(_AT[INNER_LIPS[k]], _AT[INNER_LIPS[20 - k]]) for k in range(1, 10)])
"""Lower and upper inner points that meet when the mouth closes."""

MIDDLE_OF_LIPS = (_AT[13], _AT[14])
"""Where the upper and the lower inner lip are farthest apart, as indices of the 40 points."""

LONGEST_GAP_S = 0.12
"""Measured mouths are interpolated between valid frames at most this far apart."""

OPEN_NEUTRAL = 0.03
"""A neutral mouth more open than this was never seen closed."""

LEAST_SCALE = 0.02
"""A person whose aperture varies by less does not speak."""


def aperture(xyz: np.ndarray) -> np.ndarray:
    """Return the opening between the inner lips, |13 − 14|, of mouths (…, 40, 3), in units of face space."""
    return np.linalg.norm(xyz[..., _AT[13], :] - xyz[..., _AT[14], :], axis=-1)


def width(xyz: np.ndarray) -> np.ndarray:
    """Return the distance of the mouth's corners, |61 − 291|, of mouths (…, 40, 3), in units of face space."""
    return np.linalg.norm(xyz[..., _AT[61], :] - xyz[..., _AT[291], :], axis=-1)


def protrusion(xyz: np.ndarray) -> np.ndarray:
    """Return how far the middle of the lips stands before the mouth's corners, of mouths (…, 40, 3), in units of face space."""
    middle, corners = ([_AT[point] for point in points] for points in ((0, 13, 14, 17), (61, 291)))
    return xyz[..., corners, 2].mean(-1) - xyz[..., middle, 2].mean(-1)


def measure_mouth(track: FaceTrack) -> np.ndarray:
    """Return the mouth of every frame of a face track in face space, (F, 40, 3) float32, NaN without a face."""

    def each(points: np.ndarray) -> np.ndarray:
        return fit_pose(points).to_face(points[:, LIPS].astype(np.float64)).astype(np.float32)

    return track.measure(each)


@dataclass(frozen=True)
class Speaker:
    """What makes mouths of different people comparable: ``(mouth − neutral) / scale``.

    Attributes
    ----------
    neutral : ndarray, shape (40, 3), float32
        The closed mouth, face space.
    scale
        90th − 5th percentile of the aperture; `None` for a person who does not speak.
    neutral_estimated
        The mouth was never seen closed, and `neutral` was closed by calculation.
    """

    neutral: np.ndarray
    scale: float | None
    neutral_estimated: bool = False

    def normalise(self, xyz: np.ndarray, scale: float) -> np.ndarray:
        """Express mouths (…, 40, 3) relative to this speaker."""
        return (xyz - self.neutral) / (self.scale or scale)

    def place(self, shapes: np.ndarray, scale: float) -> np.ndarray:
        """Give relative shapes (…, 40, 3) this speaker's mouth; `scale` serves a person who does not speak."""
        return self.neutral + shapes * (self.scale or scale)

    def openness(self, apertures: np.ndarray) -> np.ndarray:
        """Express apertures in this speaker's range: 0 is closed, 1 as wide as they open; NaN of who does not speak."""
        return (apertures - aperture(self.neutral)) / (self.scale or np.nan)


def measure_speaker(xyz: np.ndarray) -> Speaker:
    """Find a person's closed mouth and range of opening.

    Parameters
    ----------
    xyz : ndarray, shape (F, 40, 3)
        Their mouth in face space; NaN frames are passed over. At least one must be there.
    """
    opening = aperture(xyz)  # alone: the mouths may be those of hours, on disk
    low, high = np.percentile(opening[np.isfinite(opening)], (5, 90))
    neutral = xyz[opening <= low].mean(0).astype(np.float32)
    estimated = bool(aperture(neutral) > OPEN_NEUTRAL)
    if estimated:
        for pair in _INNER_PAIRS:
            neutral[pair] = neutral[pair].mean(0)
    scale = float(high - low)
    return Speaker(neutral, scale if scale >= LEAST_SCALE else None, estimated)


def interpolate(
    times_s: np.ndarray, values: np.ndarray, valid: np.ndarray, at_s: np.ndarray, longest_gap_s: float = LONGEST_GAP_S
) -> tuple[np.ndarray, np.ndarray]:
    """Sample a series at other times, linearly between valid neighbours that are not too far apart.

    Parameters
    ----------
    times_s : ndarray, shape (F,)
        Increasing.
    values : ndarray, shape (F, …)
    valid : ndarray, shape (F,), bool
    at_s : ndarray, shape (T,)

    Returns
    -------
    values : ndarray, shape (T, …), float32
        Zero where not valid.
    valid : ndarray, shape (T,), bool
    """
    times_s, values = times_s[valid], values[valid]
    out = np.zeros((len(at_s), *values.shape[1:]), np.float32)
    if len(times_s) == 0:
        return out, np.zeros(len(at_s), bool)
    tolerance = 1e-6  # a microsecond: times that are meant equal
    right = np.clip(np.searchsorted(times_s, at_s - tolerance), 0, len(times_s) - 1)
    exact = np.abs(times_s[right] - at_s) <= tolerance
    left = np.where(exact, right, np.maximum(right - 1, 0))
    gap = times_s[right] - times_s[left]
    inside = (at_s >= times_s[0] - tolerance) & (at_s <= times_s[-1] + tolerance)
    good = inside & (exact | ((gap <= longest_gap_s + tolerance) & (gap > 0)))
    weight = np.where(gap > 0, (at_s - times_s[left]) / np.where(gap > 0, gap, 1), 0)[good]
    weight = weight.reshape(-1, *(1,) * (values.ndim - 1))
    out[good] = (1 - weight) * values[left[good]] + weight * values[right[good]]
    return out, good


@dataclass(frozen=True)
class MouthTrack:
    """A mouth over time, 100 steps a second, in one person's face space.

    Attributes
    ----------
    xyz : Rows or ndarray, shape (T, 40, 3), float32
        As measured or predicted, without the edits.
    valid : ndarray, shape (T,), bool
        Where the mouth is known; elsewhere rendering leaves the picture alone.
    speaker
        Whose mouth it is: neutral and scale.
    start_s
        Time of the first step on the file's clock.
    edits
        Changes asked for by hand, carried out where the mouth is read.
    """

    xyz: np.ndarray | Rows
    valid: np.ndarray
    speaker: Speaker
    start_s: float = 0.0
    edits: tuple[Edit, ...] = field(default=())

    @property
    def times_s(self) -> np.ndarray:
        """Time of every step, (T,) float64."""
        return self.start_s + np.arange(len(self.valid)) / STEP_HZ

    @cached_property
    def _table(self) -> np.ndarray:
        return table(self.edits)

    def steps(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the times (N,) of some steps and the mouth then, (N, 40, 3), edits carried out."""
        times_s = self.start_s + np.arange(first, end) / STEP_HZ
        xyz, factor, neutral = self.xyz[first:end], factors(self._table, times_s), self.speaker.neutral
        xyz = held(self.edits, self, times_s, xyz)
        changed = factor != 1
        if changed.any():
            moved = (xyz[changed] - neutral) * factor[changed, None, None].astype(np.float32)
            xyz = xyz.copy()
            xyz[changed] = neutral + moved
        return times_s, xyz

    def at(self, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mouth at any times (F,): shapes (F, 40, 3), and where they are valid (F,).

        Only the steps from the earliest to the latest of the times are read.
        """
        step, count, around = (times_s - self.start_s) * STEP_HZ, len(self.valid), math.ceil(LONGEST_GAP_S * STEP_HZ)
        first = int(np.clip(np.floor(step.min(initial=count)) - around, 0, count))
        end = int(np.clip(np.ceil(step.max(initial=0)) + around, first, count))
        known_s, xyz = self.steps(first, end)
        return interpolate(known_s, xyz, self.valid[first:end], times_s)

    def measure(self, each: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Measure something of the mouths (N, 40, 3) of every step, edits carried out, block by block."""
        blocks = range(0, max(len(self.valid), 1), BLOCK)
        return np.concatenate([each(self.steps(k, min(k + BLOCK, len(self.valid)))[1]) for k in blocks])

    def on(self, speaker: Speaker) -> MouthTrack:
        """Return the same movement on another person's mouth, in their range of opening."""
        scale = self.speaker.scale or speaker.scale or 1.0
        blocks = (self.xyz[k : k + BLOCK] for k in range(0, len(self.valid), BLOCK))
        placed = store_mouths(speaker.place(self.speaker.normalise(xyz, scale), scale) for xyz in blocks)
        return replace(self, xyz=placed, speaker=speaker)

    def as_written(self) -> MouthTrack:
        """Return the track as it is read again once it was saved: with its numbers rounded."""
        blocks = (self.xyz[k : k + BLOCK] for k in range(0, len(self.valid), BLOCK))
        neutral = _round(self.speaker.neutral).astype(np.float32)
        return replace(self, xyz=store_mouths(map(_round, blocks)), speaker=replace(self.speaker, neutral=neutral))

    def save(self, path: Path) -> None:
        """Write the track as JSON (format ``lipwright-mouth``, version 1), whole or not at all."""
        times_s = self.times_s
        head = {
            "format": "lipwright-mouth",
            "version": 1,
            "step_hz": STEP_HZ,
            "start_s": self.start_s,
            "points": LIPS.tolist(),
            "neutral": _rounded(self.speaker.neutral),
            "scale": self.speaker.scale,
            "neutral_estimated": self.speaker.neutral_estimated,
            "edits": [vars(edit.bounded(times_s[0], times_s[-1])) for edit in self.edits],
            "valid": self.valid.tolist(),
        }
        with whole_file(path) as partial, partial.open("w") as out:
            out.write(f'{_json(head)[:-1]},"xyz":[')
            for k in range(0, len(self.valid), BLOCK):
                known = np.where(self.valid[k : k + BLOCK, None, None], self.xyz[k : k + BLOCK], 0)
                out.write(("," if k else "") + _json(_rounded(known))[1:-1])
            out.write("]}")


def _json(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def _rounded(values: np.ndarray) -> list[Any]:
    return _round(values).tolist()


def _round(values: np.ndarray) -> np.ndarray:
    return np.round(values.astype(np.float64), 5)


def store_mouths(blocks: Iterable[np.ndarray]) -> Rows:
    """Keep mouths (N, 40, 3) that come block by block on disk, as rows (T, 40, 3) float32."""
    store, count = Store.scratch(), 0
    for block in blocks:
        store.append(block.astype(np.float32))
        count += len(block)
    return Rows(store, np.arange(count), (POINTS, 3), start=0, stride=4 * 3 * POINTS)


def track_of(track: FaceTrack) -> MouthTrack:
    """Measure the mouth of a face track on the 100 Hz grid, from time zero to the last frame."""
    mouth = measure_mouth(track)
    steps = np.arange(int(track.times_s[-1] * STEP_HZ) + 1) / STEP_HZ
    xyz, valid = interpolate(track.times_s, mouth, track.found, steps)
    return MouthTrack(xyz, valid, measure_speaker(mouth))


def load_track(path: Path) -> MouthTrack:
    """Read a mouth track file.

    Raises
    ------
    TrackError
        The file is missing, is not such a file, or its arrays do not fit together.
    """
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise TrackError(f"{path} does not exist; write one with lipwright export --format track") from None
    except (OSError, ValueError) as error:
        raise TrackError(f"{path} is not a mouth track: no JSON text ({error})") from None
    if not isinstance(document, dict) or document.get("format") != "lipwright-mouth":
        raise TrackError(f'{path} is not a mouth track: it lacks "format": "lipwright-mouth"')
    if document.get("version") != 1 or document.get("step_hz") != STEP_HZ or document.get("points") != LIPS.tolist():
        raise TrackError(
            f"{path} is a mouth track of version {document.get('version')} at {document.get('step_hz')} Hz; "
            f"this Lipwright reads version 1 at {STEP_HZ} Hz with its own 40 points"
        )
    try:
        xyz = _array(document["xyz"], (-1, POINTS, 3))
        neutral = _array(document["neutral"], (POINTS, 3))
        valid = np.array(document["valid"])
        if valid.dtype.kind not in "bi":
            raise ValueError("valid is not a list of true and false")
        scale = None if document["scale"] is None else _number(document["scale"])
        if scale is not None and scale <= 0:
            raise ValueError(f"scale is {scale}; give a positive number or null")
        edits = tuple(_edit(fields) for fields in document.get("edits", []))
        start_s = _number(document["start_s"])
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise TrackError(f"{path}: the mouth track's fields do not hold what they should ({error!r})") from None
    if valid.shape != (len(xyz),) or len(xyz) == 0 or not (np.isfinite(xyz).all() and np.isfinite(neutral).all()):
        raise TrackError(f"{path}: xyz has {len(xyz)} steps, valid {valid.size}; they must agree, and be finite numbers")
    speaker = Speaker(neutral, scale, bool(document.get("neutral_estimated")))
    return MouthTrack(xyz, valid.astype(bool), speaker, start_s, edits)


def _array(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(values, np.float32)
    if array.ndim != len(shape) or any(want not in (-1, have) for have, want in zip(array.shape, shape, strict=True)):
        raise ValueError(f"expected shape {shape}, got {array.shape}")
    return array


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _edit(fields: Any) -> Edit:
    edit = Edit(**fields)
    for name in ("closed", "hold"):
        if not isinstance(value := getattr(edit, name), bool):
            raise ValueError(f"{name} is {value!r}; give true or false")
    return Edit(_number(edit.start_s), _number(edit.end_s), _number(edit.gain), edit.closed, edit.hold)
