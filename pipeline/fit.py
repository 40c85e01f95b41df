"""The training loop: mixed streams, truncated backpropagation through time, averaged weights, early stopping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from lipwright.data.errors import InputError
from lipwright.data.features import STEP_HZ
from lipwright.data.mouth import MIDDLE_OF_LIPS, aperture
from lipwright.data.windows import Lessons, Streams
from lipwright.models.lipsync import LipSync
from lipwright.models.losses import MouthLoss, Weights
from lipwright.models.metrics import Correlation
from lipwright.models.recurrent import State, carry
from lipwright.pipeline.processes import Team
from lipwright.pipeline.sequences import Sequence, arrays
from lipwright.pipeline.settings import TrainSettings

LEAST_STEPS = 6
"""Of training in an epoch, however little there is to hear."""

WARM_UP = 0.05
"""Share of the planned steps over which the learning rate rises."""

LEAST_SHARE = 0.6
"""The first epoch that may be chosen, as a share of the planned ones: silence and closed lips are learned late, and a few
seconds of validation are soon as good as they get by chance."""

DRAWN = 10_000
"""Training steps that are drawn at a time; few corpora have more in an epoch."""

BLOCK = 10_000
"""Steps of the corpus that are looked at together."""

GPU_SHARE = 0.5
"""Of a GPU's free memory, for what is learned from; if that is more, it stays on disk, and chunks are moved."""

DIVERGED = 100.0
"""A training has diverged when its loss is so many times that of always saying the mean mouth."""


class Validation:
    """The held-out sequences, judged after each epoch."""

    def __init__(self, sequences: list[Sequence], model: LipSync) -> None:
        self._sequences, self._model = sequences, model

    def __call__(self) -> tuple[float, float | None]:
        """Return the mean squared error of the coefficients, and the correlation of the aperture."""
        error, openings = 0.0, Correlation()
        for s in self._sequences:
            said, measured = self._model.predict(s.features)[s.valid], s.shapes[s.valid]
            ours, theirs = (self._model.project(torch.from_numpy(x).to(self._model.pca_mean)) for x in (said, measured))
            error += float((ours - theirs).square().mean(1).cpu().sum(dtype=torch.float64))  # not every device has it
            openings.add(*(aperture(self._placed(s, x)) for x in (said, measured)))
        return error / openings.count, openings.value

    def look(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mouths of the first held-out sequence as predicted and as measured, (T, 40, 3) each, where valid."""
        s = self._sequences[0]
        return self._placed(s, self._model.predict(s.features)[s.valid]), self._placed(s, s.shapes[s.valid])

    def _placed(self, sequence: Sequence, shapes: np.ndarray) -> np.ndarray:
        """Return mouths on their speaker's own neutral."""
        return sequence.speaker.place(shapes, self._model.config.scale)


@dataclass(frozen=True)
class Outcome:
    """The best epoch so far."""

    epochs: int = 0
    steps: int = 0
    val_loss: float | None = None
    val_aperture_r: float | None = None


@dataclass(frozen=True)
class FitState:
    """A training between two epochs: `tensors`, and `head`, JSON values."""

    tensors: dict[str, torch.Tensor]
    head: dict[str, Any]


class Fit:
    """A network in training.

    Every epoch draws its streams and its dropout from the seed and its own number, and begins with empty states: what
    is `kept` is all that is needed to go on as if nothing had happened.

    Parameters
    ----------
    model
        Its network is the running average of the one that is trained; `finish` leaves it at its best epoch.
    train
        What is learned from, variants included.
    held_out
        Without it, all of `last` epochs are trained, and the last is the best.
    least
        The first epoch that may be chosen.
    last
        Epochs to stop after, at most `settings.epochs`, for which the learning rate is planned.
    keep
        In the end the model as it came is kept, as epoch 0, if the held-out part likes it better.

    Attributes
    ----------
    kept : FitState
        After the last whole epoch.
    """

    def __init__(
        self,
        model: LipSync,
        train: list[Sequence],
        held_out: list[Sequence],
        settings: TrainSettings,
        seed: int,
        team: Team,
        *,
        least: int = 1,
        last: int | None = None,
        keep: bool = False,
    ) -> None:
        device = model.feature_mean.device
        self.model, self.settings, self.seed, self.team, self.device = model, settings, seed, team, device
        # Where it has room, the whole set lives on the device: a training step moves nothing.
        self.x, self.y, self.valid = _moved(team.joined(arrays(model, s) for s in train), device)
        self.lengths, self.weights = [len(s.features) for s in train], [s.weight for s in train]
        self.chunk = round(min(settings.bptt_s * STEP_HZ, max(self.lengths)))
        heard = settings.coverage * float(np.dot(self.lengths, self.weights))
        self.steps_per_epoch = max(LEAST_STEPS, round(heard / (settings.streams * self.chunk)))
        self.least = least
        self.last = settings.epochs if last is None else min(last, settings.epochs)
        self.validate = Validation(held_out, model) if held_out and team.rank == 0 else None
        self.judged = bool(held_out)
        weights = Weights(
            settings.velocity_weight,
            settings.opening_weight,
            settings.closure_weight,
            settings.blendshape_weight,
            settings.phone_weight,
        )
        self.loss = MouthLoss(model, *MIDDLE_OF_LIPS, weights)
        self.mean_loss = self._loss_of_the_mean_mouth()
        self.network = copy.deepcopy(model.network)
        on_gpu = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)  # with a fused optimiser it does not ask the GPU
        self.epoch = 0
        self.best = Outcome()
        self.best_weights = copy.deepcopy(model.network.state_dict())
        self.given, self.given_weights = self.best, self.best_weights
        if keep and self.judged:
            self.given = Outcome(0, 0, *team.told(self.validate() if self.validate else (None, None)))
        self.kept = self._snapshot()

    def _loss_of_the_mean_mouth(self) -> float:
        total = 0.0
        for wanted, counts in zip(self.y.split(BLOCK), self.valid.split(BLOCK), strict=True):
            wanted, counts = wanted[None].to(self.device), counts[None].to(self.device)
            total += float(self.loss(torch.zeros_like(wanted)[None], wanted, counts)[0])
        return total / max(int(self.valid.sum()), 1)

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step: up along a line, down along a cosine (Loshchilov & Hutter 2017)."""
        planned = self.settings.epochs * self.steps_per_epoch
        rise = max(1.0, WARM_UP * planned)
        fall = 0.5 * (1 + math.cos(math.pi * min(max(step - rise, 0) / max(planned - rise, 1), 1)))
        return self.settings.learning_rate * min((step + 1) / rise, 1) * fall

    def run(self, record: Callable[[dict[str, Any]], None], progress: Callable[[int, int], None] | None) -> Outcome:
        """Train until the epochs are done or no better one comes.

        Parameters
        ----------
        record
            Given a row of numbers an epoch, in process 0.
        progress
            Called with (epochs done, most epochs).
        """
        shared = self.team.share(self.network)
        while self.epoch < self.last and not self._stale():
            self.epoch += 1
            loss, norm = self.train_epoch(shared)
            if not math.isfinite(loss) or loss > DIVERGED * self.mean_loss:
                raise InputError(
                    f"training diverged in epoch {self.epoch}: loss {loss:.3g}, always the mean mouth {self.mean_loss:.3g}; "
                    "try another --cell, --layers 1, a smaller --bptt-s or another --seed"
                )
            val_loss, val_r = self.team.told(self.validate() if self.validate else (None, None))
            if self._better(val_loss, val_r):
                self.best = Outcome(self.epoch, self.epoch * self.steps_per_epoch, val_loss, val_r)
                self.best_weights = {name: w.detach().clone() for name, w in self.model.network.state_dict().items()}
            self.kept = self._snapshot()
            if self.team.rank == 0:
                row = {"epoch": self.epoch, "train_loss": loss, "gradient_norm": norm}
                record(row | {"val_loss": val_loss, "val_aperture_r": val_r})
                if progress:
                    progress(self.epoch, self.last)
        return self.chosen[0]

    @property
    def begun(self) -> bool:
        """Whether an epoch has been trained, or none is to be."""
        return bool(self.kept.head["epoch"]) or not self.last

    @property
    def chosen(self) -> tuple[Outcome, dict[str, torch.Tensor]]:
        """The best epoch so far, or the model as it came, and the weights."""
        ours, given = self.best.val_aperture_r, self.given.val_aperture_r
        if given is not None and (ours is None or given > ours):
            return self.given, self.given_weights
        return self.best, self.best_weights

    def _better(self, val_loss: float | None, val_r: float | None) -> bool:
        """Say whether an epoch is the best so far: its aperture follows more closely; where none moves, its loss is less.

        Up to the first one that may be chosen, it is the latest.
        """
        if self.epoch <= self.least or val_loss is None or self.best.val_loss is None:
            return True
        if val_r is None or self.best.val_aperture_r is None:
            return val_r is not None or (self.best.val_aperture_r is None and val_loss < self.best.val_loss)
        return val_r > self.best.val_aperture_r

    def _stale(self) -> bool:
        return self.judged and self.epoch - self.best.epochs >= self.settings.patience

    def train_epoch(self, network: nn.Module) -> tuple[float, float]:
        """Train for one epoch; return the mean loss, and the mean norm of the gradient before it is clipped."""
        settings, team, config = self.settings, self.team, self.model.config
        rng = np.random.default_rng([self.seed, self.epoch])
        streams = Streams(
            self.lengths,
            streams=settings.streams,
            chunk=self.chunk,
            # Of both directions, the bound is one of use: in training, the future is heard to the end of each chunk.
            delay=config.lead_steps if config.direction == "both" else config.delay_steps,
            rng=rng,
            weights=self.weights,
        )
        torch.manual_seed(int(rng.integers(2**32)) + team.rank)
        portions = self._draw(streams)
        first = next(portions)
        mix = Mix(first.first.shape[1], settings.mixup, rng, self.device) if settings.mixup else None
        still = self.x.shape[1] // 2  # the other half are differences
        channel = None
        if settings.channel_noise:
            channel = settings.channel_noise * torch.randn(first.first.shape[1], 1, still, device=self.device)
        network.train()
        parameters: list[torch.Tensor] = [*self.network.parameters()]
        averages: list[torch.Tensor] = [*self.model.network.parameters()]
        members = len(self.network.members)
        state: State | None = None
        totals = torch.zeros(2, device=self.device)
        for k, chunk in enumerate(chain(first, chain.from_iterable(portions))):
            for group in self.optimiser.param_groups:
                group["lr"] = self._rate((self.epoch - 1) * self.steps_per_epoch + k)
            fresh, lengths, heard, wanted, counts = (
                t.to(self.device)
                for t in (
                    chunk.fresh,
                    chunk.lengths,
                    self.x[chunk.inputs],
                    self.y[chunk.targets],
                    chunk.counts & self.valid[chunk.targets],
                )
            )
            state = None if state is None else carry(state, fresh)
            if mix:
                heard, wanted, counts = mix(heard), mix(wanted), mix.both(counts)
            if channel is not None:
                heard = torch.cat([heard[..., :still] + channel, heard[..., still:]], -1)
            if settings.input_noise:
                heard = heard + settings.input_noise * torch.randn_like(heard)
            with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
                said, state = network(heard, state, lengths)
            due = team.total(counts.sum()).clamp(min=1)
            loss = self.loss(said.float(), wanted, counts).sum() / due
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss * team.size).backward()  # the team averages gradients, and losses want to be summed
            self.scaler.unscale_(self.optimiser)
            norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm * members**0.5)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - settings.averaging)
            totals += torch.stack([loss.detach() / members, norm / (team.size * members**0.5)])
        # Where the whole set lives on the device, this is the one time in an epoch that the host waits for it.
        loss_sum, norm_sum = team.total(totals).tolist()
        return loss_sum / self.steps_per_epoch, norm_sum / self.steps_per_epoch

    def _draw(self, streams: Streams) -> Iterator[Lessons]:
        """Yield this process's part of an epoch, so many training steps at a time, where the sequences are."""
        for start in range(0, self.steps_per_epoch, DRAWN):
            lessons = streams.take(min(DRAWN, self.steps_per_epoch - start))
            yield lessons.share(self.team.rank, self.team.size, self.x.device)

    def forget_lessons(self) -> None:
        """Let go of what was learned from: there is no epoch to come, and others want its room."""
        self.x, self.y, self.valid = (t[:0].clone() for t in (self.x, self.y, self.valid))

    def finish(self) -> None:
        """Leave the model as it was at its best epoch."""
        self.model.network.load_state_dict(self.chosen[1])
        self.model.eval()

    def _snapshot(self) -> FitState:
        """Copy all that is needed to go on from the end of an epoch."""
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.model.network.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best_weights.items()}
        for k, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{k}.{name}": t for name, t in moments.items()}
        head = {"epoch": self.epoch, "best": vars(self.best), "scaler": self.scaler.state_dict() if self.epoch else {}}
        return FitState({name: t.detach().clone() for name, t in tensors.items()}, head)

    def restore(self, state: FitState) -> None:
        """Go on from a state; `KeyError`, `TypeError`, `ValueError` or `RuntimeError` if it is another network's."""
        parts: dict[str, dict[str, Any]] = {"network": {}, "average": {}, "best": {}, "adam": {}}
        for key, tensor in state.tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = tensor.to(self.device)
        self.network.load_state_dict(parts["network"])
        self.model.network.load_state_dict(parts["average"])
        self.best_weights = parts["best"]
        moments: dict[int, dict[str, Any]] = {}
        for name, t in parts["adam"].items():
            k, what = name.split(".")
            moments.setdefault(int(k), {})[what] = t
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        if state.head["scaler"]:
            self.scaler.load_state_dict(state.head["scaler"])
        self.epoch, self.best = state.head["epoch"], Outcome(**state.head["best"])
        self.kept = state


def _moved(columns: list[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Move mapped arrays to a device, if it has room for them."""
    tensors = [torch.from_numpy(column) for column in columns]
    return [t.to(device) for t in tensors] if sum(t.nbytes for t in tensors) <= _room(device) else tensors


def _room(device: torch.device) -> float:
    """Return how many bytes of a device may hold what is learned from."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch holds and nobody uses would count as taken
        return GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        torch.mps.empty_cache()
        return GPU_SHARE * (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return math.inf  # the processor reads mapped arrays where they are


class Mix:
    """Streams heard two at a time: each with a partner, in shares that stay for an epoch (Zhang et al. 2018).

    Parameters
    ----------
    streams
        How many there are.
    alpha
        Of the Beta distribution that shares are drawn from.
    """

    def __init__(self, streams: int, alpha: float, rng: np.random.Generator, device: torch.device) -> None:
        share = np.maximum(s := rng.beta(alpha, alpha, streams), 1 - s)  # the stream itself is the louder one
        self._share = torch.from_numpy(share.astype(np.float32)).to(device)[:, None, None]
        self._partner = torch.from_numpy(rng.permutation(streams)).to(device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Mix what streams hear or say, (B, S, D)."""
        return self._share * x + (1 - self._share) * x[self._partner]

    def both(self, counts: torch.Tensor) -> torch.Tensor:
        """Return where both of a pair count, (B, S)."""
        return counts & counts[self._partner]
