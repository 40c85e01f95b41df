"""Where the network runs."""

from __future__ import annotations

import torch

from lipwright.models.errors import ModelError


def choose_device(name: str) -> torch.device:
    """Return the torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``; `ModelError` if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if not there.get(name, False):
        raise ModelError(f"device {name} is not available here; use {', '.join(k for k in there if there[k])} or auto")
    return torch.device(name)
