"""Corpus → model."""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError, InputError, require_new
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features
from lipwright.models.baselines import fit_ridge
from lipwright.models.device import choose_device
from lipwright.models.lipsync import CONFIG, Config, LipSync
from lipwright.pipeline.fit import FIXED_STEPS, Fit
from lipwright.pipeline.processes import team
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.sequences import LEAST_DATA_S, Sequence, arrays, load_sequences
from lipwright.pipeline.settings import TrainSettings

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
FIT_FILE = "training.safetensors"
"""What `resume` goes on from."""

ARCHITECTURE = ("cell", "direction", "lookahead_ms", "hidden", "layers", "layer_norm", "components", "features")
"""What a training that is resumed must have in common with its beginning."""


def _delay_steps(settings: TrainSettings, reach_ms: float, sequences: list[Sequence]) -> int:
    """Return the steps that outputs come late; `InputError` if the network cannot hear so, or learn so."""
    if not settings.bptt_s * STEP_HZ >= 2:
        raise InputError(f"--bptt-s {settings.bptt_s:g} is a window of one step, with no time to learn from; use 0.02 or more")
    ahead_ms = settings.lookahead_ms
    if ahead_ms is None:
        return 0
    if not ahead_ms >= reach_ms:
        raise InputError(f"--delay-ms {ahead_ms:g} is less than a feature's own reach; use {math.ceil(reach_ms)} or more")
    longest_s = max(len(s.features) for s in sequences) / STEP_HZ
    if longest_s <= ahead_ms / 1000:
        raise InputError(f"--delay-ms {ahead_ms:g} is longer than the longest clip ({longest_s:.2f} s)")
    steps = math.floor((ahead_ms - reach_ms) * STEP_HZ / 1000)
    if settings.direction == "both" and settings.bptt_s * STEP_HZ < steps + 0.5:
        # What the past says waits for the future over the border of a chunk, where gradients end: it would never learn.
        raise InputError(
            f"--bptt-s {settings.bptt_s:g} is no longer than the look-ahead; use {(steps + 1) / STEP_HZ:g} or more"
        )
    return steps


def build_model(sequences: list[Sequence], corpus: Corpus, settings: TrainSettings, mean_scale: float) -> LipSync:
    """Make an untrained model whose statistics and PCA come from the training sequences."""
    from sklearn.decomposition import PCA

    features = np.concatenate([s.features for s in sequences])
    shapes = np.concatenate([s.shapes[s.valid] for s in sequences]).reshape(-1, 3 * sequences[0].shapes.shape[1])
    components = min(settings.components, *shapes.shape)
    pca = PCA(components, svd_solver="full").fit(shapes)
    stated = corpus.settings["features"]
    try:
        own = FeatureSettings.from_dict(stated)
    except ValueError as error:
        raise CorpusError(f"{corpus.folder} was made with other feature settings ({error}); preprocess anew") from None
    config = Config(
        features=stated,
        feature_size=features.shape[1],
        points=sequences[0].shapes.shape[1],
        components=components,
        scale=mean_scale,
        cell=settings.cell,
        direction=settings.direction,
        lookahead_ms=settings.lookahead_ms,
        delay_steps=_delay_steps(settings, own.reach_ms, sequences),
        hidden=settings.hidden,
        layers=settings.layers,
        layer_norm=settings.layer_norm,
        input_dropout=settings.input_dropout,
        dropout=settings.dropout,
        corpus=str(corpus.folder.resolve()),
        sources=[{k: row[k] for k in ("path", "sha256", "speaker")} for row in corpus.usable],
    )
    model = LipSync(config)
    silence = compute_features(np.zeros(1600, np.float32), own, gain=1.0)[5]
    for name, values in {
        "feature_mean": features.mean(0),
        "feature_std": np.maximum(features.std(0), 1e-3),
        "silence": silence,
        "pca_mean": pca.mean_,
        "pca_components": pca.components_,
        "neutral": np.mean([s.speaker.neutral for s in sequences], axis=0),
    }.items():
        getattr(model, name).copy_(torch.from_numpy(np.asarray(values, np.float32)))
    return model


def _require_same(run: Path, config: Config) -> None:
    """Raise `InputError` if a run cannot be gone on with as asked."""
    begun = LipSync.load(run).config
    for name in ARCHITECTURE:
        was, asked = getattr(begun, name), getattr(config, name)
        if was != asked:
            raise InputError(f"{run} was trained with {name} {was}, not {asked}; resume it so, or train anew to another --out")
    if sorted(s["sha256"] for s in begun.sources) != sorted(s["sha256"] for s in config.sources):
        raise InputError(
            f"{run} was trained on another corpus ({begun.corpus}); resume with that, or train anew to another --out"
        )


def train_model(
    corpus: Path | str,
    out: Path | str,
    settings: TrainSettings | None = None,
    *,
    device: str = "auto",
    seed: int = 0,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model on a corpus; in several processes if `torchrun` started them.

    Parameters
    ----------
    corpus
        Folder made by `preprocess_corpus`.
    out
        Model folder to make. It appears when training is done.
    settings
        Defaults to `TrainSettings()`.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    seed
        The same seed gives the same model on the same CPU.
    force
        Replace `out` if it exists.
    resume
        Go on with the training that made `out`, as if it had not stopped: to more epochs, say.
    progress
        Called with ("train", epochs done, most epochs).

    Returns
    -------
    dict
        ``run``, ``epochs``, ``steps``, ``val_loss`` and ``val_aperture_r`` of the kept epoch (None without validation),
        ``elapsed_s``.

    Raises
    ------
    CorpusError
        The corpus is missing, broken, or holds nothing to train on.
    InputError
        A setting or device cannot be used, or the training diverged.
    OutputExistsError
        `out` exists and `force` is false.
    """
    began = time.perf_counter()
    settings, out = settings or TrainSettings(), Path(out)
    opened = Corpus.load(Path(corpus))
    if resume and not (out / FIT_FILE).is_file():
        raise InputError(f"{out} holds no training to resume; train without --resume first")
    require_new(out, force or resume)
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file():
        raise InputError(f"{out} holds other files than a model's; choose another --out")
    train, held_out, mean_scale = load_sequences(opened)
    if not held_out:
        log.warning("less than %.0f s to train on: a fixed %d steps, without validation", LEAST_DATA_S, FIXED_STEPS)
    where = choose_device(device)
    torch.manual_seed(seed)
    model = build_model(train, opened, settings, mean_scale).to(where)
    if resume:
        _require_same(out, model.config)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with team(where) as ours:
        if ours.size > settings.streams:
            raise InputError(f"{settings.streams} streams cannot be shared by {ours.size} processes; start fewer")
        fit = Fit(model, train, held_out, settings, seed, ours)
        try:
            if ours.rank == 0:
                partial.mkdir()
            if resume:
                fit.load(out / FIT_FILE)
                if ours.rank == 0:
                    shutil.copy(out / METRICS_FILE, partial)
            report = asdict(fit.run(partial / METRICS_FILE, progress))
            fit.finish()
            if ours.rank == 0:
                model.config = replace(model.config, training=asdict(settings) | {"seed": seed} | report)
                model.save(partial)
                fit.save(partial / FIT_FILE)
                fit_ridge(*([arrays(model, s) for s in part] for part in (train, held_out))).save(partial)
                if out.exists():
                    shutil.rmtree(out) if out.is_dir() else out.unlink()
                partial.rename(out)
            ours.wait()
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {"run": str(out), **report, "elapsed_s": round(time.perf_counter() - began, 3)}
