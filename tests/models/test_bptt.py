"""Backpropagation by hand gives the same gradient as automatic differentiation, as small steps, and as what trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lipwright.models.bptt import Elman, bptt
from lipwright.models.recurrent import Recurrent

NAMES = ("V", "W", "U", "b_h", "b_y")
SIZES = [(1, 1, 1), (3, 5, 2), (6, 4, 7)]
"""Inputs, states, outputs."""

relus = pytest.mark.parametrize("relu", [False, True], ids=["tanh", "relu"])
sizes = pytest.mark.parametrize("size", SIZES, ids=str)
lengths = pytest.mark.parametrize("steps", [1, 2, 9, 40])


def elman(size: tuple[int, int, int], relu: bool, seed: int = 0) -> Elman:
    d, h, p = size
    rng = np.random.default_rng(seed)
    shapes = {"V": (h, d), "W": (h, h), "U": (p, h), "b_h": (h,), "b_y": (p,)}
    made = {name: rng.normal(0, 1 / np.sqrt(shape[-1]), shape) for name, shape in shapes.items()}
    made["b_h"] = np.abs(made["b_h"])  # so that a lone ReLU is not always off
    return Elman(**made, relu=relu)


def example(size: tuple[int, int, int], steps: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(steps, size[0])), rng.normal(size=(steps, size[2]))


def close(a: dict[str, np.ndarray], b: dict[str, np.ndarray], tolerance: float) -> None:
    """Compare gradients, each by the size of its largest number."""
    assert a.keys() == b.keys() == set(NAMES)
    for name in NAMES:
        assert a[name].shape == b[name].shape, name
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance * max(1, np.abs(b[name]).max()), err_msg=name)


@relus
@sizes
@lengths
def test_it_agrees_with_automatic_differentiation(relu: bool, size: tuple[int, int, int], steps: int) -> None:
    net, (x, y) = elman(size, relu), example(size, steps)
    weights = {name: torch.from_numpy(getattr(net, name)).requires_grad_() for name in NAMES}
    h, wanted = torch.zeros(size[1], dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for x_t, y_t in zip(torch.from_numpy(x), torch.from_numpy(y), strict=True):
        a = weights["V"] @ x_t + weights["W"] @ h + weights["b_h"]
        h = a.relu() if relu else a.tanh()
        wanted = wanted + (weights["U"] @ h + weights["b_y"] - y_t).square().sum()
    wanted.backward()
    loss, gradient = bptt(net, x, y)
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    close(gradient, {name: np.asarray(w.grad) for name, w in weights.items()}, 1e-9)
    # In one step nothing has gone through W; in more, something has.
    assert (np.abs(gradient["W"]).max() > 1e-6) == (steps > 1)


@relus
@sizes
@pytest.mark.parametrize("steps", [1, 9])
def test_it_agrees_with_small_steps(relu: bool, size: tuple[int, int, int], steps: int) -> None:
    net, (x, y) = elman(size, relu), example(size, steps)
    _, gradient = bptt(net, x, y)

    def loss(name: str, index: tuple[int, ...], step: float) -> float:
        moved = getattr(net, name).copy()
        moved[index] += step
        return float(((replace(net, **{name: moved}).run(x)[1] - y) ** 2).sum())

    wanted = {
        name: np.array([(loss(name, k, 1e-6) - loss(name, k, -1e-6)) / 2e-6 for k in np.ndindex(values.shape)]).reshape(
            values.shape
        )
        for name, values in gradient.items()
    }
    close(gradient, wanted, 1e-7)


@pytest.mark.parametrize("cell", ["rnn-tanh", "rnn-relu"])
@sizes
@lengths
def test_it_agrees_with_what_trains(cell: str, size: tuple[int, int, int], steps: int) -> None:
    torch.manual_seed(0)
    network = Recurrent(size[0], size[2], cell=cell, hidden=size[1]).double()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(0.5 * torch.randn_like(weight))
            if "bias_ih" in name:
                weight.abs_()
    weights = {name.removeprefix("past.cells.0."): w for name, w in network.named_parameters()}
    values = {name: w.detach().numpy() for name, w in weights.items()}
    net = Elman(
        V=values["weight_ih_l0"],
        W=values["weight_hh_l0"],
        U=values["read_out.weight"],
        b_h=values["bias_ih_l0"] + values["bias_hh_l0"],
        b_y=values["read_out.bias"],
        relu=cell == "rnn-relu",
    )
    x, y = example(size, steps)
    said = network(torch.from_numpy(x)[None])[0][0]
    np.testing.assert_allclose(net.run(x)[1], said.detach().numpy(), rtol=0, atol=1e-9)
    wanted = (said - torch.from_numpy(y)).square().sum()
    wanted.backward()
    loss, gradient = bptt(net, x, y)
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    own = {"V": "weight_ih_l0", "W": "weight_hh_l0", "U": "read_out.weight", "b_y": "read_out.bias"}
    for bias in ("bias_ih_l0", "bias_hh_l0"):  # b_h is their sum, so each has its gradient
        close(gradient, {name: np.asarray(weights[w].grad) for name, w in (own | {"b_h": bias}).items()}, 1e-9)


@relus
def test_states_begin_with_nothing_and_follow_the_equations(relu: bool) -> None:
    net, (x, _) = elman((3, 5, 2), relu), example((3, 5, 2), 9)
    h, said = net.run(x)
    assert h.shape == (10, 5)
    assert said.shape == (9, 2)
    assert not h[0].any()
    for t in range(9):
        a = net.V @ x[t] + net.W @ h[t] + net.b_h
        np.testing.assert_allclose(h[t + 1], np.clip(a, 0, None) if relu else np.tanh(a), rtol=0, atol=1e-12)
        np.testing.assert_allclose(said[t], net.U @ h[t + 1] + net.b_y, rtol=0, atol=1e-12)


@relus
def test_a_step_down_the_gradient_lowers_the_loss(relu: bool) -> None:
    net, (x, y) = elman((3, 5, 2), relu), example((3, 5, 2), 9)
    before, gradient = bptt(net, x, y)
    step = 1e-3 / np.sqrt(sum((g**2).sum() for g in gradient.values()))
    after, _ = bptt(replace(net, **{name: getattr(net, name) - step * gradient[name] for name in NAMES}), x, y)
    slope = (after - before) / step
    assert slope == pytest.approx(-sum((g**2).sum() for g in gradient.values()), rel=0.01)


@relus
def test_nothing_that_is_given_changes(relu: bool) -> None:
    net, (x, y) = elman((3, 5, 2), relu), example((3, 5, 2), 9)
    given = [getattr(net, name).copy() for name in NAMES], x.copy(), y.copy()
    bptt(net, x, y)
    for before, now in zip([*given[0], *given[1:]], [*(getattr(net, name) for name in NAMES), x, y], strict=True):
        np.testing.assert_array_equal(before, now)
