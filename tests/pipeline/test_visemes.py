"""Visemes: every class of sounds has one, what is held is the likeliest course, and known speech is shown right."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest

from lipwright.data.articulation import CLASSES, Lips, articulate, sounding
from lipwright.data.mouth import MouthTrack, Speaker, measure_speaker
from lipwright.data.speech import Phone, Speech
from lipwright.data.talker import Talker, astronaut
from lipwright.pipeline.visemes import (
    HOLD_S,
    OCULUS,
    PRESTON_BLAIR,
    RHUBARB,
    VisemeSet,
    cues_of,
    hold_visemes,
    judge_sounds,
    tell_sounds,
)

SETS = {"oculus": OCULUS, "rhubarb": RHUBARB, "preston blair": PRESTON_BLAIR}


def sure_of(*names: str) -> np.ndarray:
    """Return the probabilities (T, C) of who is sure of a class at every step."""
    return np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(name) for name in names]]


@pytest.fixture(scope="module")
def lips() -> Lips:
    """Return the lips of the talking photograph."""
    return Talker.from_photo(astronaut()).lips


@pytest.mark.parametrize("viseme_set", SETS.values(), ids=SETS)
def test_every_class_of_sounds_has_its_viseme_and_every_viseme_a_class(viseme_set: VisemeSet) -> None:
    assert set(viseme_set.of_sound) == set(CLASSES)
    assert {name for shown in viseme_set.of_sound.values() for name in shown.split()} == set(viseme_set.names)
    assert viseme_set.of_sound["bilabial"] == viseme_set.closed
    weights = viseme_set.weigh(np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), 50).astype(np.float32))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("least", [1, 2, 3])
def test_held_visemes_are_the_likeliest_of_all_courses(least: int) -> None:
    rng = np.random.default_rng(least)
    for _ in range(5):
        weights = rng.dirichlet(np.full(3, 0.3), 8)
        log = np.log(weights + 1e-3)
        courses = [c for c in product(range(3), repeat=8) if min(map(len, runs(c))) >= least]
        best = max(courses, key=lambda course: sum(log[t, v] for t, v in enumerate(course)))
        held = hold_visemes(weights, least)
        assert sum(log[t, v] for t, v in enumerate(held)) == pytest.approx(sum(log[t, v] for t, v in enumerate(best)))
        assert min(map(len, runs(tuple(held)))) >= least


def runs(course: tuple[int, ...]) -> list[list[int]]:
    """Return the stretches of one viseme each."""
    out: list[list[int]] = []
    for viseme in course:
        if out and out[-1][-1] == viseme:
            out[-1].append(viseme)
        else:
            out.append([viseme])
    return out


def test_what_is_shorter_than_a_hold_gets_one_viseme() -> None:
    assert hold_visemes(np.eye(4)[:2], 6).tolist() in ([0, 0], [1, 1])
    assert hold_visemes(np.eye(4)[:1], 6).tolist() == [0]


def test_cues_go_from_zero_to_the_end_without_a_gap() -> None:
    rng = np.random.default_rng(3)
    cues = cues_of(RHUBARB, rng.dirichlet(np.full(len(CLASSES), 0.05), 301).astype(np.float32))
    assert cues[0].start_s == 0
    assert cues[-1].end_s == 3.0
    assert all(a.end_s == b.start_s and a.name != b.name for a, b in pairwise(cues))
    assert min(cue.end_s - cue.start_s for cue in cues) >= HOLD_S - 1e-9
    assert cues_of(RHUBARB, sure_of("ah")) == cues_of(RHUBARB, sure_of("ah", "ah"))


def test_closed_lips_are_kept_where_others_are_as_likely() -> None:
    doubtful = 0.5 * (sure_of(*["bilabial"] * 8) + sure_of(*["velar"] * 8))
    assert [cue.name for cue in cues_of(RHUBARB, doubtful)] == ["A"]


def test_known_speech_is_shown_right(say: Callable[[str], Speech]) -> None:
    import soxr

    speech = say("My mother may buy five big blue boats, and Bob will pop up above the open bay.")
    samples = soxr.resample(speech.samples, speech.rate_hz, 16000)
    steps = 1 + len(samples) // 160
    told = tell_sounds(samples, steps + 20)
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-5)
    assert (told[steps:].argmax(1) == CLASSES.index("rest")).all()
    known = sounding(speech.phones, np.arange(steps) / 100)
    shown = OCULUS.weigh(told[:steps]).argmax(1)
    right = OCULUS.weigh(np.eye(len(CLASSES), dtype=np.float32)[known]).argmax(1)
    assert (shown == right).mean() > 0.6
    assert (np.roll(shown, 100) == right).mean() < 0.3


def test_a_measured_mouth_has_a_say(lips: Lips) -> None:
    phones = [Phone("ɑː", 0, 0.4), Phone("m", 0.4, 0.6), Phone("ɑː", 0.6, 1.0), Phone("uː", 1.0, 1.4)]
    xyz = lips.points(articulate(phones, np.arange(140) / 100))
    mouth = MouthTrack(xyz, np.ones(140, bool), Speaker(measure_speaker(xyz).neutral, 0.2))
    nobody_knows = np.full((140, len(CLASSES)), 1 / len(CLASSES), np.float32)
    for sounds in (nobody_knows, None):
        shown = np.array(OCULUS.names)[OCULUS.weigh(judge_sounds(sounds, mouth)).argmax(1)]
        assert shown[50] in ("PP", "sil")
        assert shown[20] == "aa"
        assert shown[125] == "ou"
    sure = sure_of(*["velar"] * 140)
    assert (judge_sounds(sure, None) == sure).all()


def test_without_sound_lips_that_stay_together_are_at_rest(lips: Lips) -> None:
    phones = [Phone("_", 0, 1.0), Phone("ɑː", 1.0, 1.4), Phone("b", 1.4, 1.55), Phone("ɑː", 1.55, 2.0), Phone("_", 2.0, 3.0)]
    xyz = lips.points(articulate(phones, np.arange(300) / 100))
    mouth = MouthTrack(xyz, np.ones(300, bool), Speaker(measure_speaker(xyz).neutral, 0.2))
    shown = [cue.name for cue in cues_of(RHUBARB, judge_sounds(None, mouth))]
    assert shown[0] == shown[-1] == "X"
    assert "A" in shown[1:-1]
    assert "X" not in shown[1:-1]


def test_of_what_is_neither_heard_nor_seen_nothing_is_said(lips: Lips) -> None:
    xyz = lips.points(articulate([Phone("ɑː", 0, 1.0)], np.arange(100) / 100))
    blind = MouthTrack(xyz, np.zeros(100, bool), measure_speaker(xyz))
    assert (judge_sounds(None, blind).argmax(1) == CLASSES.index("rest")).all()
    sounds = np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), 100).astype(np.float32)
    np.testing.assert_allclose(judge_sounds(sounds, blind), sounds, atol=0.03)
