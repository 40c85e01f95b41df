"""A threshold is met or missed by the mean over the videos, and what cannot be required is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from lipwright.pipeline.require import METRICS, check_measured, in_words, judge, parse

CLIPS: list[dict[str, Any]] = [
    {"aperture_r": 0.8, "lag_ms": -60.0, "closure_f1": None, "jitter_ratio": 0.5, "render": {"model": {"lag_ms": -10.0}}},
    {"aperture_r": 0.4, "lag_ms": 40.0, "closure_f1": 0.5, "jitter_ratio": 1.5, "render": {"model": {"lag_ms": 30.0}}},
    {"path": "broken.mp4", "error": "broken.mp4 is broken"},
]


def test_thresholds_are_read_as_written() -> None:
    assert parse("aperture_r=0.6, lag_ms=45,render.mouth_psnr=30") == {"aperture_r": 0.6, "lag_ms": 45, "render.mouth_psnr": 30}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aperture=0.6", "there is no metric 'aperture'. There are aperture_r, "),
        ("aperture_r", "cannot read 'aperture_r'; write METRIC=NUMBER"),
        ("", "cannot read ''"),
        ("aperture_r=0.6,", "cannot read ''"),
        ("aperture_r=good", "'good' is no number to require of aperture_r"),
        ("aperture_r=nan", "'nan' is no number"),
        ("lag_ms=inf", "'inf' is no number"),
        ("aperture_r=", "'' is no number"),
        ("lag_ms=1,lag_ms=2", "lag_ms is required twice"),
        ("render.untouched.mouth_psnr=3", "there is no metric"),
    ],
)
def test_what_cannot_be_required_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^" + said.replace(".", r"\.")):
        parse(text)


def test_all_metrics_are_listed_by_name_or_by_rule() -> None:
    with pytest.raises(ValueError, match="There are") as refused:
        parse("x=1")
    for name in METRICS:
        assert name.rpartition(".")[2] in str(refused.value)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("render.mouth_psnr", "--render"),
        ("render.model.aperture_r", "--render"),
        ("syncnet.result.lse_d", "--syncnet FILE"),
    ],
)
def test_what_is_not_measured_cannot_be_required(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is required, but not measured; add {option}"):
        check_measured({name: 1.0}, render=False, syncnet=False)
    check_measured({name: 1.0}, render=True, syncnet=True)


@pytest.mark.parametrize(
    ("name", "value", "passes", "fails"),
    [
        ("aperture_r", 0.6, 0.59, 0.61),  # at least
        ("closure_f1", 0.5, 0.5, 0.51),  # of the clip that has it
        ("jitter_ratio", 1.0, 1.01, 0.99),  # at most
        ("lag_ms", 50.0, 50.0, 49.0),  # by its absolute value: −60 and 40 do not make up for each other
        ("render.model.lag_ms", 20.0, 21.0, 19.0),
    ],
)
def test_the_mean_meets_or_misses(name: str, value: float, passes: float, fails: float) -> None:
    for threshold, met in ((passes, True), (fails, False)):
        (each,) = judge({name: threshold}, CLIPS)
        assert each == {"metric": name, "threshold": threshold, "value": pytest.approx(value), "pass": met}


def test_a_metric_that_no_video_has_is_missed_and_says_why() -> None:
    (each,) = judge({"closure_f1": 0.1}, CLIPS[:1])
    assert (each["value"], each["pass"], each["why"]) == (None, False, "fewer than 5 closures are seen")
    assert in_words(each) == "closure_f1 is null, required at least 0.1: fewer than 5 closures are seen"


def test_words_say_value_and_threshold() -> None:
    near = {"metric": "aperture_r", "threshold": 0.6, "value": 0.599999, "pass": False}
    assert in_words(near) == "aperture_r is 0.599999, required at least 0.6"
    words = [in_words(each) for each in judge({"aperture_r": 0.9, "lag_ms": 45}, CLIPS)]
    assert words == ["aperture_r is 0.6, required at least 0.9", "|lag_ms| is 50, required at most 45"]
