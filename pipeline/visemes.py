"""Sound and mouth → visemes: which of a few mouths is shown when, for rigs that have them drawn or modelled.

The base model tells 29 classes of sounds apart (`lipwright.data.articulation.CLASSES`); each class stands for a viseme of
every set by the set's own published table. A mouth that was measured in a video has a say beside the sound: how well each
class's target explains its opening and its width. What a predicted mouth could add, the sound has said already. All of it was
measured: `docs/formats.md`, "Visemes".
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data.articulation import CLASSES, LEAD_S, REST_WIDTH, TARGETS
from lipwright.data.audio import Speech
from lipwright.data.features import STEP_HZ, compute_features
from lipwright.data.mouth import MouthTrack, aperture, width
from lipwright.models.metrics import CLOSED_SHARE
from lipwright.pipeline.predict import base_model, feature_settings

HOLD_S = 0.06
"""No mouth is shown for less: longer ones lose closed lips, shorter ones flutter (`docs/formats.md`)."""

LATER_S = 0.01
"""A live viseme is chosen when so much after it is known: more makes it likelier the offline one, and hardly a righter one
(`docs/streaming.md`)."""

FAVOUR = 2.0
"""Closed lips count so much more than other mouths where one is to be held: they are short, and missed most when they lack."""

APERTURE_SD, WIDTH_SD = 0.20, 0.25
"""How far a mouth is from the target of the sound that is heard, in ranges of opening. Twice as far would be truer of speech,
but of a mouth that was filmed, people see where it is open and where it is shut."""

_NEVER = 1e-3
"""A sound that the base model thinks impossible may be one all the same."""

LONGEST_CLOSURE_S = 0.2
"""Nobody keeps the lips together for longer within a p, b or m."""

_VOWELS = {"ah": "aa", "ae": "aa", "uh": "aa", "aw": "oh", "eh": "E", "ih": "ih", "ee": "ih", "er": "RR", "schwa": "E"}
_ROUNDED = {"oh": "oh", "oe": "E", "oo": "ou", "ue": "ih", "uu": "ou"}
_CONSONANTS = {
    "bilabial": "PP", "near-bilabial": "PP", "labiodental": "FF", "dental": "TH", "alveolar": "DD DD nn", "sibilant": "SS",
    "hush": "CH", "lateral": "nn", "velar": "kk", "glide-w": "ou", "glide-r": "RR", "glide-j": "ih", "breath": "E",
}  # fmt: skip


@dataclass(frozen=True)
class VisemeSet:
    """A set of visemes.

    Attributes
    ----------
    names
        Of its visemes, in its own order.
    closed
        Which of them has its lips pressed together.
    of_sound
        By class of sounds, the viseme that stands for it; several, between blanks, where the class holds sounds of each.
    """

    names: tuple[str, ...]
    closed: str
    of_sound: Mapping[str, str]

    def weigh(self, sounds: np.ndarray) -> np.ndarray:
        """Return how much of each viseme is shown, (T, V), for probabilities (T, C) of the classes of sounds."""
        table = np.zeros((len(CLASSES), len(self.names)), np.float32)
        for row, name in zip(table, CLASSES, strict=True):
            shown = self.of_sound[name].split()
            for viseme in shown:
                row[self.names.index(viseme)] += 1 / len(shown)
        return np.asarray(sounds @ table)

    def choose(self, sounds: np.ndarray, least_steps: int, favour: float = FAVOUR) -> np.ndarray:
        """Return the one viseme that is shown at each step, (T,), none for fewer than some steps (`hold_visemes`)."""
        return hold_visemes(self.favoured(sounds, favour), least_steps)

    def favoured(self, sounds: np.ndarray, favour: float = FAVOUR) -> np.ndarray:
        """Return the weights (T, V) that a choice is made by: those of `weigh`, of closed lips so many times as much."""
        weights = self.weigh(sounds)
        weights[:, self.names.index(self.closed)] *= favour
        return weights


OCULUS = VisemeSet(
    ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou"),
    "PP",
    {"rest": "sil", "parted": "sil"} | _VOWELS | _ROUNDED | _CONSONANTS,
)
"""The 15 visemes of Oculus (Meta) Lipsync, by its viseme reference, after MPEG-4."""

RHUBARB = VisemeSet(
    ("A", "B", "C", "D", "E", "F", "G", "H", "X"),
    "A",
    {
        "rest": "X", "parted": "X", "ah": "D", "ae": "C", "uh": "C", "aw": "E", "eh": "C", "ih": "B", "ee": "B", "er": "E",
        "schwa": "B C", "oh": "E", "oo": "F", "oe": "E", "ue": "F", "uu": "F", "bilabial": "A", "near-bilabial": "A",
        "labiodental": "G", "dental": "B", "alveolar": "B", "sibilant": "B", "hush": "B F", "lateral": "H", "velar": "B C",
        "glide-w": "F", "glide-r": "B E F", "glide-j": "B", "breath": "C",
    },
)  # fmt: skip
"""The mouths of Rhubarb Lip Sync, by its README and its rules for phones."""

PRESTON_BLAIR = VisemeSet(
    ("AI", "E", "O", "U", "etc", "L", "WQ", "MBP", "FV", "rest"),
    "MBP",
    {
        "rest": "rest", "parted": "rest", "ah": "AI", "ae": "AI", "uh": "AI", "aw": "O", "eh": "E", "ih": "AI", "ee": "E",
        "er": "E", "schwa": "AI", "oh": "O", "oo": "U", "oe": "E", "ue": "U", "uu": "U", "bilabial": "MBP",
        "near-bilabial": "MBP", "labiodental": "FV", "dental": "etc", "alveolar": "etc", "sibilant": "etc", "hush": "etc",
        "lateral": "L", "velar": "etc", "glide-w": "WQ", "glide-r": "etc", "glide-j": "etc", "breath": "etc",
    },
)  # fmt: skip
"""The ten mouths of Preston Blair, as Papagayo and Moho name them, by Papagayo's table for phones."""


def tell_sounds(samples: Speech, steps: int) -> np.ndarray:
    """Return which class of sound is heard, (T, C): the base model's probabilities; in silence after the sound, rest.

    Parameters
    ----------
    samples : Speech, shape (N,)
        16 kHz mono.
    steps
        `T`.
    """
    lipsync = base_model()
    with threadpool_limits(1):
        told = lipsync.predict_sounds(compute_features(samples, feature_settings(lipsync)))[:steps]
    rest = np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index("rest")]]
    return np.concatenate([told, rest.repeat(steps - len(told), 0)])


def explain_mouth(mouth: MouthTrack) -> np.ndarray:
    """Return how well each class of sounds explains a measured mouth, (T, C) log-likelihoods; 0 where it was not seen.

    The mouth runs ahead of the sound (`LEAD_S`): step t is explained by the mouth of t − `LEAD_S`.
    """
    speaker = mouth.speaker
    if speaker.scale is None:
        return np.zeros((len(mouth.valid), len(CLASSES)), np.float32)
    opening, spread = ((mouth.measure(each) - each(speaker.neutral)) / speaker.scale for each in (aperture, width))
    # As `Lips.contours` draws them, in the range of the mouths that the base model learned from.
    targets = [(t.aperture * (1 - 0.3 * t.rounding), t.width - REST_WIDTH) for t in TARGETS.values()]
    apertures, widths = np.array(targets).T / base_model().config.scale
    away = ((opening[:, None] - apertures) / APERTURE_SD) ** 2 + ((spread[:, None] - widths) / WIDTH_SD) ** 2
    return _heard_later(np.where(mouth.valid[:, None], -0.5 * away, 0.0)).astype(np.float32)


def judge_sounds(sounds: np.ndarray | None, mouth: MouthTrack | None) -> np.ndarray:
    """Return the probabilities (T, C) of the classes of sounds by what is heard, by what a measured mouth shows, or by both.

    Without sound, closed lips are those of a p, b or m if they part soon, and else at rest; what was not seen is at rest, too.
    """
    if mouth is None:
        assert sounds is not None
        return sounds
    explained = explain_mouth(mouth)
    log = explained + (0.0 if sounds is None else np.log(sounds + _NEVER))
    likely = np.exp(log - log.max(1, keepdims=True))
    if sounds is None:
        rest, bilabial = np.eye(len(CLASSES))[[CLASSES.index("rest"), CLASSES.index("bilabial")]]
        likely[~explained.any(1)] = rest
        opening = mouth.measure(aperture) - aperture(mouth.speaker.neutral)
        closed = _heard_later(mouth.valid & (opening < CLOSED_SHARE * (mouth.speaker.scale or 0)))
        for start, end in np.flatnonzero(np.diff(closed, prepend=False, append=False)).reshape(-1, 2):
            likely[start:end] = rest if end - start > LONGEST_CLOSURE_S * STEP_HZ else bilabial
    return np.asarray(likely / likely.sum(1, keepdims=True), np.float32)


def _heard_later(seen: np.ndarray) -> np.ndarray:
    """Bring what was seen, (T, …), to the time at which it is heard; before the first of it are zeros."""
    lead = min(round(LEAD_S * STEP_HZ), len(seen))
    return np.concatenate([np.zeros_like(seen[:lead]), seen[: len(seen) - lead]])


SETS = {"rhubarb": RHUBARB, "oculus": OCULUS, "preston-blair": PRESTON_BLAIR}


class HeldVisemes:
    """One viseme for every step, chosen while their weights come in, none of them shown for fewer than some steps.

    Parameters
    ----------
    visemes
        `V`, how many there are to choose from.
    least_steps
        For how many steps each is shown at least; from 1 on.
    later_steps
        A step's viseme is chosen when so many steps after it are known; None: when all are.

    Notes
    -----
    Viterbi's algorithm (1967). A course is in one of `least_steps` states of each viseme: shown for 1, 2, … or at least so many
    steps; from the last of them alone it may go on to another viseme. What has been said stays said: courses that had another
    state then are given up, so that what comes out is one course whose visemes are all held.
    """

    def __init__(self, visemes: int, least_steps: int, later_steps: int | None = None) -> None:
        self._later = later_steps
        self._score = np.full((least_steps, visemes), -np.inf)  # of the best course to each state
        self._from = deque[np.ndarray]()  # by step that is not said yet: the state before each state
        self._begun = False

    def push(self, weights: np.ndarray) -> np.ndarray:
        """Take the weights (n, V) of the next steps; return the visemes, int64, of those that are chosen by now."""
        said = []
        for log in np.log(weights.astype(np.float64) + _NEVER):
            self._go_on(log)
            if self._later is not None and len(self._from) > self._later:
                said.append(self._say_oldest())
        return np.array(said, np.int64)

    def finish(self) -> np.ndarray:
        """Return the visemes of the steps that are left."""
        least, visemes = self._score.shape
        whole = self._score[-1].max() > -np.inf  # else there are fewer steps than a viseme is shown for
        state = (least - 1) * visemes + int(self._score[-1].argmax()) if whole else int(self._score.argmax())
        said = []
        while self._from:
            said.append(state % visemes)
            state = int(self._from.pop()[state])
        return np.array(said[::-1], np.int64)

    def _go_on(self, log: np.ndarray) -> None:
        """Lead the courses on by a step whose visemes are so likely."""
        least, visemes = self._score.shape
        states = np.arange(least * visemes, dtype=np.int16).reshape(least, visemes)
        before, score = np.empty_like(states), np.empty_like(self._score)
        best = int(self._score[-1].argmax())
        before[1:], score[1:] = states[:-1], self._score[:-1]
        before[0], score[0] = states[-1, best], self._score[-1, best] if self._begun else 0.0
        stay = self._score[-1] >= score[-1]
        before[-1], score[-1] = np.where(stay, states[-1], before[-1]), np.where(stay, self._score[-1], score[-1])
        self._score, self._begun = score + log, True
        self._from.append(before.ravel())

    def _say_oldest(self) -> int:
        """Choose the viseme of the oldest step that is left: that of the course that is the best by now."""
        ancestors = np.arange(self._score.size)
        for before in itertools.islice(reversed(self._from), len(self._from) - 1):
            ancestors = before[ancestors]
        chosen = ancestors[self._score.argmax()]
        self._score.ravel()[ancestors != chosen] = -np.inf
        self._from.popleft()
        return int(chosen) % self._score.shape[1]


def hold_visemes(weights: np.ndarray, least_steps: int) -> np.ndarray:
    """Choose one viseme for every step so that none is shown for fewer than some steps, and all together are likeliest.

    Parameters
    ----------
    weights : ndarray, shape (T, V)
        How likely each is; they need not sum to 1.
    least_steps
        From 1 on. What is shorter than that as a whole gets one viseme.

    Returns
    -------
    ndarray, shape (T,), int64
    """
    held = HeldVisemes(weights.shape[1], least_steps)
    held.push(weights)
    return held.finish()


@dataclass(frozen=True)
class Cue:
    """One viseme, and the time it is shown."""

    start_s: float
    end_s: float
    name: str


def cues_of(viseme_set: VisemeSet, sounds: np.ndarray, hold_s: float = HOLD_S) -> list[Cue]:
    """Return what is shown when, end to end from 0 on: the step before the last ends it, (T − 1) / 100 s, and no cue twice."""
    shown = viseme_set.choose(sounds[: max(len(sounds) - 1, 1)], round(hold_s * STEP_HZ))
    edges = [0, *(np.flatnonzero(np.diff(shown)) + 1).tolist(), len(shown)]
    return [Cue(start / STEP_HZ, end / STEP_HZ, viseme_set.names[shown[start]]) for start, end in itertools.pairwise(edges)]
