"""Features → mouth track: a model's prediction, on one person's mouth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lipwright.data.features import FeatureSettings
from lipwright.data.mouth import MouthTrack, Speaker
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import BASE, LipSync


def feature_settings(lipsync: LipSync) -> FeatureSettings:
    """Return the feature settings that a model was trained with.

    Raises
    ------
    ModelError
        This Lipwright cannot compute such features.
    """
    try:
        settings = FeatureSettings.from_dict(lipsync.config.features)
        if settings.size != lipsync.config.feature_size:
            raise ValueError(f"{lipsync.config.feature_size} numbers a step, here {settings.size}")
    except ValueError as error:
        raise ModelError(f"the model was made with other feature settings ({error}); train it again") from None
    return settings


def load_model(folder: Path | None = None, device: str = "cpu") -> LipSync:
    """Read a model, by default the base model, and see that this Lipwright can compute what it hears.

    Raises
    ------
    ModelError
        The folder cannot be used, or the model was made with other feature settings.
    """
    folder = BASE if folder is None else folder
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


def mean_mouth(lipsync: LipSync, speaker: Speaker) -> np.ndarray:
    """Return the training mean on a person's neutral mouth, (40, 3): what a model says that has learned nothing."""
    return speaker.place(lipsync.pca_mean.cpu().numpy().reshape(-1, 3), lipsync.config.scale)
