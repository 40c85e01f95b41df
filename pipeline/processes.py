"""The processes of a training: one, or as many as `torchrun` started, on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes that train one network together.

    Attributes
    ----------
    rank, size
        Which process this is, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1

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

    def wait(self) -> None:
        """Wait until every process has come so far."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """Join the processes that `torchrun` started; without it, be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
