"""Features → mouth track: a model's prediction, on one person's mouth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.mouth import MouthTrack, Speaker
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import LipSync


def feature_settings(lipsync: LipSync) -> FeatureSettings:
    """Return the feature settings that a model was trained with.

    Raises
    ------
    ModelError
        This Lipwright cannot compute such features.
    """
    stated = dict(lipsync.config.features)
    rates = (stated.pop("sample_rate_hz", None), stated.pop("step_hz", None))
    try:
        settings = FeatureSettings(**stated)
    except TypeError as error:
        raise ModelError(f"the model was made with other feature settings ({error}); train it again") from None
    if rates != (SAMPLE_RATE_HZ, STEP_HZ) or settings.size != lipsync.config.feature_size:
        raise ModelError(
            f"the model was made with other feature settings ({lipsync.config.feature_size} numbers a step from "
            f"{rates[0]} Hz at {rates[1]} Hz; here {settings.size} from {SAMPLE_RATE_HZ} at {STEP_HZ}); train it again"
        )
    return settings


def load_model(folder: Path, device: str = "cpu") -> LipSync:
    """Read a model, and see that this Lipwright can compute what it hears.

    Raises
    ------
    ModelError
        The folder cannot be used, or the model was made with other feature settings.
    """
    lipsync = LipSync.load(folder, device)
    try:
        feature_settings(lipsync)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    return lipsync


def predict_mouth(lipsync: LipSync, features: np.ndarray, speaker: Speaker) -> MouthTrack:
    """Predict the mouth that goes with sound.

    Parameters
    ----------
    lipsync
        The model.
    features : ndarray, shape (T, D), float32
    speaker
        Whose mouth it shall be.
    """
    xyz = speaker.place(lipsync.predict(features), lipsync.config.scale).astype(np.float32)
    return MouthTrack(xyz, np.ones(len(xyz), bool), speaker)
