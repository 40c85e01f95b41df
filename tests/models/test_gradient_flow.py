"""How far back a network learns: the norms are those of the Jacobians multiplied out, and vanish, hold or explode as told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lipwright.models.gradient_flow import gradient_flow
from lipwright.models.recurrent import CELLS, Recurrent

FEATURES, HIDDEN, OUTPUTS = 5, 7, 4


def network(cell: str, *, seed: int = 0, scale: float = 0.6, **changes: Any) -> Recurrent:
    torch.manual_seed(seed)
    net = Recurrent(FEATURES, OUTPUTS, cell=cell, hidden=HIDDEN, **changes)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(scale * torch.randn(weight.shape))
    return net.eval()


def example(streams: int = 3, steps: int = 12, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(streams, steps, FEATURES, generator=generator), torch.randn(streams, OUTPUTS, generator=generator)


def weights_of(net: Recurrent, layer: int = 0) -> dict[str, np.ndarray]:
    return {name: w.detach().double().numpy() for name, w in net.past.cells[layer].named_parameters()}


def numbers(t: Tensor) -> np.ndarray:
    return t.detach().double().numpy()


def close(got: Tensor, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(numbers(got), wanted, rtol=2e-5, atol=1e-7)


# What it is -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn-tanh", "rnn-relu"])
@pytest.mark.parametrize("steps", [1, 2, 12])
@pytest.mark.parametrize("direction", [{}, {"direction": "both"}, {"direction": "both", "lookahead": 3}], ids=str)
def test_it_is_the_product_of_the_jacobians(cell: str, steps: int, direction: dict[str, Any]) -> None:
    net, (x, by_y) = network(cell, **direction), example(steps=steps)
    w = weights_of(net)
    wanted = np.zeros((3, steps))
    for b in range(3):
        h, slopes = np.zeros(HIDDEN), []
        for x_t in numbers(x[b]):
            a = w["weight_ih_l0"] @ x_t + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]
            h = np.tanh(a) if cell == "rnn-tanh" else np.maximum(a, 0)
            slopes.append(1 - h**2 if cell == "rnn-tanh" else (a > 0).astype(float))
        row = numbers(by_y[b]) @ numbers(net.read_out.weight)[:, :HIDDEN]  # of both directions, the past's half
        for back in range(steps):
            wanted[b, back] = np.linalg.norm(row)
            row = row @ (slopes[steps - 1 - back][:, None] * w["weight_hh_l0"])  # ∂h_j/∂h_{j−1} = diag(f′) W
    assert wanted[:, : min(steps, 3)].min() > 1e-3
    close(gradient_flow(net, x, by_y), wanted)


def _lstm(w: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    a = w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]
    i, f, g, o = a.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(w: dict[str, Tensor], x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    a, b = w["weight_ih_l0"] @ x + w["bias_ih_l0"], w["weight_hh_l0"] @ h + w["bias_hh_l0"]
    r, z = (a[: 2 * HIDDEN] + b[: 2 * HIDDEN]).sigmoid().chunk(2)
    return ((1 - z) * (a[2 * HIDDEN :] + r * b[2 * HIDDEN :]).tanh() + z * h,)


def _plain(w: dict[str, Tensor], x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return ((w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]).tanh(),)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn-tanh"])
@pytest.mark.parametrize("layers", [1, 2])
def test_it_is_the_slope_by_all_that_a_step_hands_on(cell: str, layers: int) -> None:
    net, (x, by_y) = network(cell, layers=layers), example(steps=10)
    steps: dict[str, tuple[Callable[..., tuple[Tensor, ...]], int]]
    steps = {"lstm": (_lstm, 2), "gru": (_gru, 1), "rnn-tanh": (_plain, 1)}
    step, parts = steps[cell]
    weights = [{name: torch.from_numpy(values) for name, values in weights_of(net, k).items()} for k in range(layers)]

    def run(inputs: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Go on from a state: of each layer h, and c."""
        for heard in inputs:
            after: list[Tensor] = []
            for k in range(layers):
                own = step(weights[k], heard, *state[parts * k : parts * (k + 1)])
                heard = own[0]
                after += own
            state = after
        return state

    wanted = np.zeros((3, 10))
    for b in range(3):
        inputs = x[b].double()
        by_top = by_y[b].double() @ net.read_out.weight.detach().double()
        state = [torch.zeros(HIDDEN, dtype=torch.float64)] * (layers * parts)
        for k in range(1, 11):
            state = [s.detach().requires_grad_() for s in run(inputs[k - 1 : k], state)]
            top = run(inputs[k:], state)[parts * (layers - 1)]  # h_T of the uppermost layer
            slopes = torch.autograd.grad(top, state, by_top, allow_unused=True)
            wanted[b, 10 - k] = np.sqrt(sum(float(s.square().sum()) for s in slopes if s is not None))
    close(gradient_flow(net, x, by_y), wanted)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("direction", [{}, {"direction": "both"}, {"direction": "both", "lookahead": 3}], ids=str)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_it_begins_with_what_the_output_asks_of_the_state(
    cell: str, layers: int, direction: dict[str, Any], layer_norm: bool
) -> None:
    net, (x, by_y) = network(cell, layers=layers, layer_norm=layer_norm, **direction), example(2, 6)
    flow = gradient_flow(net, x, by_y)
    assert flow.shape == (2, 6)
    assert flow.dtype == torch.float32
    assert not flow.requires_grad
    close(flow[:, 0], np.linalg.norm(numbers(by_y) @ numbers(net.read_out.weight)[:, :HIDDEN], axis=1))


def test_a_loss_twice_as_steep_flows_twice_as_strong() -> None:
    net, (x, by_y) = network("lstm", layers=2), example()
    close(gradient_flow(net, x, 2 * by_y), 2 * numbers(gradient_flow(net, x, by_y)))
    assert not gradient_flow(net, x, torch.zeros_like(by_y)).any()


def test_windows_do_not_mix() -> None:
    net, (x, by_y) = network("gru"), example()
    together = gradient_flow(net, x, by_y)
    for b in range(3):
        close(gradient_flow(net, x[b : b + 1], by_y[b : b + 1])[0], numbers(together[b]))


# Vanishing, holding, exploding ----------------------------------------------------------------------------------------


def _set(net: Recurrent, w: Tensor, v: Tensor, bias: float) -> None:
    layer = net.past.cells[0]
    none = torch.zeros(HIDDEN)
    weights = {"weight_ih_l0": v, "weight_hh_l0": w, "bias_ih_l0": none + bias, "bias_hh_l0": none}
    layer.load_state_dict(weights)


@pytest.mark.parametrize(("factor", "steps"), [(1.0, 100), (1.5, 30), (0.5, 30)])
def test_relu_that_is_never_off_multiplies_by_its_matrix_alone(factor: float, steps: int) -> None:
    net, (x, by_y) = network("rnn-relu"), example(steps=steps)
    _set(net, factor * torch.eye(HIDDEN), torch.rand(HIDDEN, FEATURES), 0.1)
    flow = numbers(gradient_flow(net, x.abs(), by_y))  # nothing inhibits
    wanted = flow[:, :1] * factor ** np.arange(steps)
    np.testing.assert_allclose(flow, wanted, rtol=0 if factor == 1.0 else 1e-5)
    if factor == 1.5:
        assert (flow[:, -1] > 1e5 * flow[:, 0]).all()


def test_relu_that_is_off_lets_nothing_past() -> None:
    net, (x, by_y) = network("rnn-relu"), example()
    _set(net, torch.eye(HIDDEN), torch.zeros(HIDDEN, FEATURES), -1.0)
    flow = gradient_flow(net, x, by_y)
    assert (flow[:, 0] > 0.1).all()
    assert not flow[:, 1:].any()


@pytest.mark.parametrize("norm", [0.5, 0.9])
def test_tanh_of_a_small_matrix_vanishes_geometrically(norm: float) -> None:
    net, (x, by_y) = network("rnn-tanh"), example(steps=60)
    w = torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(2))
    _set(net, w * norm / torch.linalg.matrix_norm(w, 2), torch.randn(HIDDEN, FEATURES), 0.0)
    flow = numbers(gradient_flow(net, x, by_y))
    assert (flow[:, 1:] <= norm * flow[:, :-1] * (1 + 1e-5)).all()
    assert (flow[:, -1] < 0.01 * flow[:, 0]).all()


def test_an_lstm_that_forgets_nothing_holds_longer_than_one_that_does() -> None:
    flows = []
    for bias in (10.0, -3.0):
        net, (x, by_y) = network("lstm", scale=0.2), example(steps=60)
        with torch.no_grad():
            net.get_parameter("past.cells.0.bias_ih_l0")[HIDDEN : 2 * HIDDEN] = bias  # of the forget gate
        flows.append(gradient_flow(net, x, by_y))
    assert (flows[0][:, 50] > 0.02 * flows[0][:, 1]).all()
    assert (flows[1][:, 50] < 1e-6 * flows[1][:, 1]).all()


# What it leaves alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_it_runs_without_dropout_and_leaves_no_trace(training: bool) -> None:
    plain, (x, by_y) = network("lstm", layers=2), example()
    net = network("lstm", layers=2, dropout=0.5, input_dropout=0.5).train(training)
    weights = {name: w.clone() for name, w in net.state_dict().items()}
    for name, weight in net.named_parameters():
        if name.startswith("past.cells.0"):
            weight.grad = torch.full_like(weight, 7.0)
    close(gradient_flow(net, x, by_y), numbers(gradient_flow(plain, x, by_y)))
    assert all(module.training == training for module in net.modules())
    for name, weight in net.named_parameters():
        assert torch.equal(weight, weights[name])
        assert weight.requires_grad
        if name.startswith("past.cells.0"):
            assert weight.grad is not None
            assert (weight.grad == 7).all()
        else:
            assert weight.grad is None
