"""A prediction is one relative movement, placed on whoever's mouth it shall be; other features are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from lipwright.data.audio import StoredSpeech
from lipwright.data.features import FeatureSettings, compute_features
from lipwright.data.media import probe
from lipwright.data.mouth import Speaker, aperture
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import LipSync
from lipwright.pipeline import predict
from lipwright.pipeline.predict import OTHER_LIPS, base_model, feature_settings, foreign_model, load_model, predict_mouth


@pytest.fixture(scope="module")
def lipsync(toy_run: Path) -> LipSync:
    return load_model(toy_run)


@pytest.fixture(scope="module")
def samples(babble: Callable[..., np.ndarray]) -> np.ndarray:
    return babble(2.5)


def test_one_movement_on_two_speakers(lipsync: LipSync, samples: np.ndarray, resting: np.ndarray) -> None:
    """What one speaker's mouth does in their range, another's does in theirs."""
    rng = np.random.default_rng(2)
    speakers = [Speaker(resting, 0.2), Speaker(resting + rng.normal(0, 0.02, resting.shape).astype(np.float32), 0.7)]
    tracks = [predict_mouth(lipsync, samples, who) for who in speakers]
    for track, who in zip(tracks, speakers, strict=True):
        assert track.xyz.shape == (251, 40, 3)
        assert track.xyz[:].dtype == np.float32
        assert track.valid.all()
        assert track.start_s == 0
        assert track.speaker is who
    np.testing.assert_allclose(*(t.speaker.normalise(t.xyz[:], 1.0) for t in tracks), atol=1e-5)
    moved = [np.ptp(t.xyz[:] - t.speaker.neutral, axis=0).max() for t in tracks]
    assert moved[1] / moved[0] == pytest.approx(0.7 / 0.2, rel=1e-4)


def test_a_person_who_does_not_speak_gets_the_models_own_range(
    lipsync: LipSync, samples: np.ndarray, resting: np.ndarray
) -> None:
    silent = predict_mouth(lipsync, samples, Speaker(resting, None))
    usual = predict_mouth(lipsync, samples, Speaker(resting, lipsync.config.scale))
    np.testing.assert_array_equal(silent.xyz[:], usual.xyz[:])


def test_silence_moves_nothing(lipsync: LipSync, resting: np.ndarray) -> None:
    """On digital silence the mouth comes to rest, away from the ends of the clip."""
    track = predict_mouth(lipsync, np.zeros(160_000, np.float32), Speaker(resting, 0.3))
    assert np.ptp(track.measure(aperture)[450:550]) < 0.01


@pytest.fixture(scope="module", params=["forward", "both", "whole"])
def any_direction(request: pytest.FixtureRequest, lipsync: LipSync) -> LipSync:
    """A model that knows what silence is, of each direction."""
    changes: dict[str, Any] = {
        "forward": {"direction": "forward"},
        "both": {"direction": "both"},
        "whole": {"direction": "both", "lookahead_ms": None, "delay_steps": 0},
    }[request.param]
    torch.manual_seed(0)
    made = LipSync(replace(lipsync.config, lead_steps=0, **changes)).eval()
    made.load_state_dict(made.state_dict() | {k: v for k, v in lipsync.state_dict().items() if not k.startswith("network")})
    return made


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("steps", [10, 39, 99, 100, 101, 199, 200, 201, 337])
def test_sound_in_portions_moves_the_mouth_as_all_at_once(
    any_direction: LipSync, wav: Callable[..., Path], babble: Callable[..., np.ndarray], resting: np.ndarray,
    monkeypatch: pytest.MonkeyPatch, stored: bool, steps: int,
) -> None:  # fmt: skip
    samples = babble(4.0)[: 160 * steps]
    features = compute_features(samples, feature_settings(any_direction))
    whole = 0.3 * any_direction.predict(features) + resting
    monkeypatch.setattr(predict, "PORTION_STEPS", 100)
    sound = StoredSpeech(probe(wav(samples))) if stored else samples
    said = predict_mouth(any_direction, sound, Speaker(resting, 0.3))
    assert len(said.xyz) == len(features) == steps + 1
    np.testing.assert_allclose(said.xyz[:], whole, atol=2e-5)


def test_settings_come_back_as_they_went(lipsync: LipSync) -> None:
    assert feature_settings(lipsync) == FeatureSettings()


@pytest.mark.parametrize(
    "change",
    [{"mfcc": 20}, {"sample_rate_hz": 8000}, {"step_hz": 50}, {"mel_scale": "htk"}],
    ids=lambda change: next(iter(change)),
)
def test_a_model_of_other_features_is_refused_by_name(toy_run: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(toy_run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["features"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"elsewhere.*other feature settings.*train it again"):
        load_model(folder)


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing.*does not exist"):
        load_model(tmp_path / "nothing")


def test_loading_gives_the_very_same_prediction(toy_run: Path, samples: np.ndarray, resting: np.ndarray) -> None:
    once, again = (predict_mouth(load_model(toy_run), samples, Speaker(resting, 0.3)).xyz[:] for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_the_base_model_is_read_once_and_says_the_same_again(samples: np.ndarray, resting: np.ndarray) -> None:
    assert base_model() is base_model()
    fresh, *kept = (predict_mouth(m, samples, Speaker(resting, 0.3)).xyz[:] for m in (load_model(), base_model(), base_model()))
    for said in kept:
        np.testing.assert_array_equal(said, fresh)


def test_the_number_of_threads_changes_no_bit(babble: Callable[..., np.ndarray], resting: np.ndarray) -> None:
    """What is computed from a prediction can be named by its hash."""
    said, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            said.append(predict_mouth(load_model(), babble(12.0), Speaker(resting, 0.3)).xyz[:])
    torch.set_num_threads(before)
    np.testing.assert_array_equal(*said)


# Another speaker's model ----------------------------------------------------------------------------------------------


def owned(lipsync: LipSync, neutral: np.ndarray, *speakers: str) -> LipSync:
    """A model of these speakers, one source each, whose lips rest so."""
    sources = [{"path": f"{who}.mp4", "sha256": f"{k:064x}", "speaker": who} for k, who in enumerate(speakers)]
    made = LipSync(replace(lipsync.config, sources=sources, scale=0.21))
    made.neutral.copy_(torch.from_numpy(neutral))
    return made


@pytest.mark.parametrize("scale", [0.12, None])
@pytest.mark.parametrize("differ", [0.5 * OTHER_LIPS, 0.95 * OTHER_LIPS, 1.05 * OTHER_LIPS, 4 * OTHER_LIPS])
def test_a_model_of_somebody_with_other_lips_is_told(
    lipsync: LipSync, resting: np.ndarray, differ: float, scale: float | None
) -> None:
    offset = np.random.default_rng(0).normal(size=(40, 3))
    offset -= offset.mean(0)
    offset *= differ / np.sqrt(np.square(offset).sum(-1).mean())
    other = (resting + offset + (0.1, -0.05, 0.2)).astype(np.float32)  # where the mouth sits does not matter
    told = foreign_model(owned(lipsync, resting, "ann"), Speaker(other, scale), "ab" * 32)
    if differ < OTHER_LIPS:
        assert told is None
        return
    assert told is not None
    assert "ann, whose mouth opens by 0.21 eye distances" in told
    assert ("opens by 0.12 and" if scale else "is not seen to open and") in told
    assert "\n" not in told


@pytest.mark.parametrize("speakers", [(), ("ann", "bob")])
def test_nobodys_and_everybodys_model_is_no_strangers(lipsync: LipSync, resting: np.ndarray, speakers: tuple[str, ...]) -> None:
    assert foreign_model(owned(lipsync, resting, *speakers), Speaker(1.5 * resting, 0.1), "ab" * 32) is None
    assert foreign_model(owned(lipsync, resting, "ann"), Speaker(1.5 * resting, 0.1), "ab" * 32) is not None


def test_footage_that_was_trained_on_is_the_models_own(lipsync: LipSync, resting: np.ndarray) -> None:
    model = owned(lipsync, resting, "ann", "ann")
    for k in range(2):
        assert foreign_model(model, Speaker(1.5 * resting, 0.1), f"{k:064x}") is None
    assert foreign_model(model, Speaker(1.5 * resting, 0.1), f"{2:064x}") is not None


def test_the_base_model_is_nobodys(resting: np.ndarray) -> None:
    assert foreign_model(load_model(), Speaker(1.5 * resting, 0.1), "ab" * 32) is None
