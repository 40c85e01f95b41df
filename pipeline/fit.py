"""The training loop: streams, truncated backpropagation through time, averaged weights, early stopping."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lipwright.data.errors import InputError
from lipwright.data.features import STEP_HZ
from lipwright.data.mouth import aperture
from lipwright.data.windows import Streams
from lipwright.models.lipsync import LipSync
from lipwright.models.metrics import pearson
from lipwright.models.recurrent import State, carry
from lipwright.pipeline.processes import Team
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.sequences import Sequence, arrays
from lipwright.pipeline.settings import TrainSettings

FIXED_STEPS = 400
COVERAGE = 20
"""An epoch hears each second of training about so many times."""

DIVERGED = 100.0
"""A training has diverged when its loss is so many times that of always saying the mean mouth."""


class Validation:
    """The held-out sequences, judged after each epoch."""

    def __init__(self, sequences: list[Sequence], model: LipSync) -> None:
        self._sequences, self._model = sequences, model
        self._wanted = [arrays(model, s)[1] for s in sequences]
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


@dataclass(frozen=True)
class Outcome:
    """The best epoch so far."""

    epochs: int = 0
    steps: int = 0
    val_loss: float | None = None
    val_aperture_r: float | None = None


class Fit:
    """A network in training.

    Every epoch draws its streams and its dropout from the seed and its own number, and begins with empty states: what
    `save` writes is all that is needed to go on as if nothing had happened.

    Parameters
    ----------
    model
        Its network is the running average of the one that is trained; `finish` leaves it at its best epoch.
    train, held_out
        Without `held_out`, a fixed number of steps is trained.
    """

    def __init__(
        self, model: LipSync, train: list[Sequence], held_out: list[Sequence], settings: TrainSettings, seed: int, team: Team
    ) -> None:
        device = model.feature_mean.device
        self.model, self.settings, self.seed, self.team, self.device = model, settings, seed, team, device
        # The whole set lives on the device: a training step moves nothing.
        self.x, self.y, self.valid = (
            torch.from_numpy(np.concatenate(parts)).to(device) for parts in zip(*(arrays(model, s) for s in train), strict=True)
        )
        self.lengths = [len(s.features) for s in train]
        self.chunk = round(min(settings.bptt_s * STEP_HZ, max(self.lengths)))
        self.steps_per_epoch = max(1, round(COVERAGE * len(self.x) / (settings.streams * self.chunk)))
        self.epochs = settings.epochs if held_out else -(-FIXED_STEPS // self.steps_per_epoch)
        self.validate = Validation(held_out, model) if held_out and team.rank == 0 else None
        self.judged = bool(held_out)
        self.mean_loss = float((self.y[self.valid] ** 2).mean())
        self.network = copy.deepcopy(model.network)
        on_gpu = device.type == "cuda"
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)  # with a fused optimiser it does not ask the GPU
        self.epoch = 0
        self.best = Outcome()
        self.best_weights = copy.deepcopy(model.network.state_dict())

    def run(self, metrics: Path, progress: Progress | None) -> Outcome:
        """Train until the epochs are done or no better one comes; write a line per epoch."""
        shared = self.team.share(self.network)
        while self.epoch < self.epochs and not self._stale():
            self.epoch += 1
            loss, norm = self.train_epoch(shared)
            if not math.isfinite(loss) or loss > DIVERGED * self.mean_loss:
                raise InputError(
                    f"training diverged in epoch {self.epoch}: loss {loss:.3g}, always the mean mouth {self.mean_loss:.3g}; "
                    "try another --cell, a smaller --bptt-s or another --seed"
                )
            val_loss, val_r = self.team.told(self.validate() if self.validate else (None, None))
            if val_loss is None or self.best.val_loss is None or val_loss < self.best.val_loss:
                self.best = Outcome(self.epoch, self.epoch * self.steps_per_epoch, val_loss, val_r)
                self.best_weights = {name: w.detach().clone() for name, w in self.model.network.state_dict().items()}
            if self.team.rank == 0:
                row = {"epoch": self.epoch, "train_loss": loss, "gradient_norm": norm}
                with metrics.open("a") as lines:
                    lines.write(json.dumps(row | {"val_loss": val_loss, "val_aperture_r": val_r}) + "\n")
                if progress:
                    progress("train", self.epoch, self.epochs)
        return self.best

    def _stale(self) -> bool:
        return self.judged and self.epoch - self.best.epochs >= self.settings.patience

    def train_epoch(self, network: nn.Module) -> tuple[float, float]:
        """Train for one epoch; return the mean loss, and the mean norm of the gradient before it is clipped."""
        settings, team = self.settings, self.team
        rng = np.random.default_rng([self.seed, self.epoch])
        streams = Streams(
            self.lengths, streams=settings.streams, chunk=self.chunk, delay=self.model.config.delay_steps, rng=rng
        )
        torch.manual_seed(int(rng.integers(2**32)) + team.rank)
        network.train()
        parameters: list[torch.Tensor] = [*self.network.parameters()]
        averages: list[torch.Tensor] = [*self.model.network.parameters()]
        state: State | None = None
        totals = torch.zeros(2, device=self.device)
        for chunk in streams.take(self.steps_per_epoch).share(team.rank, team.size, self.device):
            state = None if state is None else carry(state, chunk.fresh)
            with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
                said, state = network(self.x[chunk.inputs], state, chunk.lengths)
            error = ((said.float() - self.y[chunk.targets]) ** 2).mean(-1)  # (B, S)
            counts = chunk.counts & self.valid[chunk.targets]
            due = team.total(counts.sum()).clamp(min=1)
            loss = (error * counts).sum() / due
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss * team.size).backward()  # the team averages gradients, and losses want to be summed
            self.scaler.unscale_(self.optimiser)
            norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - settings.averaging)
            totals += torch.stack([loss.detach(), norm / team.size])
        loss_sum, norm_sum = team.total(totals).tolist()  # the one time in an epoch that the host waits for the device
        return loss_sum / self.steps_per_epoch, norm_sum / self.steps_per_epoch

    def finish(self) -> None:
        """Leave the model as it was at its best epoch."""
        self.model.network.load_state_dict(self.best_weights)
        self.model.eval()

    def save(self, path: Path) -> None:
        """Write all that is needed to go on."""
        from safetensors.torch import save_file

        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.model.network.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best_weights.items()}
        for k, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{k}.{name}": t for name, t in moments.items()}
        head = {"epoch": self.epoch, "best": vars(self.best), "scaler": self.scaler.state_dict()}
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path, {"fit": json.dumps(head)})

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote; `InputError` if it is missing, broken or another network's."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt", device=str(self.device)) as file:
                head = json.loads(file.metadata()["fit"])
                parts: dict[str, dict[str, Any]] = {"network": {}, "average": {}, "best": {}, "adam": {}}
                for key in file.keys():  # noqa: SIM118 - not a dict
                    part, name = key.split(".", 1)
                    parts[part][name] = file.get_tensor(key)
            self.network.load_state_dict(parts["network"])
            self.model.network.load_state_dict(parts["average"])
            self.best_weights = parts["best"]
            moments: dict[int, dict[str, Any]] = {}
            for name, t in parts["adam"].items():
                k, what = name.split(".")
                moments.setdefault(int(k), {})[what] = t
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
            if head["scaler"]:
                self.scaler.load_state_dict(head["scaler"])
            self.epoch, self.best = head["epoch"], replace(self.best, **head["best"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is missing or broken ({error}); train anew, with --force") from None
