"""The recurrent network: it computes what the textbook says, hears no further than it may, and may be cut or batched anyhow.

The reference, below, is the equations of the four cells in plain loops over time. It shares nothing with PyTorch's fused
kernels but the weights, whose gates it takes in PyTorch's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lipwright.models import recurrent
from lipwright.models.recurrent import CELLS, Dropout, Recurrent, Stack, State, block, carry, make_cell, reverse

FEATURES, OUTPUTS, HIDDEN = 5, 4, 8


class Way(NamedTuple):
    """How a network hears."""

    direction: str
    lookahead: int | None = None

    @property
    def late(self) -> int:
        return self.lookahead or 0

    def heard(self, t: int) -> int:
        """The last step that the output of time t hears: a block hears what its first step may."""
        return t // block(self.late) * block(self.late) + self.late

    def __str__(self) -> str:
        return self.direction if self.lookahead is None else f"{self.direction}+{self.lookahead}"


FORWARD, WHOLE, BOUNDED = Way("forward"), Way("both"), [Way("both", k) for k in (0, 5, 18)]
WAYS = [FORWARD, WHOLE, *BOUNDED]
ONLINE = [FORWARD, *BOUNDED]
"""What need not hear all at once."""

ways = pytest.mark.parametrize("way", WAYS, ids=str)
online = pytest.mark.parametrize("way", ONLINE, ids=str)
cells = pytest.mark.parametrize("cell", CELLS)
depths = pytest.mark.parametrize(("layers", "layer_norm"), [(1, False), (2, False), (2, True)])


def network(cell: str = "lstm", way: Way = FORWARD, dtype: torch.dtype = torch.float64, **changes: Any) -> Recurrent:
    """A network whose every weight and bias matters, as in use."""
    torch.manual_seed(0)
    net = Recurrent(
        FEATURES, OUTPUTS, cell=cell, hidden=HIDDEN, direction=way.direction, lookahead=way.lookahead, **changes
    ).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.copy_(torch.empty_like(weight).uniform_(-0.4, 0.4, generator=generator))
            if name.startswith(("past.between", "future.between")) and name.endswith("weight"):
                weight.add_(1)  # a norm's gain
    return net.to(dtype)


def sequences(streams: int = 3, steps: int = 40, dtype: torch.dtype = torch.float64, seed: int = 2) -> Tensor:
    return torch.randn(streams, steps, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def equal(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def none_fresh(streams: int) -> Tensor:
    return torch.zeros(streams, dtype=torch.bool)


def in_parts(net: Recurrent, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Run over a sequence in chunks."""
    state, said = None, []
    for part in x.split(list(sizes), 1):
        y, state = net(part, None if state is None else carry(state, none_fresh(len(x))))
        said.append(y)
    return torch.cat(said, 1)


# The reference --------------------------------------------------------------------------------------------------------


def one_step(name: str, cell: nn.Module, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return h_t and c_t (B, H) of x_t (B, D), h_{t-1} and c_{t-1}; a cell without c leaves it alone."""
    weights = dict(cell.named_parameters())
    a = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
    b = h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
    if name == "lstm":
        i, f, g, o = (a + b).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    if name == "gru":
        (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
        r, z = (a_r + b_r).sigmoid(), (a_z + b_z).sigmoid()
        return (1 - z) * (a_n + r * b_n).tanh() + z * h, c
    return {"rnn-tanh": torch.tanh, "rnn-relu": torch.relu}[name](a + b), c


def read(name: str, stack: Stack, steps: Sequence[Tensor], cuts: Sequence[int] = ()) -> list[Tensor]:
    """Return the top layer's h (B, H) of every step (B, D); gradients do not pass back over a step in `cuts`."""
    zeros = steps[0].new_zeros(len(steps[0]), HIDDEN)
    state = [(zeros, zeros)] * len(stack.cells)
    top = []
    for t, x in enumerate(steps):
        for k, cell in enumerate(stack.cells):
            if k:
                norm = next(stack.between[k - 1].children())  # what comes after it is dropout
                if isinstance(norm, nn.LayerNorm):
                    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
                    x = (x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias
            h, c = state[k]
            if t in cuts:
                h, c = h.detach(), c.detach()
            state[k] = one_step(name, cell, x, h, c)
            x = state[k][0]
        top.append(x)
    return top


def reference(name: str, net: Recurrent, x: Tensor, lengths: Sequence[int] | None = None, cuts: Sequence[int] = ()) -> Tensor:
    """Return the outputs (B, T, P) of the times 0 … T − 1; of a bounded network those of the times 0 … T − 1 − lookahead.

    Outputs after a stream's length are zero.
    """
    steps = list(x.unbind(1))
    late = net.lookahead or 0
    past = read(name, net.past, steps, cuts)
    if net.future is None:
        h = torch.stack(past, 1)
    elif net.lookahead is None:
        rows = []
        for b, length in enumerate(lengths or [len(steps)] * len(x)):
            own_steps, edges = [step[b : b + 1] for step in steps], [0, *cuts, length]
            ahead = [h for a, z in pairwise(edges) for h in read(name, net.future, own_steps[a:z][::-1])[::-1]]
            own = torch.stack([torch.cat([past[t][b], ahead[t][0]]) for t in range(length)])
            rows.append(torch.cat([own, own.new_zeros(len(steps) - length, own.shape[1])]))
        h = torch.stack(rows)
    else:
        said = []
        for t in range(len(steps) - late):
            last = Way("both", late).heard(t)
            ahead = read(name, net.future, [steps[s] for s in range(last, t - 1, -1)])
            said.append(torch.cat([past[t], ahead[-1]], -1))
        h = torch.stack(said, 1)
    y = h @ net.read_out.weight.T + net.read_out.bias
    if lengths is not None:
        y = y * (torch.arange(x.shape[1]) < torch.tensor(lengths)[:, None])[..., None]
    return y


def gradients(net: Recurrent, loss: Tensor, x: Tensor | None = None) -> dict[str, Tensor]:
    """Return the gradient by every weight, and by the input."""
    inputs = dict(net.named_parameters()) | ({} if x is None else {"x": x})
    return dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values()), materialize_grads=True), strict=True))


def counts_for_nothing(name: str, way: Way) -> bool:
    """The recurrent weights of a future of one step only ever meet a state of zeros."""
    return way.lookahead == 0 and name.startswith("future") and "weight_hh" in name


@cells
@ways
@depths
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["32", "64"])
def test_fused_kernels_say_what_the_textbook_says(
    cell: str, way: Way, layers: int, layer_norm: bool, dtype: torch.dtype, tolerance: float
) -> None:
    net = network(cell, way, dtype, layers=layers, layer_norm=layer_norm)
    assert any("between" in name for name, _ in net.named_parameters()) == layer_norm
    x = sequences(20, max(12, way.late + 2), dtype).requires_grad_()
    got, wanted = net(x)[0][:, way.late :], reference(cell, net, x)
    equal(got, wanted, tolerance)
    assert wanted.std() > 0.05
    target = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    ours, theirs = (gradients(net, (y - target).square().mean(), x) for y in (got, wanted))
    for name, gradient in theirs.items():
        assert (gradient.abs().max() > 1e-5) != counts_for_nothing(name, way), name
        equal(ours[name], gradient, tolerance)


@cells
@ways
def test_prediction_takes_the_same_numbers_as_training(cell: str, way: Way) -> None:
    net, x = network(cell, way, torch.float32, layers=2), sequences(dtype=torch.float32)
    trained = net.train()(x)[0].detach() if way.lookahead is None else net(x)[0].detach()
    with torch.inference_mode():
        equal(net.eval()(x)[0].clone(), trained, 1e-6)


@cells
@pytest.mark.parametrize("layers", [1, 2])
def test_the_future_of_padded_sequences_begins_at_their_own_ends(cell: str, layers: int) -> None:
    net, lengths = network(cell, WHOLE, layers=layers), [20, 1, 13, 7]
    x = sequences(4, 20).requires_grad_()
    within = (torch.arange(20) < torch.tensor(lengths)[:, None])[..., None]
    got, wanted = net(x, None, torch.tensor(lengths))[0] * within, reference(cell, net, x, lengths)
    equal(got, wanted)
    ours, theirs = (gradients(net, y.square().mean(), x) for y in (got, wanted))
    for name, gradient in theirs.items():
        equal(ours[name], gradient)
    assert (ours["x"].abs().sum(-1) > 0).equal(within[..., 0])  # padding is not heard


# Shapes and choices ---------------------------------------------------------------------------------------------------


@cells
@ways
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("steps", [1, 30])
def test_shapes(cell: str, way: Way, layers: int, steps: int) -> None:
    y, state = network(cell, way, layers=layers)(sequences(steps=steps))
    assert y.shape == (3, steps, OUTPUTS)
    own = [(layers, 3, HIDDEN)] * (2 if cell == "lstm" else 1)
    waiting = [(way.late + block(way.late) - 1, 3, FEATURES), (way.late, 3, HIDDEN), (1, 3, 1)]
    waiting = [] if way.lookahead is None else waiting
    assert [tuple(s.shape) for s in state] == own + waiting


@pytest.mark.parametrize("name", ["", "LSTM", "transformer"])
def test_an_unknown_cell_is_refused_with_the_choice(name: str) -> None:
    for make in (lambda: Recurrent(FEATURES, OUTPUTS, cell=name), lambda: make_cell(name, 3, 4)):
        with pytest.raises(ValueError, match=r"lstm, gru, rnn-tanh, rnn-relu") as caught:
            make()
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["", "Forward", "backward"])
def test_an_unknown_direction_is_refused_with_the_choice(name: str) -> None:
    with pytest.raises(ValueError, match=r"forward, both") as caught:
        Recurrent(FEATURES, OUTPUTS, direction=name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_relu_begins_with_the_identity_and_with_small_inputs(direction: str) -> None:
    torch.manual_seed(0)
    net = Recurrent(40, OUTPUTS, cell="rnn-relu", hidden=50, layers=2, direction=direction)
    stacks = [net.past, net.future] if net.future else [net.past]
    for layer in (cell for stack in stacks if stack for cell in stack.cells):
        weights = dict(layer.named_parameters())
        assert torch.equal(weights["weight_hh_l0"], torch.eye(50))
        assert not weights["bias_ih_l0"].any()
        assert not weights["bias_hh_l0"].any()
        assert 0.9e-3 < weights["weight_ih_l0"].std() < 1.1e-3
    first = [dict(stack.cells[0].named_parameters())["weight_ih_l0"] for stack in stacks if stack]
    assert direction == "forward" or not torch.equal(*first)


# What is heard --------------------------------------------------------------------------------------------------------


@cells
@ways
def test_streams_do_not_hear_one_another(cell: str, way: Way) -> None:
    net, x = network(cell, way, layers=2), sequences(steps=30)
    other = x.clone()
    other[1] = 0
    y, changed = net(x)[0], net(other)[0]
    equal(changed[[0, 2]], y[[0, 2]])
    assert not torch.allclose(changed[1], y[1])


@cells
@online
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("t", [0, 10, 20])
def test_it_hears_as_far_ahead_as_it_may_and_no_further(cell: str, way: Way, layers: int, t: int) -> None:
    net, x = network(cell, way, layers=layers), sequences()
    edge, out = way.heard(t), t + way.late
    y = net(x)[0]
    for moved_from, heard in ((edge + 1, False), (edge, True)):
        later = x.clone()
        later[:, moved_from:] += 3
        changed = net(later)[0]
        equal(changed[:, :moved_from], y[:, :moved_from])  # whatever came out before
        assert ((changed[:, out] != y[:, out]).any(-1) == heard).all()  # the output for time t


@cells
@ways
@pytest.mark.parametrize("layers", [1, 2])
def test_it_hears_the_past(cell: str, way: Way, layers: int) -> None:
    net, x = network(cell, way, layers=layers), sequences(steps=40)
    other = x.clone()
    other[:, 10] += 3
    change = (net(other)[0] - net(x)[0])[:, way.late :].abs().amax(-1)  # (B, times)
    assert (change[:, 11:15] > 1e-6).all()


@cells
@pytest.mark.parametrize("layers", [1, 2])
def test_without_a_bound_everything_is_heard(cell: str, layers: int) -> None:
    net, x = network(cell, WHOLE, layers=layers), sequences(steps=20)
    for moved in (0, 10, 19):
        other = x.clone()
        other[:, moved] += 3
        assert (net(other)[0] != net(x)[0]).any(-1).all()


@cells
@pytest.mark.parametrize("way", BOUNDED, ids=str)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_bound_hears_as_if_the_sequence_ended_there(cell: str, way: Way, layers: int) -> None:
    bounded, whole = (network(cell, w, layers=layers) for w in (way, WHOLE))
    x = sequences(steps=30)
    said = bounded(x)[0]
    for t in range(30 - way.late):
        equal(said[:, t + way.late], whole(x[:, : way.heard(t) + 1])[0][:, t])


def test_a_block_hears_at_least_seven_eighths_of_the_look_ahead() -> None:
    for late in range(100):
        assert block(late) - 1 <= late / 8 < block(late)


@cells
def test_padding_changes_nothing_within_the_lengths(cell: str) -> None:
    net, lengths = network(cell, WHOLE, layers=2), torch.tensor([25, 4, 1, 18])
    x = sequences(4, 25)
    other = x.clone()
    for b, length in enumerate(lengths):
        other[b, length:] = 100 * (b + 1)
    y, changed = net(x, None, lengths)[0], net(other, None, lengths)[0]
    for b, length in enumerate(lengths):
        equal(changed[b, :length], y[b, :length])
        equal(y[b, :length], net(x[b : b + 1, :length])[0][0])  # as alone, without any padding
    assert not torch.allclose(net(other)[0][1, :4], y[1, :4])  # told of no lengths, it does hear it


@pytest.mark.parametrize("late", [5, 18])
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_windows_may_be_heard_in_any_portions(late: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network("gru", Way("both", late)), sequences(steps=30)
    wanted = net(x)[0]
    monkeypatch.setattr(recurrent, "WINDOWS_AT_ONCE", at_once)
    equal(net(x)[0], wanted)


# Turning round --------------------------------------------------------------------------------------------------------

SOME_LENGTHS = [None, [9, 9, 9], [9, 1, 4], [2, 8, 1]]


@pytest.mark.parametrize("lengths", SOME_LENGTHS)
def test_turning_round_twice_is_nothing(lengths: list[int] | None) -> None:
    x, own = sequences(3, 9), None if lengths is None else torch.tensor(lengths)
    assert torch.equal(reverse(reverse(x, own), own), x)
    assert not torch.equal(reverse(x, own), x)


@pytest.mark.parametrize("lengths", SOME_LENGTHS)
@pytest.mark.parametrize("contiguous", [True, False])
def test_each_sequence_turns_within_its_length(lengths: list[int] | None, contiguous: bool) -> None:
    x = sequences(3, 9) if contiguous else sequences(9, 3).transpose(0, 1)
    turned = reverse(x, None if lengths is None else torch.tensor(lengths))
    for b, length in enumerate(lengths or [9] * 3):
        assert turned[b].tolist() == x[b, :length].tolist()[::-1] + x[b, length:].tolist()


# Going on -------------------------------------------------------------------------------------------------------------


@cells
@online
@depths
@pytest.mark.parametrize("sizes", [[1] * 40, [7, 15, 18], [39, 1]], ids=["steps", "any", "last"])
def test_a_carried_state_goes_on_where_it_left_off(
    cell: str, way: Way, layers: int, layer_norm: bool, sizes: list[int]
) -> None:
    net, x = network(cell, way, layers=layers, layer_norm=layer_norm), sequences()
    with torch.no_grad():
        equal(in_parts(net, x, sizes), net(x)[0])


@cells
@pytest.mark.parametrize("way", [FORWARD, WHOLE], ids=str)
def test_fresh_streams_start_from_silence_and_the_others_go_on(cell: str, way: Way) -> None:
    net, x = network(cell, way, layers=2), sequences(steps=30)
    _, state = net(x)
    y = net(x, carry(state, torch.tensor([False, True, False])))[0]
    equal(y[1], net(x)[0][1])
    equal(y[[0, 2]], net(x, state)[0][[0, 2]])
    assert not torch.allclose(y[0], net(x)[0][0])


def test_carrying_leaves_the_given_state_alone() -> None:
    _, state = network("lstm", Way("both", 5))(sequences())
    before = [s.clone() for s in state]
    kept = carry(state, torch.tensor([True, False, True]))
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))
    for was, now in zip(state, kept, strict=True):
        assert not now[:, [0, 2]].any()
        assert torch.equal(now[:, 1], was[:, 1])


# Truncated backpropagation through time -------------------------------------------------------------------------------


@cells
@ways
def test_gradients_stop_where_a_state_is_carried(cell: str, way: Way) -> None:
    net, x = network(cell, way), sequences().requires_grad_()
    _, state = net(x)
    assert state[0].requires_grad
    kept: State = carry(state, none_fresh(3))
    assert not any(s.requires_grad for s in kept)
    more = torch.zeros(3, 25, FEATURES, dtype=torch.float64, requires_grad=True)
    net(more, kept)[0].sum().backward()
    assert more.grad is not None
    assert more.grad.abs().sum() > 0
    assert x.grad is None


def _squares(y: Tensor) -> Tensor:
    """A loss of which every output has its own part."""
    target = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=y.dtype)
    return (y - target).square().sum((0, 2)).sum() / 10


@cells
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("sizes", [[24], [12, 12], [5, 1, 11, 7]], ids=["whole", "half", "any"])
def test_a_truncated_gradient_takes_the_carried_state_for_a_constant(cell: str, way: Way, sizes: list[int]) -> None:
    net, x = network(cell, way, layers=2).train(), sequences(2, 24)
    cuts = [sum(sizes[:k]) for k in range(1, len(sizes))]
    cut = gradients(net, _squares(in_parts(net, x, sizes)))
    net.lookahead = None  # training hears each chunk to its end, whatever the bound
    for name, wanted in gradients(net, _squares(reference(cell, net, x, cuts=cuts))).items():
        equal(cut[name], wanted, 1e-11)


@cells
@pytest.mark.parametrize("way", [FORWARD, WHOLE], ids=str)
def test_one_chunk_gives_the_full_gradient_and_a_cut_another(cell: str, way: Way) -> None:
    net, x = network(cell, way), sequences(2, 40)
    full, one, cut = (gradients(net, _squares(y[:, way.late :])) for y in (net(x)[0], *_cut(net, x)))
    for name, wanted in full.items():
        equal(one[name], wanted, 1e-11)
    for stack in ("past", "future") if net.future else ("past",):
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
            key = f"{stack}.cells.0.{name}"
            assert (cut[key] - full[key]).abs().max() > 1e-3 * full[key].abs().max()
    for name in full:
        if net.future is None and not name.startswith("past"):  # no cut runs through the linear map
            equal(cut[name], full[name], 1e-11)


def _cut(net: Recurrent, x: Tensor) -> tuple[Tensor, Tensor]:
    return in_parts(net, x, [x.shape[1]]), in_parts(net, x, [x.shape[1] // 2] * 2)


@cells
@ways
@pytest.mark.parametrize("layer_norm", [False, True])
def test_gradients_reach_every_weight(cell: str, way: Way, layer_norm: bool) -> None:
    net = network(cell, way, layers=2, dropout=0.2, layer_norm=layer_norm).train()
    net(sequences())[0].square().mean().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@cells
@pytest.mark.parametrize("way", BOUNDED, ids=str)
def test_training_hears_to_the_end_whatever_the_bound(cell: str, way: Way) -> None:
    x, lengths = sequences(), torch.tensor([40, 13, 28])
    bounded, whole = (network(cell, w, layers=2).train()(x, None, lengths) for w in (way, WHOLE))
    equal(bounded[0], whole[0])
    for ours, theirs in zip(bounded[1], whole[1], strict=True):
        equal(ours, theirs)


# Dropout --------------------------------------------------------------------------------------------------------------


@cells
@ways
@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_works_in_training_alone(cell: str, way: Way, layers: int) -> None:
    x = sequences(steps=20)
    plain = network(cell, way, layers=layers)(x)[0]
    for what in ("dropout", "input_dropout"):
        changes: dict[str, Any] = {what: 0.5, "layers": layers}
        net = network(cell, way, **changes).train()
        torch.manual_seed(0)
        a, b = net(x)[0], net(x)[0]
        assert not torch.allclose(a, b)
        net.eval()
        equal(net(x)[0], plain)


@cells
@pytest.mark.parametrize("direction", ["forward", "both"])
def test_dropout_stands_between_layers(cell: str, direction: str) -> None:
    x = sequences(steps=20)
    for layers in (1, 2):
        net = network(cell, Way(direction), layers=layers, dropout=0.5)
        net.drop = Dropout(0.0)  # what is left stands between layers
        trained = net.train()(x)[0]
        assert torch.allclose(trained, net.eval()(x)[0]) == (layers == 1)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_up_the_rest(share: float) -> None:
    torch.manual_seed(0)
    drop = Dropout(share)
    x = torch.ones(20000, 8)
    y = drop(x)
    kept = 1 - round(256 * share) / 256
    assert y.unique().tolist() == pytest.approx([0, 1 / kept], rel=1e-6)
    assert abs(kept - (1 - share)) <= 1 / 512
    # Eight numbers share one drawn word: each is kept as often as the others, and regardless of its neighbour.
    alive = (y > 0).float()
    torch.testing.assert_close(alive.mean(0), torch.full((8,), kept), rtol=0, atol=0.015)
    torch.testing.assert_close((alive * alive.roll(1, 1)).mean(0), torch.full((8,), kept**2), rtol=0, atol=0.015)
    torch.testing.assert_close((alive[1:] * alive[:-1]).mean(0), torch.full((8,), kept**2), rtol=0, atol=0.015)
    assert abs(y.mean() - 1) < 0.01
    assert not torch.equal(drop(x), y)


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (3, 3), (2, 5, 13)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_dropout_takes_any_shape(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    drop = Dropout(0.25)
    x = (1 + torch.rand(shape, generator=torch.Generator().manual_seed(1))).to(dtype)
    for given in (x, x.T if x.ndim == 2 else x.flip(0)):
        torch.manual_seed(0)
        y = drop(given)
        assert y.shape == given.shape
        assert y.dtype == dtype
        torch.testing.assert_close(y, torch.where(y == 0, y, given * (256 / 192)))
        assert drop.eval()(given) is given
        drop.train()


def test_dropped_numbers_have_no_gradient() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_the_seed_decides_what_is_dropped() -> None:
    drop, x = Dropout(0.5), torch.ones(1000)
    said = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        said.append(drop(x))
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])


@pytest.mark.parametrize("share", [-0.5, 1.0, 1.5, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"nan|NaN|from 0 to less than 1"):
        Dropout(share)


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "way", "shift"), [("lstm", FORWARD, -2), ("gru", WHOLE, 2), ("rnn-tanh", Way("both", 3), 2)], ids=str
)
def test_it_can_learn_what_was_and_what_will_be(cell: str, way: Way, shift: int) -> None:
    torch.manual_seed(0)
    net = Recurrent(1, 1, cell=cell, hidden=12, direction=way.direction, lookahead=way.lookahead)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    losses = []
    for _ in range(80):
        x = torch.randn(16, 30, 1)
        y = net(x)[0]
        times = torch.arange(max(0, -shift), 30 - shift if shift > 0 else 30)
        loss = (y[:, times] - x[:, times + shift]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    said = net.eval()(x)[0][:, way.late :]  # of the times 0 … 29 − lookahead
    times = times[times < said.shape[1]]
    assert (said[:, times] - x[:, times + shift]).square().mean() < 0.4 * losses[0]
