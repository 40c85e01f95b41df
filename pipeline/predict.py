"""Sound → mouth track: a model's prediction, on one person's mouth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data.audio import Speech
from lipwright.data.features import HOP, FeatureSettings, compute_features, gain_for
from lipwright.data.mouth import MouthTrack, Speaker, store_mouths
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import BASE, PORTION_STEPS, LipSync

OTHER_LIPS = 0.013
"""Resting lips of two people differ by more, of one person in two parts of a video by less (rms of the 40 points, eye
distances, after their middles are brought together). Measured: `docs/rendering.md`."""


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


@cache
def base_model() -> LipSync:
    """Return the base model, read once a process: it is asked about every video of a corpus."""
    return load_model()


def predict_mouth(
    lipsync: LipSync,
    samples: Speech,
    speaker: Speaker,
    *,
    gain: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MouthTrack:
    """Predict the mouth that goes with sound, in memory that does not grow with it (but where a model hears all at once).

    Parameters
    ----------
    lipsync
        The model.
    samples : Speech, shape (N,)
        16 kHz mono.
    speaker
        Whose mouth it shall be.
    gain
        Factor put on the samples; by default the one that brings them to the common level (`gain_for`).
    progress
        Called with (steps done, steps in all).

    Returns
    -------
    MouthTrack
        1 + N // 160 steps; its mouths stay on disk.
    """
    settings, scale = feature_settings(lipsync), lipsync.config.scale
    count = 1 + len(samples) // HOP
    with threadpool_limits(1):  # faster, and the very same numbers however many cores there are
        level = gain_for(samples, settings) if gain is None else gain

        def heard() -> Iterator[np.ndarray]:
            for start in range(0, count, PORTION_STEPS):
                end = min(start + PORTION_STEPS, count)
                yield compute_features(samples, settings, gain=level, steps=(start, end))
                if progress:
                    progress(end, count)

        xyz = store_mouths(speaker.place(shapes, scale) for shapes in lipsync.predict_portions(heard()))
    return MouthTrack(xyz, np.ones(count, bool), speaker)


def own_speaker(lipsync: LipSync) -> Speaker:
    """Return the one whose mouth a model has when nobody's is asked for: the mean of those that it was trained on."""
    return Speaker(lipsync.neutral.cpu().numpy(), lipsync.config.scale)


def mean_mouth(lipsync: LipSync, speaker: Speaker) -> np.ndarray:
    """Return the training mean on a person's neutral mouth, (40, 3): what a model says that has learned nothing."""
    return speaker.place(lipsync.pca_mean.cpu().numpy().reshape(-1, 3), lipsync.config.scale)


def foreign_model(lipsync: LipSync, speaker: Speaker, sha256: str) -> str | None:
    """Say in a line that a model was trained on another person than the one whose mouth it is to move.

    Lips tell, at rest: how far a mouth opens differs as much from one recording of a person to the next.

    Parameters
    ----------
    lipsync
        The model. One of several speakers, or of none, such as the base model, is nobody else's.
    speaker
        The person in the target.
    sha256
        The target's; if the model was trained on it, no more is asked.

    Returns
    -------
    str or None
        None: the person is the same, as far as can be told.
    """
    sources = lipsync.config.sources
    speakers = {source["speaker"] for source in sources}
    if len(speakers) != 1 or sha256 in {source["sha256"] for source in sources}:
        return None
    theirs, own = (lips - lips.mean(0) for lips in (lipsync.neutral.cpu().numpy(), speaker.neutral))
    if np.sqrt(np.square(theirs - own).sum(-1).mean()) <= OTHER_LIPS:
        return None
    opens = "is not seen to open" if speaker.scale is None else f"opens by {speaker.scale:.2f}"
    return (
        f"the model was trained on {speakers.pop()}, whose mouth opens by {lipsync.config.scale:.2f} eye distances; the one "
        f"in the target {opens} and is shaped otherwise: the movement is brought to its lips and its range"
    )
