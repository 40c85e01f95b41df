"""Phones to mouth by rule: targets a phone, blended over time; and the lips' contours for such a mouth.

Every phone pulls the mouth towards its target with a *dominance* that rises before it and fades after it (Cohen and
Massaro, *Modeling coarticulation in synthetic visual speech*, 1993): the phone's box in time, convolved with a
gaussian. The mouth is the dominance-weighted mean of all targets, so a ``t`` takes the rounding of the vowels
beside it while a ``w`` keeps its own. Where the lips must meet (p, b, m) they do, however fast the speech.
"""

from __future__ import annotations

import unicodedata
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

PROTRUSION = 0.12
"""How far lips that are pushed forward into a ring come, in distances between the outer eye corners."""
CURVE = -0.15
"""How far the corners of the mouth lie behind its middle."""

LEAD_S = 0.060
"""The mouth runs this far ahead of the sound."""
SIGMA_S = 0.050
"""Standard deviation of the gaussian by which a phone reaches beyond its own time."""
_CLOSURE_CORE = 0.4  # share of a closing phone, round its middle, during which the lips stay together
_CLOSURE_RAMP_S = 0.075  # time in which the lips come together and part again
_PAUSE_S = 0.25  # a shorter silence between sounds pulls in proportion to its length
_REST_S = 0.6  # in a shorter one breath is drawn, through parted lips; in a longer one the mouth comes to rest
_PARTING_S = 0.2  # and is parted still, and again, so long after the sound before and before the sound after


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
    "parted": Target(0.05, jaw=0.12),
    # vowels
    "ah": Target(0.33, 0.60, 0.00, jaw=1.00, pull_aperture=1.5),
    "ae": Target(0.27, 0.63, 0.00, jaw=0.80, pull_aperture=1.4),
    "uh": Target(0.23, 0.59, 0.05, jaw=0.65, pull_aperture=1.1),
    "aw": Target(0.22, 0.53, 0.50, jaw=0.80, pull_aperture=1.4, pull_shape=1.5),
    "eh": Target(0.19, 0.63, 0.00, jaw=0.50, pull_aperture=1.1),
    "ih": Target(0.145, 0.64, 0.00, jaw=0.28),
    "ee": Target(0.115, 0.67, 0.00, jaw=0.18, pull_shape=1.5),
    "er": Target(0.12, 0.54, 0.40, jaw=0.30),
    "schwa": Target(0.12, 0.59, 0.05, jaw=0.32, pull_aperture=0.6, pull_shape=0.3),
    "oh": Target(0.145, 0.50, 0.75, jaw=0.50, pull_aperture=1.2, pull_shape=1.6),
    "oo": Target(0.07, 0.46, 1.00, jaw=0.25, pull_aperture=1.2, pull_shape=2.0),
    "oe": Target(0.15, 0.52, 0.65, jaw=0.42, pull_aperture=1.1, pull_shape=1.5),
    "ue": Target(0.07, 0.48, 0.95, jaw=0.20, pull_aperture=1.2, pull_shape=1.9),
    "uu": Target(0.08, 0.51, 0.65, jaw=0.30, pull_shape=1.2),
    # consonants
    "bilabial": Target(0.00, 0.58, 0.00, jaw=0.12, pull_aperture=1.5, pull_shape=0.3, seal=1.0),
    "near-bilabial": Target(0.030, 0.58, 0.00, jaw=0.15, pull_aperture=1.6, pull_shape=0.4, seal=0.3),
    "labiodental": Target(0.055, 0.59, 0.00, tuck=1.0, jaw=0.12, pull_aperture=2.5, pull_shape=0.5, seal=0.5),
    "dental": Target(0.075, 0.60, 0.00, jaw=0.22, pull_aperture=1.2, pull_shape=0.3),
    "alveolar": Target(0.090, 0.60, 0.00, jaw=0.18, pull_aperture=0.9, pull_shape=0.2),
    "sibilant": Target(0.060, 0.62, 0.00, jaw=0.04, pull_aperture=1.6, pull_shape=0.4),
    "hush": Target(0.085, 0.51, 0.65, jaw=0.06, pull_aperture=1.6, pull_shape=1.2),
    "lateral": Target(0.110, 0.60, 0.00, jaw=0.30, pull_aperture=0.8, pull_shape=0.2),
    "velar": Target(0.115, 0.60, 0.00, jaw=0.28, pull_aperture=0.6, pull_shape=0.1),
    "glide-w": Target(0.035, 0.45, 1.00, jaw=0.18, pull_aperture=1.8, pull_shape=2.2),
    "glide-r": Target(0.080, 0.53, 0.50, jaw=0.22, pull_shape=0.9),
    "glide-j": Target(0.080, 0.65, 0.00, jaw=0.18, pull_shape=0.8),
    "breath": Target(0.130, 0.60, 0.00, jaw=0.40, pull_aperture=0.3, pull_shape=0.05),
}
"""Classes of sounds, and where each pulls the mouth."""

_IPA = {
    # vowels
    "ah": "a ɑ ɶ",
    "ae": "æ",
    "uh": "ʌ ɐ ɤ",
    "aw": "ɔ ɒ",
    "eh": "ɛ e ε",
    "ih": "ɪ ɨ ɯ ᵻ",
    "ee": "i",
    "er": "ɜ ɚ ɝ",
    "schwa": "ə ɘ",
    "oh": "o",
    "oe": "ø œ ɵ ɞ",
    "oo": "u ʉ",
    "ue": "y",
    "uu": "ʊ ʏ",
    # consonants
    "bilabial": "p b m ɓ",
    "near-bilabial": "β ɸ",
    "labiodental": "f v ʋ ɱ",
    "dental": "θ ð",
    "alveolar": "t d n ɾ r ʈ ɖ ɗ ɳ ɽ",
    "sibilant": "s z ɕ ʑ",
    "hush": "ʃ ʒ ʂ ʐ",
    "lateral": "l ɫ ɭ ʎ ɬ ɮ",
    "velar": "k ɡ ŋ x ɣ q ɢ ɴ ɠ",
    "glide-w": "w ʍ ɥ",
    "glide-r": "ɹ ɻ",
    "glide-j": "j ç ʝ ɟ c ɲ",
    "breath": "h ɦ ħ ʔ ʕ χ ʁ ʀ",
}
LETTERS = {letter: target for target, letters in _IPA.items() for letter in letters.split()}
"""The target that each letter of the International Phonetic Alphabet stands for, in whatever language."""

CLASSES = tuple(TARGETS)
"""The classes of sounds that `sounding` counts by."""

VOWELS = frozenset(["ah", "ae", "uh", "aw", "eh", "ih", "ee", "er", "schwa", "oh", "oe", "oo", "ue", "uu"])

STRESSED = (0.85, 1.0, 1.1)
"""How far a vowel opens the mouth without stress, with a lesser one, with the main stress of its word."""


def targets_of(name: str) -> tuple[str, ...]:
    """Return the targets that a phone passes through, in equal parts of its time: ``"aɪ"`` → ``("ah", "ih")``.

    Letters that say nothing of the lips (length, tone, breath, nasality) are passed over; a phone of none but such is a
    ``"schwa"``: half open, easily overruled.
    """
    letters = unicodedata.normalize("NFD", name)
    return tuple(LETTERS[letter] for letter in letters if letter in LETTERS) or ("schwa",)


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
    >>> mouth = articulate([Phone("m", 0.0, 0.1), Phone("ɑː", 0.1, 0.3)], np.array([0.03, 0.18]))
    >>> bool(mouth[0, 0] < 0.02 and mouth[1, 0] > 0.15)
    True
    """
    if times_s.ndim != 1:
        raise ValueError(f"Expected one-dimensional times, got {times_s.shape = }.")
    heard_s = np.asarray(times_s, np.float64) + LEAD_S
    spans = _spans(phones)
    targets = [TARGETS[target] for target, *_ in spans]
    starts_s, ends_s, opened = np.array([span[1:] for span in spans]).T  # (S,) each

    dominance = _box_through_gaussian(heard_s[:, None], starts_s, ends_s)  # (T, S)
    values = np.array([(t.aperture, t.width, t.rounding, t.tuck, t.jaw) for t in targets])  # (S, 5)
    values[:, [0, 4]] *= opened[:, None]
    pulls = np.array([(t.pull_aperture, t.pull_shape) for t in targets])[:, [0, 1, 1, 0, 0]]  # (S, 5)
    short = np.array([name == "parted" for name, *_ in spans]) & (ends_s - starts_s < _PAUSE_S)
    pulls[short] *= ((ends_s - starts_s)[short] / _PAUSE_S)[:, None]
    mouth = (dominance @ (pulls * values)) / (dominance @ pulls)  # (T, 5)

    for target, start_s, end_s in zip(targets, starts_s, ends_s, strict=True):
        if target.seal:
            mouth[:, 0] *= 1.0 - target.seal * _closure(heard_s, start_s, end_s)
    lowest, highest = np.array(RANGES).T
    return np.clip(mouth, lowest, highest).astype(np.float32)


def sounding(phones: Sequence[Phone], times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which class of sound is heard at each time, as an index of `CLASSES`; ``"rest"`` before and after the phones.

    Parameters
    ----------
    phones
        End to end.
    times_s
        (T,) seconds on the phones' clock. The sound itself, not the mouth that runs ahead of it.
    """
    spans = _spans(phones)
    classes = np.array([CLASSES.index(target) for target, *_ in spans])
    return classes[np.searchsorted([start_s for _, start_s, *_ in spans], times_s, side="right") - 1]


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
        """Upper and lower lip for rows (…, 5) of `articulate`, in the frame of `face`.

        Returns two (…, 22, 2): 11 points of the outer, then 11 of the inner contour, as `UPPER_LIP` and `LOWER_LIP` order
        them.
        """
        aperture, width, rounding, tuck, _ = np.moveaxis(np.asarray(mouth, np.float64), -1, 0)[..., None]  # (…, 1) each
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
            corners = np.s_[..., [0, -1]]
            outer_y[corners] = seam(outer_x)[corners]
            x, y = np.concatenate([outer_x, inner_x], -1), np.concatenate([outer_y, inner_y], -1)
            lips.append(np.stack([x, y], -1))
        return lips[0], lips[1]

    def points(self, mouth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The 40 lip points (`lipwright.data.mouth.LIPS`) for rows (…, 5) of `articulate`, (…, 40, 3).

        The third axis points away from the viewer: rounded lips come forward, the middle more than the corners.
        """
        upper, lower = self.contours(mouth)
        outline = np.concatenate([lower[..., :11, :], upper[..., 9:0:-1, :], lower[..., 11:, :], upper[..., 20:11:-1, :]], -2)
        across = outline[..., 0] / (0.5 * np.asarray(mouth, np.float64)[..., 1, None])
        forward = PROTRUSION * mouth[..., 2, None] * (1 - across**2) + CURVE * across**2
        return np.concatenate([outline, -forward[..., None]], -1).astype(np.float32)


def _spans(phones: Sequence[Phone]) -> list[tuple[str, float, float, float]]:
    """(target, start and end in seconds, how far stress opens it) of every part of every phone, between endless rests."""
    first_s, last_s = (phones[0].start_s, phones[-1].end_s) if phones else (0.0, 0.0)
    spans = [("rest", -np.inf, first_s, 1.0)]
    for phone in phones:
        if phone.name == SILENCE:
            spans += _silence(phone, phone is phones[0], phone is phones[-1])
            continue
        names = targets_of(phone.name)
        edges = np.linspace(phone.start_s, phone.end_s, len(names) + 1).tolist()
        for name, start_s, end_s in zip(names, edges, edges[1:], strict=False):
            spans.append((name, start_s, end_s, STRESSED[phone.stress] if name in VOWELS else 1.0))
    return [*spans, ("rest", last_s, np.inf, 1.0)]


def _silence(phone: Phone, first: bool, last: bool) -> list[tuple[str, float, float, float]]:
    """Spans of a silence: at rest if it is long, or at an end of all that is said; else parted."""
    start_s, end_s = phone.start_s, phone.end_s
    if end_s - start_s < _REST_S and not (first or last):
        return [("parted", start_s, end_s, 1.0)]
    after_s, before_s = (0.0 if first else _PARTING_S), (0.0 if last else _PARTING_S)
    if (length := end_s - start_s) < 2 * (after_s + before_s):
        after_s, before_s = (share * length / 4 for share in (not first, not last))
    edges = (start_s, start_s + after_s, end_s - before_s, end_s)
    names = ("parted", "rest", "parted")
    return [(name, a, b, 1.0) for name, a, b in zip(names, edges, edges[1:], strict=False) if b > a]


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
