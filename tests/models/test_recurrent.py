"""The recurrent network: what it makes of a sequence does not depend on how the sequence is cut or batched."""

from __future__ import annotations

import pytest
import torch

from lipwright.models.recurrent import Recurrent, State, carry


def network(layers: int = 1, dropout: float = 0.0, seed: int = 0) -> Recurrent:
    torch.manual_seed(seed)
    return Recurrent(28, 20, hidden=16, layers=layers, dropout=dropout).eval()


def sequences(streams: int = 3, steps: int = 90) -> torch.Tensor:
    return torch.randn(streams, steps, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("steps", [1, 90])
def test_shapes(layers: int, steps: int) -> None:
    y, (hidden, cell) = network(layers)(sequences(steps=steps))
    assert y.shape == (3, steps, 20)
    assert hidden.shape == cell.shape == (layers, 3, 16)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("sizes", [[90], [45, 45], [1] * 90, [7, 50, 33]])
def test_a_carried_state_goes_on_where_it_left_off(layers: int, sizes: list[int]) -> None:
    net, x = network(layers), sequences()
    state, parts = None, []
    for part in torch.split(x, sizes, dim=1):
        y, state = net(part, state)
        state = carry(state, torch.zeros(3, dtype=torch.bool))
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), net(x)[0], rtol=0, atol=1e-5)


def test_streams_do_not_hear_one_another() -> None:
    net, x = network(), sequences()
    other = x.clone()
    other[1] = 0
    y, changed = net(x)[0], net(other)[0]
    torch.testing.assert_close(changed[[0, 2]], y[[0, 2]])
    assert not torch.allclose(changed[1], y[1])


def test_nothing_is_heard_before_its_time() -> None:
    net, x = network(2), sequences()
    later = x.clone()
    later[:, 50:] += 1
    y, changed = net(x)[0], net(later)[0]
    torch.testing.assert_close(changed[:, :50], y[:, :50])
    assert (changed[:, 50] != y[:, 50]).any(dim=-1).all()


def test_fresh_streams_start_from_silence_and_the_others_go_on() -> None:
    net, x = network(2), sequences()
    _, state = net(x)
    fresh = torch.tensor([False, True, False])
    y = net(x, carry(state, fresh))[0]
    torch.testing.assert_close(y[1], net(x)[0][1])
    torch.testing.assert_close(y[[0, 2]], net(x, state)[0][[0, 2]])
    assert not torch.allclose(y[0], net(x)[0][0])


def test_gradients_stop_where_a_state_is_carried() -> None:
    net, x = network().train(), sequences().requires_grad_()
    _, state = net(x)
    assert state[0].requires_grad
    kept: State = carry(state, torch.zeros(3, dtype=torch.bool))
    assert not kept[0].requires_grad
    assert not kept[1].requires_grad
    more = torch.zeros(3, 5, 28, requires_grad=True)
    net(more, kept)[0].sum().backward()
    assert more.grad is not None
    assert more.grad.abs().sum() > 0
    assert x.grad is None


def test_gradients_reach_every_weight() -> None:
    net = network(2, dropout=0.2).train()
    net(sequences())[0].square().mean().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_works_in_training_alone(layers: int) -> None:
    net, x = network(layers, dropout=0.5), sequences()
    torch.testing.assert_close(net(x)[0], net(x)[0], rtol=0, atol=0)
    net.train()
    torch.manual_seed(0)
    assert not torch.allclose(net(x)[0], net(x)[0])


def test_it_can_learn_a_delay() -> None:
    torch.manual_seed(0)
    net = Recurrent(1, 1, hidden=12)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        x = torch.randn(16, 30, 1)
        loss = (net(x)[0][:, 2:] - x[:, :-2]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
