"""Corpus → model: truncated backpropagation through time over streams, with early stopping."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError, InputError, require_new
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features
from lipwright.data.mouth import LEAST_SCALE, Speaker, aperture
from lipwright.data.windows import Streams
from lipwright.models.baselines import fit_ridge
from lipwright.models.device import choose_device
from lipwright.models.lipsync import CONFIG, Config, LipSync
from lipwright.models.metrics import pearson
from lipwright.models.recurrent import State, carry
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.settings import TrainSettings

log = logging.getLogger(__name__)

LEAST_DATA_S = 10.0
"""With less to train on, nothing is kept for validation, and training runs a fixed number of steps."""

LEAST_VALID_STEPS = STEP_HZ
"""A span with less than a second of visible mouth teaches nothing and judges nothing."""

FIXED_STEPS = 400
COVERAGE = 20
"""An epoch hears each second of training about so many times."""

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Sequence:
    """One span of one clip, ready for the network: `features` (T, D), relative `shapes` (T, K, 3), `valid` (T,)."""

    features: np.ndarray
    shapes: np.ndarray
    valid: np.ndarray
    speaker: Speaker


def load_sequences(corpus: Corpus) -> tuple[list[Sequence], list[Sequence], float]:
    """Read the spans to train on and to validate on, and the mean scale of their speakers.

    Raises
    ------
    CorpusError
        The corpus holds no usable clip, or a clip is missing or broken.
    """
    if not corpus.usable:
        reasons = "; ".join(sorted({str(row["reason"]) for row in corpus.rows})[:2]) or "it is empty"
        raise CorpusError(f"{corpus.folder} holds nothing to train on: {reasons}")
    clips = [(row, corpus.load_clip(row["id"])) for row in corpus.usable]
    tracks = [clip.mouth_track() for _, clip in clips]
    scales = [t.speaker.scale for t in tracks if t.speaker.scale is not None]
    if not scales:
        raise CorpusError(f"{corpus.folder}: nobody speaks in it (apertures vary by less than {LEAST_SCALE})")
    mean_scale = float(np.mean(scales))
    train: list[Sequence] = []
    held_out: list[Sequence] = []
    for (row, clip), track in zip(clips, tracks, strict=True):
        if not np.isfinite(clip.features).all():
            raise CorpusError(f"clip {row['id']} holds features that are not numbers; run lipwright preprocess again")
        shapes = track.speaker.normalise(track.xyz, mean_scale)
        for part, where in (("train", train), ("validation", held_out)):
            if (span := row["split"][part]) is not None:
                start, end = (round((second - row["start_s"]) * STEP_HZ) for second in span)
                cut = slice(start, end)
                if track.valid[cut].sum() >= LEAST_VALID_STEPS:
                    where.append(Sequence(clip.features[cut], shapes[cut], track.valid[cut], track.speaker))
    if not train:
        raise CorpusError(f"{corpus.folder} shows less than a second of mouth to train on; add longer footage")
    if sum(len(s.features) for s in train) < LEAST_DATA_S * STEP_HZ:
        log.warning("less than %.0f s to train on: a fixed %d steps, without validation", LEAST_DATA_S, FIXED_STEPS)
        return train + held_out, [], mean_scale
    return train, held_out, mean_scale


def _build(sequences: list[Sequence], corpus: Corpus, settings: TrainSettings, mean_scale: float) -> LipSync:
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
        lookahead_ms=settings.delay_ms,
        delay_steps=math.floor((settings.delay_ms - own.reach_ms) * STEP_HZ / 1000),
        hidden=settings.hidden,
        layers=settings.layers,
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


def _arrays(model: LipSync, sequence: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a sequence teaches: standardised features (T, D), coefficients (T, P) and validity (T,)."""
    features, shapes = (torch.from_numpy(a).to(model.feature_mean) for a in (sequence.features, sequence.shapes))
    return model.standardise(features).cpu().numpy(), model.project(shapes).cpu().numpy(), sequence.valid


class _Validation:
    """The held-out sequences, judged after each epoch."""

    def __init__(self, sequences: list[Sequence], model: LipSync) -> None:
        self._sequences, self._model = sequences, model
        self._wanted = [_arrays(model, s)[1] for s in sequences]
        self._measured = self._apertures([s.shapes for s in sequences])

    def _apertures(self, shapes: list[np.ndarray]) -> np.ndarray:
        """Return the apertures of all valid steps; each speaker's mouth is placed on their own neutral."""
        scale = self._model.config.scale
        return np.concatenate(
            [aperture(s.speaker.place(x, scale))[s.valid] for s, x in zip(self._sequences, shapes, strict=True)]
        )

    def __call__(self) -> tuple[float, float | None]:
        """Return the mean squared error of the coefficients, and the correlation of the aperture."""
        shapes = [self._model.predict(s.features) for s in self._sequences]
        error = np.concatenate(
            [
                ((self._model.project(torch.from_numpy(x).to(self._model.pca_mean)).cpu().numpy() - w) ** 2)[s.valid]
                for s, x, w in zip(self._sequences, shapes, self._wanted, strict=True)
            ]
        )
        return float(error.mean()), pearson(self._apertures(shapes), self._measured)


def train_model(
    corpus: Path | str,
    out: Path | str,
    settings: TrainSettings | None = None,
    *,
    device: str = "auto",
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model on a corpus.

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
    require_new(out, force)
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file():
        raise InputError(f"{out} holds other files than a model's; choose another --out")
    train, held_out, mean_scale = load_sequences(opened)
    torch.manual_seed(seed)
    model = _build(train, opened, settings, mean_scale)
    if model.config.delay_steps < 0:
        raise InputError(f"--delay-ms {settings.delay_ms:g} is less than a feature's own reach; use 13 or more")
    longest_s = max(len(s.features) for s in train) / STEP_HZ
    if longest_s <= settings.delay_ms / 1000:
        raise InputError(f"--delay-ms {settings.delay_ms:g} is longer than the longest clip ({longest_s:.2f} s)")
    model.to(choose_device(device))
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        report = _fit(model, train, held_out, settings, seed, partial / METRICS_FILE, progress)
        model.config = replace(model.config, training=asdict(settings) | {"seed": seed} | report)
        model.save(partial)
        fit_ridge(*([_arrays(model, s) for s in part] for part in (train, held_out))).save(partial)
        if out.exists():
            shutil.rmtree(out) if out.is_dir() else out.unlink()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"run": str(out), **report, "elapsed_s": round(time.perf_counter() - began, 3)}


def _fit(
    model: LipSync,
    train: list[Sequence],
    held_out: list[Sequence],
    settings: TrainSettings,
    seed: int,
    metrics: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    """Train the network in place, and leave it as it was at its best epoch."""
    device = model.feature_mean.device
    # The whole set lives on the device: a training step moves only indices.
    x, y, valid = (
        torch.from_numpy(np.concatenate(parts)).to(device) for parts in zip(*(_arrays(model, s) for s in train), strict=True)
    )
    chunk = max(1, round(settings.bptt_s * STEP_HZ))
    chunks = iter(
        Streams(
            [len(s.features) for s in train],
            streams=settings.streams,
            chunk=chunk,
            delay=model.config.delay_steps,
            rng=np.random.default_rng(seed),
        )
    )
    network = copy.deepcopy(model.network)  # trained; model.network is its running average
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    validate = _Validation(held_out, model) if held_out else None
    steps_per_epoch = max(1, round(COVERAGE * len(x) / (settings.streams * chunk)))
    epochs = settings.epochs if held_out else -(-FIXED_STEPS // steps_per_epoch)
    best: dict[str, Any] = {"epochs": 0, "steps": 0, "val_loss": None, "val_aperture_r": None}
    best_weights: dict[str, torch.Tensor] = {}
    state: State | None = None
    with metrics.open("w") as lines:
        for epoch in range(1, epochs + 1):
            network.train()
            total = torch.zeros((), device=device)
            for _ in range(steps_per_epoch):
                part = next(chunks)
                inputs, targets = (torch.from_numpy(a).to(device) for a in (part.inputs, part.targets))
                counts = torch.from_numpy(part.counts).to(device) & valid[targets]
                state = None if state is None else carry(state, torch.from_numpy(part.fresh).to(device))
                said, state = network(x[inputs], state)
                error = ((said - y[targets]) ** 2).mean(-1)
                loss = (error * counts).sum() / counts.sum().clamp(min=1)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
                optimiser.step()
                with torch.no_grad():
                    torch._foreach_lerp_(list(model.network.parameters()), list(network.parameters()), 1 - settings.averaging)
                total += loss.detach()
            train_loss = float(total) / steps_per_epoch
            if not math.isfinite(train_loss):
                raise InputError(f"training diverged in epoch {epoch} (loss {train_loss}); try a smaller --bptt-s or --seed")
            val_loss, val_r = validate() if validate else (None, None)
            row = {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "val_aperture_r": val_r}
            lines.write(json.dumps(row) + "\n")
            if val_loss is None or best["val_loss"] is None or val_loss < best["val_loss"]:
                best = {
                    "epochs": epoch,
                    "steps": epoch * steps_per_epoch,
                    "val_loss": val_loss,
                    "val_aperture_r": val_r,
                }
                best_weights = {name: w.detach().clone() for name, w in model.network.state_dict().items()}
            if progress:
                progress("train", epoch, epochs)
            if validate and epoch - best["epochs"] >= settings.patience:
                break
    model.network.load_state_dict(best_weights)
    model.eval()
    return best
