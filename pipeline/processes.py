"""The processes of a training: one, or as many as `torchrun` started, on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, distributed, nn

from lipwright.data.errors import LipwrightError
from lipwright.data.scratch import joined, mapped, scratch_folder, sweep_scratch

T = TypeVar("T")

Place = tuple[Path, list[tuple[tuple[int, ...], np.dtype]]]
"""A folder of columns, and their forms."""

PATIENCE = timedelta(days=1)
"""So long processes wait for one that works for the others: it reads the corpus, or judges. In what all do at once, a process
that is missing is noticed after torch's own, much shorter, time."""


@dataclass(frozen=True)
class Team:
    """The processes that train one network together.

    Attributes
    ----------
    rank, size
        Which process this is, from 0, and how many there are.
    local_rank
        Which it is of those on its machine.
    patient
        Their group for waits of `PATIENCE`.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    patient: distributed.ProcessGroup | None = None

    def share(self, network: nn.Module) -> nn.Module:
        """Let the processes average the gradients of a network as they are computed."""
        return nn.parallel.DistributedDataParallel(network) if self.size > 1 else network

    def total(self, value: Tensor) -> Tensor:
        """Add a tensor up over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def told(self, value: T) -> T:
        """Return what process 0 says: decisions must be the same in all."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0, group=self.patient)
        return said[0]

    def told_here(self, value: T | LipwrightError | OSError) -> T:
        """Return what the first process of this machine says; an error that any machine's first one says is raised in all."""
        said = self._gathered(value if self.local_rank == 0 else None)
        for each in said:
            if isinstance(each, LipwrightError | OSError):
                raise each
        return cast(T, said[self.rank - self.local_rank])

    def agrees(self, value: object) -> bool:
        """Say whether all processes have the same value."""
        return all(each == value for each in self._gathered(value))

    def _gathered(self, value: T) -> list[T]:
        said = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(said, value, group=self.patient)
        return said

    def joined(self, pieces: Iterable[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """Join arrays on disk (`lipwright.data.scratch.joined`), once for all processes of a machine.

        Only the first of them goes through `pieces`; the others map its files. Its error is raised in all.
        """
        if self.size == 1:
            return joined(pieces)
        columns: list[np.ndarray] = []
        told: Place | LipwrightError | OSError = (Path(), [])
        if self.local_rank:
            place, forms = self.told_here(told)
            for k, form in enumerate(forms):
                with (place / str(k)).open("r+b") as file:
                    columns.append(mapped(file.fileno(), *form))
            self.wait()
            return columns
        with scratch_folder() as place:
            try:
                columns = joined(pieces, place)
                told = (place, [(column.shape, column.dtype) for column in columns])
            except (LipwrightError, OSError) as error:
                told = error
            self.told_here(told)
            self.wait()  # until all have mapped them: then they need no names
        return columns

    def wait(self) -> None:
        """Wait until every process has come so far."""
        if self.size > 1:
            distributed.barrier(self.patient)


ALONE = Team()
"""One process."""


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """Join the processes that `torchrun` started; without it, be alone. What killed ones left on disk goes first."""
    sweep_scratch()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
        yield Team(distributed.get_rank(), distributed.get_world_size(), local_rank, patient)
    finally:
        distributed.destroy_process_group()
