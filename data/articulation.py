"""Phones to mouth by rule: targets a phone, blended over time; and the lips' contours for such a mouth.

Every phone pulls the mouth towards its target with a *dominance* that rises before it and fades after it (Cohen and
Massaro, *Modeling coarticulation in synthetic visual speech*, 1993): the phone's box in time, convolved with a
gaussian. The mouth is the dominance-weighted mean of all targets, so a ``t`` takes the rounding of the vowels
beside it while a ``w`` keeps its own. Where the lips must meet (p, b, m) they do, however fast the speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lipwright.data.speech import SILENCE, Phone

COLUMNS = ("aperture", "width", "rounding", "tuck", "jaw")
"""Columns of `articulate`.

``aperture``: gap between the inner lips; ``width``: mouth corner to mouth corner; both as shares of the distance
between the outer eye corners, as a face track measures them. ``rounding``: 0 flat to 1 lips pushed forward into a
ring. ``tuck``: 0 to 1, lower lip under the upper teeth (f, v). ``jaw``: 0 teeth together to 1 dropped as for "ah".
"""
RANGES = ((0.0, 0.34), (0.44, 0.68), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
"""Least and greatest value of each column."""
REST_WIDTH = 0.59
"""Width of the closed mouth at rest."""

# Numbers of MediaPipe's face points, from the image's left to its right: the outer, then the inner contour of a lip.
UPPER_LIP = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291], [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_LIP = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291], [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]

LEAD_S = 0.020
"""The mouth runs this far ahead of the sound."""
SIGMA_S = 0.050
"""Standard deviation of the gaussian by which a phone reaches beyond its own time."""
_CLOSURE_CORE = 0.4  # share of a closing phone, round its middle, during which the lips stay together
_CLOSURE_RAMP_S = 0.075  # time in which the lips come together and part again
_REST_S = 0.25  # a silence must last this long before the mouth comes fully to rest


@dataclass(frozen=True)
class Target:
    """Where one class of sounds pulls the mouth, and how strongly."""

    aperture: float
    width: float = REST_WIDTH
    rounding: float = 0.0
    tuck: float = 0.0
    jaw: float = 0.2
    pull_aperture: float = 1.0
    """Weight of `aperture`, `tuck` and `jaw` against the neighbours' targets."""
    pull_shape: float = 1.0
    """Weight of `width` and `rounding`."""
    seal: float = 0.0
    """Share by which the gap closes in the middle of the sound, whatever the neighbours: 1 where the lips must meet."""


TARGETS: dict[str, Target] = {
    "rest": Target(0.00, jaw=0.02, pull_aperture=2.5),
    # vowels
    "ah": Target(0.33, 0.60, 0.00, jaw=1.00, pull_aperture=1.5),
    "ae": Target(0.27, 0.63, 0.00, jaw=0.80, pull_aperture=1.4),
    "uh": Target(0.23, 0.59, 0.05, jaw=0.65, pull_aperture=1.1),
    "aw": Target(0.26, 0.53, 0.50, jaw=0.80, pull_aperture=1.4, pull_shape=1.5),
    "eh": Target(0.19, 0.63, 0.00, jaw=0.50, pull_aperture=1.1),
    "ih": Target(0.12, 0.64, 0.00, jaw=0.28),
    "ee": Target(0.10, 0.67, 0.00, jaw=0.18, pull_shape=1.5),
    "er": Target(0.12, 0.54, 0.40, jaw=0.30),
    "schwa": Target(0.12, 0.59, 0.05, jaw=0.32, pull_aperture=0.6, pull_shape=0.3),
    "oh": Target(0.17, 0.50, 0.75, jaw=0.50, pull_aperture=1.2, pull_shape=1.6),
    "oo": Target(0.07, 0.46, 1.00, jaw=0.25, pull_aperture=1.2, pull_shape=2.0),
    "uu": Target(0.10, 0.51, 0.65, jaw=0.30, pull_shape=1.2),
    # consonants
    "bilabial": Target(0.00, 0.58, 0.00, jaw=0.12, pull_aperture=1.5, pull_shape=0.3, seal=1.0),
    "labiodental": Target(0.035, 0.59, 0.00, tuck=1.0, jaw=0.12, pull_aperture=2.5, pull_shape=0.5, seal=0.5),
    "dental": Target(0.075, 0.60, 0.00, jaw=0.22, pull_aperture=1.2, pull_shape=0.3),
    "alveolar": Target(0.075, 0.60, 0.00, jaw=0.18, pull_aperture=0.9, pull_shape=0.2),
    "sibilant": Target(0.060, 0.62, 0.00, jaw=0.04, pull_aperture=1.6, pull_shape=0.4),
    "hush": Target(0.085, 0.51, 0.65, jaw=0.06, pull_aperture=1.6, pull_shape=1.2),
    "lateral": Target(0.110, 0.60, 0.00, jaw=0.30, pull_aperture=0.8, pull_shape=0.2),
    "velar": Target(0.100, 0.60, 0.00, jaw=0.28, pull_aperture=0.6, pull_shape=0.1),
    "glide-w": Target(0.035, 0.45, 1.00, jaw=0.18, pull_aperture=1.8, pull_shape=2.2),
    "glide-r": Target(0.080, 0.53, 0.50, jaw=0.22, pull_shape=0.9),
    "glide-j": Target(0.080, 0.65, 0.00, jaw=0.18, pull_shape=0.8),
    "breath": Target(0.130, 0.60, 0.00, jaw=0.40, pull_aperture=0.3, pull_shape=0.05),
}
"""Classes of sounds. `articulate` takes an unknown phone for ``"schwa"``: half open, easily overruled."""

_ESPEAK = {
    "rest": SILENCE,
    "ah": "a: A: A A# aa A@ 0 0# Q",
    "ae": "a a# &",
    "uh": "V V# @L",
    "aw": "O O: O2 O@",
    "eh": "E E# E2 e e: e@ @5",
    "ih": "I I# I2 y Y",
    "ee": "i i: I~",
    "er": "3 3: R",
    "schwa": "@ @2 @- 3-",
    "oh": "o o: o@",
    "oo": "u u:",
    "uu": "U U#",
    "bilabial": "p b m m-",
    "labiodental": "f v",
    "dental": "T D",
    "alveolar": "t d n n- t2 t# *",
    "sibilant": "s z ts dz",
    "hush": "tS dZ S Z",
    "lateral": "l l- l^",
    "velar": "k g N x Q^",
    "glide-w": "w w#",
    "glide-r": "r r- r/",
    "glide-j": "j ;",
    "breath": "h ? H",
}
_GLIDING = {  # sounds that move from one target to the next
    "aI": "ah ih", "aI@": "ah ih schwa", "aI3": "ah ih er", "aU": "ah uu", "aU@": "ah uu schwa", "OI": "aw ih",
    "eI": "eh ee", "oU": "oh oo", "i@": "ee schwa", "i@3": "ee er", "U@": "uu er", "e@": "eh er", "O@": "aw er",
    "A@": "ah er", "o@": "oh er", "@L": "schwa lateral", "ju:": "glide-j oo",
}  # fmt: skip
PHONES: dict[str, tuple[str, ...]] = {
    **{name: (target,) for target, names in _ESPEAK.items() for name in names.split()},
    **{name: tuple(targets.split()) for name, targets in _GLIDING.items()},
}
"""The targets that each of eSpeak's English phones passes through, in equal parts of its time."""


def articulate(phones: Sequence[Phone], times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mouth at the given times.

    Parameters
    ----------
    phones
        Phones end to end, as `lipwright.data.speech.synthesize` gives them.
    times_s
        (T,) seconds on the phones' clock, in any order. Before the first and after the last phone the mouth is at
        rest.

    Returns
    -------
    NDArray[np.float32]
        (T, 5), the columns that `COLUMNS` names, inside `RANGES`.

    Raises
    ------
    ValueError
        `times_s` is not one-dimensional.

    Examples
    --------
    >>> mouth = articulate([Phone("m", 0.0, 0.1), Phone("A:", 0.1, 0.3)], np.array([0.03, 0.18]))
    >>> bool(mouth[0, 0] < 0.01 and mouth[1, 0] > 0.15)
    True
    """
    if times_s.ndim != 1:
        raise ValueError(f"Expected one-dimensional times, got {times_s.shape = }.")
    heard_s = np.asarray(times_s, np.float64) + LEAD_S
    spans = _spans(phones)
    targets = [TARGETS[target] for target, _, _ in spans]
    starts_s, ends_s = np.array([(start, end) for _, start, end in spans]).T  # (S,) each

    dominance = _box_through_gaussian(heard_s[:, None], starts_s, ends_s)  # (T, S)
    values = np.array([(t.aperture, t.width, t.rounding, t.tuck, t.jaw) for t in targets])  # (S, 5)
    pulls = np.array([(t.pull_aperture, t.pull_shape) for t in targets])[:, [0, 1, 1, 0, 0]]  # (S, 5)
    # A short silence between words is no rest: it pulls in proportion to its length.
    short = np.array([name == "rest" for name, _, _ in spans]) & (ends_s - starts_s < _REST_S)
    pulls[short] *= ((ends_s - starts_s)[short] / _REST_S)[:, None]
    mouth = (dominance @ (pulls * values)) / (dominance @ pulls)  # (T, 5)

    for target, start_s, end_s in zip(targets, starts_s, ends_s, strict=True):
        if target.seal:
            mouth[:, 0] *= 1.0 - target.seal * _closure(heard_s, start_s, end_s)
    lowest, highest = np.array(RANGES).T
    return np.clip(mouth, lowest, highest).astype(np.float32)


class Lips:
    """The lips of one person: their contours for any row of `articulate`.

    Parameters
    ----------
    face
        (478, 2) landmarks in a frame with its origin between the mouth corners, x along the line of the eyes and y
        down, in distances between the outer eye corners. The mouth may smile.
    """

    def __init__(self, face: NDArray[np.float64]) -> None:
        half, half_inner = 0.5 * (face[291, 0] - face[61, 0]), 0.5 * (face[308, 0] - face[78, 0])
        self._inner_share = half_inner / half
        self._forms = []  # of each lip: x of its outer and inner contour in half widths, thickness
        for outer, inner in (UPPER_LIP, LOWER_LIP):
            inner_x = (face[inner, 0] - 0.5 * (face[78, 0] + face[308, 0])) / half_inner
            self._forms.append((face[outer, 0] / half, inner_x, np.abs(face[inner, 1] - face[outer, 1])))

    def contours(self, mouth: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Upper and lower lip for one row of `articulate`, in the frame of `face`.

        Returns two (22, 2): 11 points of the outer, then 11 of the inner contour, as `UPPER_LIP` and `LOWER_LIP` order
        them.
        """
        aperture, width, rounding, tuck, _ = mouth.tolist()
        # A face track sees a rounded mouth more open than it is; commanded and measured aperture are to agree.
        half, gap = 0.5 * width, aperture * (1.0 - 0.3 * rounding)
        half_inner = half * self._inner_share * (1.0 - 0.15 * rounding)
        rise = gap * (0.18 + 0.5 * tuck)  # the upper lip's part of the gap
        # A narrower mouth has fuller lips than a smile.
        full = (REST_WIDTH / width) ** 0.5 * (1.0 + 0.1 * rounding) * (1.0 - 0.4 * aperture)
        full_upper, full_lower = 1.5 * full, 1.15 * full * (1.0 - 0.4 * tuck)

        def seam(x: NDArray[np.float64]) -> NDArray[np.float64]:
            """Height at which the closed lips meet: a little lower in the middle than at the corners."""
            s2 = np.clip(x / half, -1.0, 1.0) ** 2
            middle = 0.135 + 0.02 * rounding - 0.015 * tuck
            return np.asarray(middle - 0.05 * (1.0 - rounding) * s2 + 0.12 * gap * s2)

        lips = []
        for (outer, inner, thick), move, swell in zip(self._forms, (-rise, gap - rise), (-full_upper, full_lower), strict=True):
            inner_x, outer_x = inner * half_inner, outer * half
            inner_y = seam(inner_x) + move * np.clip(1.0 - inner**2, 0.0, 1.0) ** (0.75 - 0.25 * rounding)
            outer_y = inner_y + swell * thick
            outer_y[[0, -1]] = seam(outer_x[[0, -1]])
            lips.append(np.column_stack([np.r_[outer_x, inner_x], np.r_[outer_y, inner_y]]))
        return lips[0], lips[1]


def _spans(phones: Sequence[Phone]) -> list[tuple[str, float, float]]:
    """(target, start, end in seconds) of every part of every phone, between endless rests."""
    first_s, last_s = (phones[0].start_s, phones[-1].end_s) if phones else (0.0, 0.0)
    spans = [("rest", -np.inf, first_s)]
    for phone in phones:
        names = PHONES.get(phone.name, ("schwa",))
        edges = np.linspace(phone.start_s, phone.end_s, len(names) + 1)
        spans += zip(names, edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [*spans, ("rest", last_s, np.inf)]


def _box_through_gaussian(
    times_s: NDArray[np.float64], starts_s: NDArray[np.float64], ends_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of a gaussian round each time that falls between start and end. Over spans end to end it sums to 1."""
    from scipy.special import ndtr

    return np.asarray(ndtr((ends_s - times_s) / SIGMA_S) - ndtr((starts_s - times_s) / SIGMA_S))


def _closure(times_s: NDArray[np.float64], start_s: float, end_s: float) -> NDArray[np.float64]:
    """1 in the middle of a closing phone, falling smoothly to 0 on both sides."""
    core_s = 0.5 * _CLOSURE_CORE * (end_s - start_s)
    away = np.clip((np.abs(times_s - 0.5 * (start_s + end_s)) - core_s) / _CLOSURE_RAMP_S, 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * away))
