"""A perfect mouth gets perfect numbers, each metric moves when its own fault is put in, and a bad clip costs only itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lipwright.data.errors import FaceError, MediaError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import MouthTrack, Speaker, track_of
from lipwright.models.errors import ModelError
from lipwright.pipeline import evaluate, judge_picture
from lipwright.pipeline.evaluate import evaluate_model, judge_mouth

METRICS = {"aperture_r", "aperture_gain", "width_r", "lmd", "lmd_ratio", "lag_ms", "closure_f1", "jitter_ratio"}


@pytest.fixture(scope="module")
def truth(talk_track: FaceTrack) -> MouthTrack:
    return track_of(talk_track)


def _judge(predicted: np.ndarray, truth: MouthTrack) -> dict[str, float | None]:
    return judge_mouth(predicted, truth, truth.xyz.mean(0), 0.2)


def test_the_truth_itself_is_perfect(truth: MouthTrack) -> None:
    assert _judge(truth.xyz, truth) == pytest.approx(
        {
            "aperture_r": 1, "aperture_gain": 1, "width_r": 1, "lmd": 0, "lmd_ratio": 0, "lag_ms": 0, "closure_f1": 1,
            "jitter_ratio": 1,
        },
        abs=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("steps", [-9, -3, 4, 11])
def test_a_mouth_that_comes_late_has_a_positive_lag(truth: MouthTrack, steps: int) -> None:
    assert _judge(np.roll(truth.xyz, steps, 0), truth)["lag_ms"] == pytest.approx(10 * steps, abs=4)


@pytest.mark.parametrize("gain", [0.4, 1.7])
def test_a_mouth_that_moves_too_little_or_too_much_has_its_gain(truth: MouthTrack, gain: float) -> None:
    closed = truth.speaker.neutral
    judged = _judge(closed + gain * (truth.xyz - closed), truth)
    assert judged["aperture_gain"] == pytest.approx(gain, rel=0.05)
    assert judged["aperture_r"] == pytest.approx(1, abs=0.02)
    assert judged["jitter_ratio"] == pytest.approx(gain**2, rel=1e-3)


def test_the_mean_mouth_has_learned_nothing(truth: MouthTrack) -> None:
    judged = _judge(np.broadcast_to(truth.xyz.mean(0), truth.xyz.shape), truth)
    assert judged["aperture_r"] is None
    assert judged["lmd_ratio"] == pytest.approx(1)
    assert judged["aperture_gain"] == pytest.approx(0, abs=1e-5)


def test_steps_that_are_not_valid_count_nowhere(truth: MouthTrack) -> None:
    valid = truth.valid.copy()
    valid[100:180] = False
    partly = replace(truth, valid=valid)
    spoiled = truth.xyz.copy()
    spoiled[100:180] += 5
    assert _judge(spoiled, partly) == _judge(truth.xyz, partly)


def test_a_silent_speaker_is_judged_by_the_models_scale(truth: MouthTrack) -> None:
    silent = replace(truth, speaker=Speaker(truth.speaker.neutral, None))
    assert judge_mouth(truth.xyz, silent, truth.xyz.mean(0), 0.2)["aperture_r"] == pytest.approx(1)


# Files ----------------------------------------------------------------------------------------------------------------


def test_each_clip_is_judged_beside_the_baselines(toy_run: Path, talk: Any, talk_track: FaceTrack) -> None:
    assert talk_track.found.all()
    report = evaluate_model(toy_run, [talk.path])
    (clip,) = report["clips"]
    assert clip["path"] == str(talk.path)
    assert clip["seen"] is False
    assert clip.keys() == {"path", "seen", "baselines"} | METRICS
    assert clip["baselines"].keys() == {"mean_mouth", "ridge"}
    for baseline in clip["baselines"].values():
        assert baseline.keys() == METRICS
    assert clip["baselines"]["mean_mouth"]["lmd_ratio"] == pytest.approx(1)
    assert report["mean"] == {k: v for k, v in clip.items() if k not in ("path", "seen")}
    json.dumps(report, allow_nan=False)


def test_what_nobody_foresaw_in_one_video_costs_only_that_one(
    toy_run: Path, talk: Any, talk_track: FaceTrack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, judge = tmp_path / "copy.mp4", evaluate._evaluate_clip
    copy.write_bytes(talk.path.read_bytes())

    def fall(path: Path, *more: Any) -> Any:
        if path == copy:
            raise ZeroDivisionError("division by zero")
        return judge(path, *more)

    monkeypatch.setattr(evaluate, "_evaluate_clip", fall)
    report = evaluate_model(toy_run, [copy, talk.path])
    assert report["clips"][0]["error"] == f"{copy}: unexpected ZeroDivisionError: division by zero"
    assert report["mean"]["aperture_r"] == report["clips"][1]["aperture_r"]
    with pytest.raises(ZeroDivisionError):
        evaluate_model(toy_run, [copy])


@pytest.mark.parametrize("length_s", [1.0, 2.96, 3.0, 3.04, 4.5, 6.0, 30.0])
def test_a_mouth_is_judged_on_the_frame_of_another_moment(length_s: float) -> None:
    times_s = 7 + np.arange(0, length_s + 0.02, 0.04)
    stage: Any = SimpleNamespace(track=SimpleNamespace(times_s=times_s), rows=np.arange(len(times_s)))
    apart_s = (times_s - judge_picture._Stage.earlier_s.func(stage)) % (times_s[-1] - times_s[0])
    assert apart_s == pytest.approx(min(3.0, (times_s[-1] - times_s[0]) / 2))


def test_a_clip_that_cannot_be_judged_says_why_and_costs_only_itself(
    toy_run: Path, talk: Any, bars: Callable[..., Path]
) -> None:
    mute = bars(name="mute.mp4")
    report = evaluate_model(toy_run, [mute, talk.path])
    assert report["clips"][0].keys() == {"path", "error"}
    assert "mute.mp4 has no audio stream" in report["clips"][0]["error"]
    assert report["mean"] == evaluate_model(toy_run, [talk.path])["mean"]
    with pytest.raises(MediaError, match=r"mute\.mp4"):
        evaluate_model(toy_run, [mute])


def test_a_video_without_a_face_is_refused_by_name(
    toy_run: Path, bars: Callable[..., Path], tone: Callable[..., Any], wav: Callable[..., Path]
) -> None:
    from lipwright.data.media import probe

    with pytest.raises(FaceError, match=r"bars\.mp4 shows no face"):
        evaluate_model(toy_run, [bars(audio=probe(wav(tone(1.0))))])


def test_a_model_without_its_ridge_is_refused_by_name(toy_run: Path, tmp_path: Path, talk: Any) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((toy_run / name).read_bytes())
    with pytest.raises(ModelError, match=r"ridge\.safetensors"):
        evaluate_model(tmp_path, [talk.path])
