"""The device: `auto` is always one that is there, and one that is not there is refused by name."""

from __future__ import annotations

import pytest
import torch

from lipwright.models.device import choose_device
from lipwright.models.errors import ModelError


def test_auto_and_cpu_can_be_computed_on() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert torch.ones(3, device=choose_device("auto")).sum().item() == 3


@pytest.mark.parametrize("name", ["tpu", "", "gpu"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"not available here; use cpu.* or auto"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ModelError, match="device cuda is not available"):
        choose_device("cuda")
