"""The course of a training: how many epochs are best, found on the validation part; then a model trained so long on it all."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from collections.abc import Sequence as Several
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lipwright.data.corpus import Corpus
from lipwright.data.errors import InputError
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features
from lipwright.models.baselines import fit_ridge
from lipwright.models.lipsync import Config, LipSync
from lipwright.pipeline.adapt import PENALTIES, choose_penalty, find_lead, fit_read_out, take_over
from lipwright.pipeline.fit import LEAST_SHARE, Fit, FitState, Outcome
from lipwright.pipeline.pool import feature_settings, origin
from lipwright.pipeline.processes import Team
from lipwright.pipeline.progress import Progress, told_as
from lipwright.pipeline.record import Record
from lipwright.pipeline.sequences import Sequence, an_hour, arrays, heard_in_training, load_sequences
from lipwright.pipeline.settings import DELAY_MS, TrainSettings
from lipwright.pipeline.start import Start

log = logging.getLogger(__name__)

FIT_FILE = "training.safetensors"
"""What `--resume` goes on from."""

ADAPTING = 0.5
"""A trained network learns on at this share of the learning rate: `docs/base.md`."""

LEAST_JUDGED_S = 5.0
"""A shorter validation part chooses by chance; then the last epoch is taken."""

LEAST_BLENDSHAPE_STD = 0.02
"""Blendshapes that hardly move are noise, and are not blown up to be learned."""


class Course:
    """One training, from corpora to a model.

    Parameters
    ----------
    corpora, settings, seed
    start
        What to start from.
    device, team
        Where, and by which processes.

    A course has two stages: ``search``, and ``refit`` if there is a validation part.
    """

    def __init__(
        self,
        corpora: Several[Corpus],
        settings: TrainSettings,
        seed: int,
        start: Start,
        device: torch.device,
        team: Team,
    ) -> None:
        if start.model is not None:
            settings = replace(settings, learning_rate=ADAPTING * settings.learning_rate)
        self.corpora, self.settings, self.seed, self.device, self.team = corpora, settings, seed, device, team
        self.start = start
        self.train, self.held_out, self.mean_scale = load_sequences(*corpora, team=team)
        if not self.held_out:
            log.warning("too little footage to keep some for validation: all %d epochs are trained", settings.epochs)
        self._fits: dict[str, Fit] = {}
        self._penalties: tuple[float, ...] = PENALTIES

    def build(self, sequences: list[Sequence]) -> LipSync:
        """Make the model that is to be trained on some sequences."""
        torch.manual_seed(self.seed)
        features, own = feature_settings(self.corpora), origin(self.corpora)
        made = build_model(sequences, features, self.settings, self.mean_scale, lead_steps=self._lead_steps, **own)
        if self.start.model is not None:
            take_over(made, self.start.model)
        return made.to(self.device)

    @cached_property
    def _lead_steps(self) -> int:
        return (
            0
            if self.start.model is None
            else self.team.told(find_lead(self.start.model, self.train) if self.team.rank == 0 else 0)
        )

    def _fit(self, train: list[Sequence], held_out: list[Sequence], last: int | None) -> Fit:
        heard = heard_in_training(train, self.settings, feature_settings(self.corpora), self.team)
        model = self.build(train)
        judges = sum(int(s.valid.sum()) for s in held_out) >= LEAST_JUDGED_S * STEP_HZ
        least = max(1, math.floor(LEAST_SHARE * self.settings.epochs)) if judges else self.settings.epochs
        if begun := self.start.model is not None:
            chooses = judges and self.team.rank == 0
            found = choose_penalty(model, heard, held_out, self._penalties) if chooses else self._penalties[0]
            penalty = self.team.told(found)
            self._penalties = (penalty,)
            fit_read_out(model, heard, penalty)
        return Fit(model, heard, held_out, self.settings, self.seed, self.team, least=least, last=last, keep=judges and begun)

    def run(self, record: Record | None, progress: Progress | None, begun: Path | None = None) -> Outcome:
        """Train.

        Parameters
        ----------
        record
            In process 0.
        begun
            What `save` wrote of this course when it was interrupted.

        Raises
        ------
        InputError
            `begun` is broken, or another course's.
        """
        states = _read_states(begun) if begun else {}

        def trained(fit: Fit, stage: str, told: str) -> Outcome:
            self._fits[stage] = fit
            if begun and stage in states:
                try:
                    fit.restore(states[stage])
                except (KeyError, TypeError, ValueError, RuntimeError) as error:
                    raise _broken(begun, error) from None
            note = record.epoch if record else lambda row: None
            outcome = fit.run(lambda row: note({"stage": stage} | row), told_as(progress, told))
            fit.finish()
            return outcome

        fit = self._fit(self.train, self.held_out, None)
        found = trained(fit, "search", "train")
        if not found.epochs:
            log.info("no epoch was better on the validation part than %s with a new read-out: it was kept", self.start.name)
        if record and fit.validate and "refit" not in states:
            record.mouth(*fit.validate.look())
        if self.held_out and self.settings.refit:
            fit.forget_lessons()
            trained(self._fit(self.train + self.held_out, [], found.epochs), "refit", "train on all")
        return found

    @property
    def worth_keeping(self) -> bool:
        """Whether an epoch has been trained, or none had to be."""
        return any(fit.begun for fit in self._fits.values())

    def save(self, folder: Path) -> None:
        """Write the best model so far, the ridge to compare it with, and what is needed to go on."""
        from safetensors.torch import save_file

        fits = {stage: fit for stage, fit in self._fits.items() if fit.begun}
        stage, fit = list(fits.items())[-1]
        fit.finish()
        model, found = fit.model, asdict(fits["search"].chosen[0])
        training = (
            {"settings": asdict(self.settings), "seed": self.seed, "stage": stage}
            | {"corpus_settings": [corpus.hash for corpus in self.corpora]}
            | found
            | {"init": self.start.name, "init_sha256": self.start.sha256}
        )
        model.config = replace(model.config, training=training)
        model.save(folder)
        tensors = {f"{stage}.{name}": t for stage, fit in fits.items() for name, t in fit.kept.tensors.items()}
        heads = {stage: json.dumps(fit.kept.head) for stage, fit in fits.items()}
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, folder / FIT_FILE, heads)
        p = model.config.components
        shown = ((arrays(model, s) for s in an_hour(part)) for part in (self.train, self.held_out))
        fit_ridge(*(((x, y[:, :p], valid) for x, y, valid in part) for part in shown)).save(folder)


def _read_states(path: Path) -> dict[str, FitState]:
    """Read the states that `Course.save` wrote, by stage; `InputError` if the file is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            heads = {stage: json.loads(head) for stage, head in file.metadata().items()}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, AttributeError, TypeError, ValueError) as error:
        raise _broken(path, error) from None
    return {
        stage: FitState({key.removeprefix(f"{stage}."): t for key, t in tensors.items() if key.startswith(f"{stage}.")}, head)
        for stage, head in heads.items()
    }


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is missing or broken ({error}); train anew, with --force")


def _delay_steps(settings: TrainSettings, reach_ms: float, sequences: list[Sequence]) -> int:
    """Return the steps that outputs come late; `InputError` if the network cannot hear so, or learn so."""
    if not settings.bptt_s * STEP_HZ >= 2:
        raise InputError(f"--bptt-s {settings.bptt_s:g} is a window of one step, with no time to learn from; use 0.02 or more")
    if settings.direction not in DELAY_MS:
        raise InputError(f"--direction {settings.direction} is none of {', '.join(DELAY_MS)}")
    ahead_ms = settings.lookahead_ms
    if ahead_ms is None:
        return 0
    if settings.direction == "whole":
        raise InputError(f"--direction whole hears all of a clip, and --delay-ms {ahead_ms:g} less; choose one of them")
    if not ahead_ms >= reach_ms:
        raise InputError(f"--delay-ms {ahead_ms:g} is less than a feature's own reach; use {math.ceil(reach_ms)} or more")
    longest_s = max(len(s.features) for s in sequences) / STEP_HZ
    if longest_s <= ahead_ms / 1000:
        raise InputError(f"--delay-ms {ahead_ms:g} is longer than the longest clip ({longest_s:.2f} s)")
    return math.floor((ahead_ms - reach_ms) * STEP_HZ / 1000)


def build_model(
    sequences: list[Sequence],
    features: FeatureSettings,
    settings: TrainSettings,
    mean_scale: float,
    *,
    lead_steps: int = 0,
    **origin: Any,
) -> LipSync:
    """Make an untrained model whose statistics and PCA come from the training sequences.

    Parameters
    ----------
    sequences, settings
    features
        What the sequences' features were computed with.
    mean_scale
        Mean scale of the speakers.
    lead_steps
        `Config.lead_steps`, if it is not more than the delay.
    **origin
        What `Config` keeps of where the sequences are from.
    """
    points = sequences[0].shapes.shape[1]
    delay_steps = _delay_steps(settings, features.reach_ms, sequences)
    heard_mean, heard_covariance = _moments(s.features for s in sequences)
    said_mean, said_covariance = _moments(s.blendshapes[s.valid] for s in sequences)
    pca_mean, covariance = _moments(s.shapes[s.valid].reshape(-1, 3 * points) for s in sequences)
    components = min(settings.components, sum(int(s.valid.sum()) for s in sequences), 3 * points)
    config = Config(
        features=features.to_dict(),
        feature_size=len(heard_mean),
        points=points,
        components=components,
        scale=mean_scale,
        cell=settings.cell,
        direction="forward" if settings.direction == "forward" else "both",
        lookahead_ms=settings.lookahead_ms,
        delay_steps=delay_steps,
        lead_steps=lead_steps if settings.lookahead_ms is None else min(lead_steps, delay_steps),
        hidden=settings.hidden,
        layers=settings.layers,
        layer_norm=settings.layer_norm,
        members=settings.members,
        blendshapes=len(said_mean),
        phones=sequences[0].phones.shape[1],
        input_dropout=settings.input_dropout,
        dropout=settings.dropout,
        **origin,
    )
    model = LipSync(config)
    for name, values in {
        "feature_mean": heard_mean,
        "feature_std": np.maximum(_spread(heard_covariance), 1e-3),
        "silence": compute_features(np.zeros(1600, np.float32), features, gain=1.0)[5],
        "pca_mean": pca_mean,
        "pca_components": principal_components(covariance, components),
        "neutral": np.mean([s.speaker.neutral for s in sequences], axis=0),
        "blendshape_mean": said_mean,
        "blendshape_std": np.maximum(_spread(said_covariance), LEAST_BLENDSHAPE_STD),
    }.items():
        getattr(model, name).copy_(torch.from_numpy(np.asarray(values, np.float32)))
    return model


def _moments(pieces: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and the covariance (D, D) of arrays (T, D) that come one after another, float64."""
    count, total, products = 0, np.zeros(()), np.zeros(())
    for piece in pieces:
        x = piece.astype(np.float64)
        count, total, products = count + len(x), total + x.sum(0), products + x.T @ x
    mean = total / count
    return mean, products / count - np.outer(mean, mean)


def _spread(covariance: np.ndarray) -> np.ndarray:
    """Return standard deviations (D,); rounding may leave less than nothing of what does not vary."""
    return np.sqrt(np.maximum(np.diag(covariance), 0))


def principal_components(covariance: np.ndarray, count: int) -> np.ndarray:
    """Return the directions (count, D) of greatest variance, each with its greatest entry positive."""
    axes = np.linalg.eigh(covariance)[1].T[::-1][:count]
    greatest = axes[np.arange(count), np.abs(axes).argmax(1)]
    return axes * np.sign(greatest)[:, None]
