"""Model + videos → numbers: each video's own sound drives the model, its own mouth is the truth."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lipwright.data.audio import read_speech
from lipwright.data.errors import Cancelled, FaceError, InputError, MissingPartError
from lipwright.data.features import compute_features
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import Media, file_sha256, probe
from lipwright.data.mouth import MouthTrack, aperture, track_of, width
from lipwright.models import metrics
from lipwright.models.baselines import Ridge
from lipwright.models.lipsync import BASE, LipSync
from lipwright.pipeline.errors import in_words
from lipwright.pipeline.predict import feature_settings, load_model, mean_mouth, predict_mouth
from lipwright.pipeline.progress import Progress, told_as
from lipwright.pipeline.require import check_measured
from lipwright.pipeline.require import judge as thresholds_met
from lipwright.pipeline.result import Footage

if TYPE_CHECKING:
    from lipwright.pipeline.syncnet import SyncNet

log = logging.getLogger(__name__)

Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Take:
    """A video that is judged: what was heard and seen, and what each judge says to it.

    Attributes
    ----------
    media, sha256, track
        The video and its face track.
    samples : ndarray, shape (N,), float32
        Its sound, 16 kHz mono.
    measured
        Its own mouth, T steps of it.
    mouths : dict of ndarray, shape (T, 40, 3)
        By ``model``, ``ridge`` and ``mean_mouth``, on the same steps.
    scale
        The model's, for a speaker whose own cannot be measured.
    """

    media: Media
    sha256: str
    track: FaceTrack
    samples: np.ndarray
    measured: MouthTrack
    mouths: dict[str, np.ndarray]
    scale: float

    @property
    def said(self) -> MouthTrack:
        """The model's mouth as a track."""
        return MouthTrack(self.mouths["model"], np.ones(len(self.measured.valid), bool), self.measured.speaker)

    def judged(self, who: str) -> Numbers:
        """Compare what one of the judges says with the measured mouth."""
        return judge_mouth(self.mouths[who], self.measured, self.mouths["mean_mouth"][0], self.scale)


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
    report: Path | str | None = None,
    require: Mapping[str, float] | None = None,
    syncnet: Path | str | None = None,
    device: str = "cpu",
    force: bool = False,
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
        Footage that mouths are taken from. By default, with `render`, the first 75 % of each video, and the rest is judged;
        else each video itself.
    report
        Folder to make, with a page in it that shows all of it (see `lipwright.pipeline.scorecard`).
    require
        Thresholds by metric (see `lipwright.pipeline.require`).
    syncnet
        Weights of SyncNet, which then also judges each video, and what the model makes of it (see
        `lipwright.pipeline.syncnet`).
    device
        Where the models run.
    force
        Replace a report that is there.
    progress
        Called with (what, done, in all).

    Returns
    -------
    dict
        ``clips``: for each video ``path``, ``seen`` (trained on), the metrics, ``baselines`` (``mean_mouth`` and ``ridge``,
        the same metrics) and, with `render`, ``render``, with `syncnet`, ``syncnet``; ``mean``: over the videos. With `report`
        the page's path, ``report``; with `require` what came of each threshold, ``require``.

    Raises
    ------
    ModelError
        The model folder cannot be used.
    InputError
        No video can be used (one of several that cannot has ``error`` in place of numbers), there is no such metric, or the
        weights of SyncNet cannot be used.
    OutputExistsError
        `report` exists and `force` is false.
    MissingPartError
        SyncNet is not installed.
    """
    from lipwright.pipeline.scorecard import Scorecard

    folder = BASE if model is None else Path(model)
    try:
        check_measured(require or {}, render=render, syncnet=syncnet is not None)
    except ValueError as error:
        raise InputError(str(error)) from None
    with nullcontext() if report is None else Scorecard(Path(report), force) as card:
        lipsync, ridge = load_model(folder, device), Ridge.load(folder)
        judge = None
        if syncnet is not None:
            from lipwright.pipeline.syncnet import SyncNet

            judge = SyncNet.load(Path(syncnet), device)
        footage = Footage(Path(bank) if bank else None, first_part=render)
        if footage.other:
            probe(footage.other).need_video()  # better now than after all videos
        clips: list[dict[str, Any]] = []
        failures: list[Exception] = []
        for path in map(Path, videos):
            try:
                take, clip = _evaluate_clip(path, lipsync, ridge, render, footage, judge, progress)
            except (Cancelled, MissingPartError):
                raise
            except Exception as error:  # whatever it is, the others are judged
                log.info("%s", path, exc_info=not isinstance(error, InputError))
                failures.append(error)
                words = in_words(error)
                clips.append({"path": str(path), "error": words if str(path) in words else f"{path}: {words}"})
            else:
                clips.append(clip)
                if card:
                    card.add(take)
        if failures and len(failures) == len(clips):
            raise failures[0] if len(failures) == 1 else InputError("\n".join(clip["error"] for clip in clips))
        result: dict[str, Any] = {"clips": clips, "mean": _mean(clips)}
        if require:
            result["require"] = thresholds_met(require, clips)
        if card:
            result["report"] = str(card.write(result, folder, footage, progress))
    return result


def _evaluate_clip(
    path: Path,
    lipsync: LipSync,
    ridge: Ridge,
    render: bool,
    footage: Footage,
    syncnet: SyncNet | None,
    progress: Progress | None,
) -> tuple[Take, dict[str, Any]]:
    take = _take(path, lipsync, ridge, progress)
    seen = take.sha256 in {source["sha256"] for source in lipsync.config.sources}
    clip: dict[str, Any] = {"path": str(path), "seen": seen} | take.judged("model")
    clip["baselines"] = {who: take.judged(who) for who in ("mean_mouth", "ridge")}
    if render:
        from lipwright.pipeline.judge_picture import judge_picture

        clip["render"] = judge_picture(lipsync, take.media, take.track, footage.other, progress)
    if syncnet:
        clip["syncnet"] = syncnet.judge(take, footage.bank(take.media, take.track, take.sha256, progress), progress)
    return take, clip


def _take(path: Path, lipsync: LipSync, ridge: Ridge, progress: Progress | None) -> Take:
    media = probe(path)
    media.need_video()
    media.need_audio()
    sha256 = file_sha256(path)
    track = face_track(media, sha256=sha256, progress=told_as(progress, f"track {path.name}"))
    if not track.found.any():
        raise FaceError(f"{path} shows no face in any of its {len(track.found)} frames")
    measured = track_of(track)
    samples = read_speech(media)
    features = compute_features(samples, feature_settings(lipsync))
    steps = min(len(features), len(measured.xyz))
    measured = replace(measured, xyz=measured.xyz[:steps], valid=measured.valid[:steps])
    speaker, scale = measured.speaker, lipsync.config.scale
    mean = mean_mouth(lipsync, speaker)
    standard = lipsync.standardise(torch.from_numpy(features).to(lipsync.feature_mean)).cpu().numpy()
    linear = lipsync.expand(torch.from_numpy(ridge.predict(standard)).to(lipsync.feature_mean)).cpu().numpy()
    mouths = {
        "model": predict_mouth(lipsync, samples, speaker).xyz[:steps],
        "ridge": speaker.place(linear, scale)[:steps],
        "mean_mouth": np.broadcast_to(mean, (steps, *mean.shape)),
    }
    return Take(media, sha256, track, samples, measured, mouths, scale)


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
