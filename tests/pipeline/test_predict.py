"""A prediction is one relative movement, placed on whoever's mouth it shall be; other features are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.features import FeatureSettings, compute_features
from lipwright.data.mouth import Speaker, aperture
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import LipSync
from lipwright.pipeline.predict import feature_settings, load_model, predict_mouth


@pytest.fixture(scope="module")
def lipsync(toy_run: Path) -> LipSync:
    return load_model(toy_run)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3, (250, 28)).astype(np.float32)


def test_one_movement_on_two_speakers(lipsync: LipSync, features: np.ndarray, resting: np.ndarray) -> None:
    """What one speaker's mouth does in their range, another's does in theirs."""
    rng = np.random.default_rng(2)
    speakers = [Speaker(resting, 0.2), Speaker(resting + rng.normal(0, 0.02, resting.shape).astype(np.float32), 0.7)]
    tracks = [predict_mouth(lipsync, features, who) for who in speakers]
    for track, who in zip(tracks, speakers, strict=True):
        assert track.xyz.shape == (250, 40, 3)
        assert track.xyz.dtype == np.float32
        assert track.valid.all()
        assert track.start_s == 0
        assert track.speaker is who
    np.testing.assert_allclose(*(t.speaker.normalise(t.xyz, 1.0) for t in tracks), atol=1e-5)
    moved = [np.ptp(t.xyz - t.speaker.neutral, axis=0).max() for t in tracks]
    assert moved[1] / moved[0] == pytest.approx(0.7 / 0.2, rel=1e-4)


def test_a_person_who_does_not_speak_gets_the_models_own_range(
    lipsync: LipSync, features: np.ndarray, resting: np.ndarray
) -> None:
    silent = predict_mouth(lipsync, features, Speaker(resting, None))
    usual = predict_mouth(lipsync, features, Speaker(resting, lipsync.config.scale))
    np.testing.assert_array_equal(silent.xyz, usual.xyz)


def test_silence_moves_nothing(lipsync: LipSync, resting: np.ndarray) -> None:
    """On digital silence the mouth comes to rest, away from the ends of the clip."""
    quiet = compute_features(np.zeros(160_000, np.float32), feature_settings(lipsync))
    track = predict_mouth(lipsync, quiet, Speaker(resting, 0.3))
    assert np.ptp(aperture(track.xyz[450:550])) < 0.01


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


def test_loading_gives_the_very_same_prediction(toy_run: Path, features: np.ndarray, resting: np.ndarray) -> None:
    who = Speaker(resting, 0.3)
    np.testing.assert_array_equal(
        predict_mouth(load_model(toy_run), features, who).xyz, predict_mouth(load_model(toy_run), features, who).xyz
    )
