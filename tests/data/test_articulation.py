"""Phones to mouth: what must close closes, what must open opens, and all of it smoothly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lipwright.data.articulation import (
    CLASSES,
    COLUMNS,
    LEAD_S,
    LETTERS,
    LOWER_LIP,
    RANGES,
    REST_WIDTH,
    TARGETS,
    UPPER_LIP,
    VOWELS,
    Lips,
    articulate,
    sounding,
    targets_of,
)  # fmt: skip
from lipwright.data.mouth import LIPS, aperture, width
from lipwright.data.speech import SILENCE, Phone, synthesize

APERTURE, WIDTH, ROUNDING, TUCK, JAW = range(len(COLUMNS))

EVERY_SOUND = """
    The quick brown fox jumps over the lazy dog, while Joyce's vision of rouge beige treasure chimed. Thanks to this
    other mother's bathing youth, the poor sure tourists hear pure fire near our tower; they're wearing chairs, aren't
    they? Uh-oh, a bottle of butter, a button, kitten, little metal. Bird, nurse, further, letter, comma, sofa. Father's
    calm palm car; all thought lot cloth north force; boy choir employer; goat show; face day; price lion; mouth coward.
    Happy glorious serious idea piano; singing finger; whale, which, when; Loch Ness, Bach; human beauty, few cute
    views; genre, garage; rhythm, prism; written, couldn't; player, beer, cure, secure, Europe; foot put; goose two;
    strut cup.
"""


def spoken(*names: str, each_s: float = 0.08) -> list[Phone]:
    """The phones after 0.3 s of silence and before as much."""
    starts = 0.3 + each_s * np.arange(len(names) + 1)
    phones = [Phone(name, a, b) for name, a, b in zip(names, starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    return [Phone(SILENCE, 0.0, 0.3), *phones, Phone(SILENCE, float(starts[-1]), float(starts[-1]) + 0.3)]


def at_middle(phones: list[Phone], index: int) -> np.ndarray:
    """The mouth at the moment that belongs to the middle of a phone's sound."""
    middle_s = 0.5 * (phones[index].start_s + phones[index].end_s)
    return articulate(phones, np.array([middle_s - LEAD_S]))[0]


def grid(phones: list[Phone] | tuple[Phone, ...]) -> np.ndarray:
    return articulate(phones, np.arange(0.0, phones[-1].end_s, 0.01))


def test_every_english_phone_has_its_targets() -> None:
    seen = set()
    for voice in ("gmw/en-US", "gmw/en", "gmw/en-GB-x-rp"):
        heard = {phone.name for phone in synthesize(EVERY_SOUND, voice=voice).phones} - {SILENCE}
        assert len(heard) > 40
        assert all(letter in LETTERS for name in heard for letter in name if letter not in "ː̩")
        seen |= {target for name in heard for target in targets_of(name)}
    assert seen >= TARGETS.keys() - {"rest", "parted", "oe", "ue", "near-bilabial"}  # which other languages have


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("aɪ", ("ah", "ih")),
        ("tʃ", ("alveolar", "hush")),
        ("ɑ̃", ("ah",)),
        ("ä", ("ah",)),
        ("ɯᵝ", ("ih",)),
        ("yː", ("ue",)),
        ("5", ("schwa",)),
    ],
)
def test_letters_say_where_a_phone_goes_and_marks_do_not(name: str, targets: tuple[str, ...]) -> None:
    assert targets_of(name) == targets


def test_tables_agree_with_each_other_and_with_the_ranges() -> None:
    assert {*LETTERS.values(), "rest", "parted"} == TARGETS.keys()
    assert TARGETS.keys() > VOWELS
    for target in TARGETS.values():
        for name, (lowest, highest) in zip(COLUMNS, RANGES, strict=True):
            assert lowest <= getattr(target, name) <= highest


def test_stress_opens_a_vowel_and_leaves_a_consonant_alone() -> None:
    phones = spoken("t", "ɑː", "t", each_s=0.15)
    by_stress = [at_middle([*phones[:2], replace(phones[2], stress=stress), *phones[3:]], 2)[APERTURE] for stress in (0, 1, 2)]
    assert by_stress == sorted(set(by_stress))
    closed = [at_middle([phones[0], replace(phones[1], stress=stress), *phones[2:]], 1) for stress in (0, 2)]
    np.testing.assert_array_equal(*closed)


@pytest.mark.parametrize("name", ["p", "b", "m"])
@pytest.mark.parametrize("each_s", [0.03, 0.06, 0.1])
def test_lips_meet_in_bilabials_however_fast(name: str, each_s: float) -> None:
    phones = spoken("ɑː", name, "ɑː", each_s=each_s)
    assert at_middle(phones, 2)[APERTURE] < 0.003


def test_lips_meet_in_every_bilabial_of_fast_speech() -> None:
    phones = synthesize("Bob may pop a big brown bubble, maybe tomorrow; mum bakes a plum pie.", rate_wpm=300).phones
    middles = [0.5 * (phone.start_s + phone.end_s) - LEAD_S for phone in phones if phone.name in "pbm"]
    assert len(middles) > 15
    assert articulate(phones, np.array(middles))[:, APERTURE].max() < 0.003


def test_what_sounds_is_told_by_class_without_any_lead() -> None:
    phones = spoken("b", "aɪ", each_s=0.2)
    times_s = np.array([-1.0, 0.1, 0.301, 0.499, 0.501, 0.599, 0.601, 0.699, 9.0])
    told = [CLASSES[k] for k in sounding(phones, times_s)]
    assert told == ["rest", "rest", "bilabial", "bilabial", "ah", "ah", "ih", "ih", "rest"]
    assert sounding([], np.zeros(3)).tolist() == [CLASSES.index("rest")] * 3


def test_breath_is_drawn_through_parted_lips() -> None:
    phones = spoken("ɑː", SILENCE, "ɑː", each_s=0.4)
    pause = at_middle(phones, 2)
    assert 0.03 < pause[APERTURE] < 0.07
    assert pause[JAW] < 0.2


def test_silence_closes_the_mouth_and_brings_it_to_rest() -> None:
    phones = spoken("ɑː", SILENCE, "ɑː", each_s=1.0)
    rest = at_middle(phones, 2)
    assert rest[APERTURE] < 0.005
    assert rest[WIDTH] == pytest.approx(REST_WIDTH, abs=0.01)
    assert rest[JAW] < 0.05


def test_a_short_gap_between_words_leaves_the_mouth_open() -> None:
    phones = spoken("ɑː", SILENCE, "ɑː", each_s=0.15)
    gap = Phone(SILENCE, phones[2].start_s, phones[2].start_s + 0.02)
    after = Phone("ɑː", gap.end_s, phones[3].end_s)
    assert at_middle([*phones[:2], gap, after, phones[-1]], 2)[APERTURE] > 0.2


def test_open_vowels_are_wider_open_than_close_ones() -> None:
    opened = {name: at_middle(spoken("t", name, "t", each_s=0.15), 2) for name in ("ɑː", "æ", "ɛ", "ɪ", "uː")}
    apertures = [opened[name][APERTURE] for name in ("ɑː", "æ", "ɛ", "ɪ", "uː")]
    assert apertures == sorted(apertures, reverse=True)
    assert apertures[0] > 0.25
    assert apertures[-1] < 0.1
    assert opened["ɑː"][JAW] > opened["ɪ"][JAW]


def test_rounded_vowels_are_narrower_than_spread_ones() -> None:
    rounded, spread = (at_middle(spoken("t", name, "t", each_s=0.15), 2) for name in ("uː", "iː"))
    assert rounded[WIDTH] < spread[WIDTH] - 0.12
    assert rounded[ROUNDING] > 0.8
    assert spread[ROUNDING] < 0.05


def test_neighbours_colour_a_consonant() -> None:
    rounded, spread = (at_middle(spoken(name, "t", name), 2) for name in ("uː", "iː"))
    assert rounded[WIDTH] < spread[WIDTH] - 0.08


@pytest.mark.parametrize("name", ["f", "v"])
def test_labiodentals_tuck_the_lower_lip(name: str) -> None:
    mouth = at_middle(spoken("ɑː", name, "ɑː"), 2)
    assert mouth[TUCK] > 0.6
    assert mouth[APERTURE] < 0.08


def test_diphthongs_move() -> None:
    phones = spoken("aɪ", each_s=0.3)
    early, late = articulate(phones, np.array([0.38, 0.55]) - LEAD_S)
    assert early[APERTURE] > late[APERTURE] + 0.1
    assert late[WIDTH] > early[WIDTH]


def test_unknown_phones_leave_the_mouth_half_open() -> None:
    mouth = at_middle(spoken("?7", each_s=0.2), 1)
    assert 0.05 < mouth[APERTURE] < 0.2


def test_speech_is_smooth_and_in_range() -> None:
    mouth = grid(synthesize(EVERY_SOUND, rate_wpm=200).phones)
    assert mouth.dtype == np.float32
    assert mouth.shape[1] == len(COLUMNS)
    lowest, highest = np.array(RANGES, np.float32).T
    assert (mouth >= lowest).all()
    assert (mouth <= highest).all()
    # in 10 ms: a quarter of the widest opening, a tenth of the range of widths, an eighth of the others
    assert (np.abs(np.diff(mouth, axis=0)).max(0) < [0.085, 0.024, 0.125, 0.125, 0.125]).all()


def test_mouth_uses_its_range() -> None:
    mouth = grid(synthesize(EVERY_SOUND).phones)
    assert mouth[:, APERTURE].min() < 0.002
    assert mouth[:, APERTURE].max() > 0.28
    assert np.ptp(mouth[:, WIDTH]) > 0.15


def test_shifted_phones_shift_the_mouth() -> None:
    phones = spoken("h", "ɑː", "m", "uː", "f", "iː")
    shifted = [Phone(phone.name, phone.start_s + 0.25, phone.end_s + 0.25) for phone in phones]
    times_s = np.linspace(0.0, 1.0, 60)
    np.testing.assert_allclose(articulate(shifted, times_s + 0.25), articulate(phones, times_s), atol=1e-6)


def test_mouth_leads_the_sound() -> None:
    phones = spoken("ɑː", each_s=0.2)
    times_s = np.arange(0.0, 0.8, 0.001)
    opening = articulate(phones, times_s)[:, APERTURE]
    centre_s = np.sum(opening * times_s) / np.sum(opening)
    assert centre_s == pytest.approx(0.4 - LEAD_S, abs=0.002)


def test_outside_the_phones_the_mouth_rests() -> None:
    mouth = articulate(spoken("ɑː"), np.array([-5.0, 60.0]))
    assert mouth[:, APERTURE].max() == 0.0
    np.testing.assert_array_equal(articulate([], np.array([0.0, 1.0])), mouth)


def test_no_times_give_no_rows() -> None:
    assert articulate(spoken("ɑː"), np.array([])).shape == (0, len(COLUMNS))


def test_times_of_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        articulate(spoken("ɑː"), np.zeros((2, 1)))


@pytest.fixture
def lips() -> Lips:
    face = np.zeros((478, 2))
    rng = np.random.default_rng(0)
    face[:, 1] = rng.normal(0.0, 0.01, 478)  # thin lips
    for outer, inner in (UPPER_LIP, LOWER_LIP):
        face[outer, 0], face[inner, 0] = np.linspace(-0.35, 0.35, 11), np.linspace(-0.33, 0.33, 11)
    return Lips(face)


ROWS = np.array([[0.0, 0.59, 0.0, 0.0, 0.2], [0.1, 0.67, 0.0, 0.0, 0.2], [0.33, 0.6, 0.0, 0.0, 0.2]], np.float32)


def test_contours_follow_the_row(lips: Lips) -> None:
    for row in ROWS:
        upper, lower = lips.contours(row)
        assert lower[16, 1] - upper[16, 1] == pytest.approx(row[APERTURE], abs=1e-6)  # 13 and 14
        assert upper[10, 0] - upper[0, 0] == pytest.approx(row[WIDTH], abs=1e-6)  # 61 and 291
        np.testing.assert_allclose(upper[[0, 10, 11, 21]], lower[[0, 10, 11, 21]], atol=1e-6)  # corners are shared
        assert (lower[11:, 1] >= upper[11:, 1] - 1e-9).all()


def test_many_rows_are_each_of_them(lips: Lips) -> None:
    for many, single in zip(lips.contours(ROWS), zip(*map(lips.contours, ROWS), strict=True), strict=True):
        np.testing.assert_allclose(many, np.stack(single))


def test_lip_points_are_those_of_a_mouth_track(lips: Lips) -> None:
    points = lips.points(ROWS)
    assert points.shape == (3, 40, 3)
    np.testing.assert_allclose(aperture(points), ROWS[:, APERTURE], atol=1e-6)
    np.testing.assert_allclose(width(points), ROWS[:, WIDTH], atol=1e-6)
    for row, mouth in zip(ROWS, points, strict=True):
        for contour, own in zip(lips.contours(row), (UPPER_LIP, LOWER_LIP), strict=True):
            for place, number in zip(contour, own[0] + own[1], strict=True):
                np.testing.assert_allclose(mouth[np.flatnonzero(number == LIPS)[0], :2], place, atol=1e-6)


def test_rounded_lips_come_forward(lips: Lips) -> None:
    flat, rounded = lips.points(np.array([[0.1, 0.5, 0.0, 0.0, 0.2], [0.1, 0.5, 1.0, 0.0, 0.2]], np.float32))
    middle, corner = (int(np.flatnonzero(number == LIPS)[0]) for number in (0, 61))
    assert rounded[middle, 2] < flat[middle, 2] - 0.08
    assert rounded[corner, 2] == pytest.approx(flat[corner, 2], abs=1e-6)
