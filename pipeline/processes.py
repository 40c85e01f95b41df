"""The processes of a training: one, or as many as `torchrun` started, on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

from lipwright.data.scratch import joined, mapped, scratch_folder

T = TypeVar("T")

_NOWHERE: tuple[Path, list[tuple[tuple[int, ...], np.dtype]]] = (Path(), [])

PATIENCE = timedelta(days=1)
"""So long a process waits for the others: one reads the corpus for all of its machine."""


@dataclass(frozen=True)
class Team:
    """The processes that train one network together.

    Attributes
    ----------
    rank, size
        Which process this is, from 0, and how many there are.
    local_rank
        Which it is of those on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

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
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def told_here(self, value: T) -> T:
        """Return what the first process of this machine says."""
        if self.size == 1:
            return value
        said: list[T] = [value] * self.size
        distributed.all_gather_object(said, value)
        return said[self.rank - self.local_rank]

    def joined(self, pieces: Iterable[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """Join arrays on disk (`lipwright.data.scratch.joined`), once for all processes of a machine.

        Only the first of them goes through `pieces`; the others map its files.
        """
        if self.size == 1:
            return joined(pieces)
        if self.local_rank:
            place, forms = self.told_here(_NOWHERE)
            columns = []
            for k, form in enumerate(forms):
                with (place / str(k)).open("r+b") as file:
                    columns.append(mapped(file.fileno(), *form))
            self.wait()
            return columns
        with scratch_folder() as place:
            columns = joined(pieces, place)
            self.told_here((place, [(column.shape, column.dtype) for column in columns]))
            self.wait()  # until all have mapped them: then they need no names
        return columns

    def wait(self) -> None:
        """Wait until every process has come so far."""
        if self.size > 1:
            distributed.barrier()


ALONE = Team()
"""One process."""


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """Join the processes that `torchrun` started; without it, be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size(), local_rank)
    finally:
        distributed.destroy_process_group()
