"""Model + videos → numbers: each video's own sound drives the model, its own mouth is the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipwright.data.audio import read_speech
from lipwright.data.errors import FaceError, InputError
from lipwright.data.features import compute_features
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import Media, file_sha256, probe
from lipwright.data.mouth import MouthTrack, aperture, track_of, width
from lipwright.models import metrics
from lipwright.models.baselines import Ridge
from lipwright.models.lipsync import BASE, LipSync
from lipwright.pipeline.predict import feature_settings, load_model, mean_mouth, predict_mouth
from lipwright.pipeline.progress import Progress, told_as

Numbers = dict[str, float | None]


def judge_mouth(predicted: np.ndarray, measured: MouthTrack, mean: np.ndarray, fallback_scale: float) -> Numbers:
    """Compare a predicted mouth with a measured one, by the metrics of `docs/metrics.md`.

    Parameters
    ----------
    predicted : ndarray, shape (T, 40, 3)
        Face space of the measured speaker, on the measured track's steps.
    measured
        The truth.
    mean : ndarray, shape (40, 3)
        The training mean, placed on the measured speaker's neutral.
    fallback_scale
        Serves a speaker whose scale cannot be measured.
    """
    valid, truth, speaker = measured.valid, measured.xyz[:], measured.speaker
    ours, theirs = aperture(predicted), aperture(truth)
    closed_below = metrics.CLOSED_SHARE * (speaker.scale or fallback_scale) + float(aperture(speaker.neutral))
    lmd = metrics.mean_distance(predicted[valid], truth[valid])
    learned_nothing = metrics.mean_distance(np.broadcast_to(mean, truth.shape)[valid], truth[valid])
    return {
        "aperture_r": metrics.pearson(ours[valid], theirs[valid]),
        "aperture_gain": metrics.gain(ours[valid], theirs[valid]),
        "width_r": metrics.pearson(width(predicted)[valid], width(truth)[valid]),
        "lmd": lmd,
        "lmd_ratio": lmd / learned_nothing if lmd is not None and learned_nothing else None,
        "lag_ms": metrics.lag_ms(ours, theirs, valid),
        "closure_f1": metrics.closure_f1(ours, theirs, valid, closed_below),
        "jitter_ratio": metrics.jitter_ratio(predicted, truth, valid),
    }


def evaluate_model(
    model: Path | str | None,
    videos: Iterable[Path | str],
    *,
    render: bool = False,
    bank: Path | str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a model on videos of talking people.

    Parameters
    ----------
    model
        Model folder; None is the base model.
    videos
        Each with one speaker and their sound.
    render
        Also paint the mouth and judge the picture, tracked again (see `lipwright.pipeline.judge_picture`).
    bank
        Footage that mouths are taken from; by default the first 75 % of each video, and the rest is judged.
    device
        Where the model runs.
    progress
        Called with (what, done, in all).

    Returns
    -------
    dict
        ``clips``: for each video ``path``, ``seen`` (trained on), the metrics, ``baselines`` (``mean_mouth`` and ``ridge``,
        the same metrics) and, with `render`, ``render``; ``mean``: over the videos.

    Raises
    ------
    ModelError
        The model folder cannot be used.
    InputError
        No video can be used. (One of several that cannot has ``error`` in place of numbers.)
    """
    folder = BASE if model is None else Path(model)
    lipsync, ridge = load_model(folder, device), Ridge.load(folder)
    clips: list[dict[str, Any]] = []
    failures: list[InputError] = []
    for path in map(Path, videos):
        try:
            clips.append(_evaluate_clip(path, lipsync, ridge, render, Path(bank) if bank else None, progress))
        except InputError as error:
            failures.append(error)
            clips.append({"path": str(path), "error": str(error)})
    if failures and len(failures) == len(clips):
        raise failures[0] if len(failures) == 1 else InputError("\n".join(map(str, failures)))
    return {"clips": clips, "mean": _mean(clips)}


def _evaluate_clip(
    path: Path, lipsync: LipSync, ridge: Ridge, render: bool, bank: Path | None, progress: Progress | None
) -> dict[str, Any]:
    media = probe(path)
    media.need_video()
    media.need_audio()
    sha256 = file_sha256(path)
    track = face_track(media, sha256=sha256, progress=told_as(progress, f"track {path.name}"))
    if not track.found.any():
        raise FaceError(f"{path} shows no face in any of its {len(track.found)} frames")
    seen = sha256 in {source["sha256"] for source in lipsync.config.sources}
    clip = {"path": str(path), "seen": seen} | _judge_clip(lipsync, ridge, media, track)
    if render:
        from lipwright.pipeline.judge_picture import judge_picture

        clip["render"] = judge_picture(lipsync, media, track, bank, progress)
    return clip


def _judge_clip(lipsync: LipSync, ridge: Ridge, media: Media, track: FaceTrack) -> dict[str, Any]:
    measured = track_of(track)
    samples = read_speech(media)
    features = compute_features(samples, feature_settings(lipsync))
    steps = min(len(features), len(measured.xyz))
    measured = replace(measured, xyz=measured.xyz[:steps], valid=measured.valid[:steps])
    speaker, scale = measured.speaker, lipsync.config.scale
    mean = mean_mouth(lipsync, speaker)
    standard = lipsync.standardise(torch.from_numpy(features).to(lipsync.feature_mean)).cpu().numpy()
    linear = lipsync.expand(torch.from_numpy(ridge.predict(standard)).to(lipsync.feature_mean)).cpu().numpy()

    def judged(xyz: np.ndarray) -> Numbers:
        return judge_mouth(xyz[:steps], measured, mean, scale)

    baselines = {
        "mean_mouth": judged(np.broadcast_to(mean, (steps, *mean.shape))),
        "ridge": judged(speaker.place(linear, scale)),
    }
    return judged(predict_mouth(lipsync, samples, speaker).xyz[:]) | {"baselines": baselines}


def _mean(clips: list[dict[str, Any]]) -> dict[str, Any]:
    """Average every number over the clips that have it, nested like a clip."""
    out: dict[str, Any] = {}
    for key in dict.fromkeys(key for clip in clips for key in clip):
        values = [clip[key] for clip in clips if clip.get(key) is not None]
        if values and isinstance(values[0], dict):
            out[key] = _mean(values)
        elif key not in ("path", "seen", "error"):
            out[key] = float(np.mean(values)) if values else None
    return out
