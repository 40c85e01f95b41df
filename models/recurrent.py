"""Recurrent networks: features in, mouth coefficients out, one step every 10 ms.

Elman's network (1990) reads a sequence x_1 … x_T and keeps what it has heard in a hidden state h::

    h_t = f(V x_t + W h_{t-1} + b_h)        f = tanh, or ReLU
    ŷ_t = U h_t + b_y

The loss is the sum of the losses of all steps. Its gradient runs back through time (BPTT, `lipwright.models.bptt`), and in
the product Π ∂h_j/∂h_{j-1} = Π diag(f′) W it vanishes or explodes. Remedies, all of them here:

- **gates** (LSTM, Hochreiter & Schmidhuber 1997), which carry what was heard in a cell state c that is added to, not
  multiplied by a matrix; the GRU (Cho et al. 2014) does it with one state less::

      i, f, o = σ(V_* x_t + W_* h_{t-1} + b_*)        input, forget and output gates
      c_t = f ⊙ c_{t-1} + i ⊙ tanh(V_c x_t + W_c h_{t-1} + b_c)
      h_t = o ⊙ tanh(c_t)

- **ReLU**, whose slope is 1 where it is on, with W = I to begin with (Le, Jaitly & Hinton 2015);
- **truncated BPTT**: `carry` hands the state on and lets no gradient back;
- **faster hardware**: PyTorch's fused kernels run every cell here, on CPU or GPU.

The mouth often moves before the sound that it shapes, so the output for time t has to wait for later sound. Either the
output is read off `delay` steps late (Graves & Schmidhuber 2005; Suwajanakorn et al. 2017, section 3.1), or a second
network reads the future backwards (Schuster & Paliwal 1997): all of it, or so much of it as the look-ahead allows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

CELLS = ("lstm", "gru", "rnn-tanh", "rnn-relu")
DIRECTIONS = ("forward", "both")

WINDOWS_AT_ONCE = 200
"""So many windows of a bounded look-ahead stay in a CPU's cache: nearly twice as fast as all of them."""

State = tuple[Tensor, ...]
"""What a network remembers between two stretches of time: tensors (n, B, size), streams in the second place."""


def make_cell(name: str, inputs: int, hidden: int) -> nn.RNNBase:
    """Make one layer of a cell; `ValueError` if it is not one of `CELLS`."""
    if name == "lstm":
        return nn.LSTM(inputs, hidden, batch_first=True)
    if name == "gru":
        return nn.GRU(inputs, hidden, batch_first=True)
    if name == "rnn-tanh":
        return nn.RNN(inputs, hidden, batch_first=True, nonlinearity="tanh")
    if name == "rnn-relu":
        cell = nn.RNN(inputs, hidden, batch_first=True, nonlinearity="relu")
        none = torch.zeros(hidden)  # inputs weigh little at first (section 3 of their paper): h would run away along W = I
        start = {"weight_hh_l0": torch.eye(hidden), "bias_ih_l0": none, "bias_hh_l0": none}
        cell.load_state_dict(start | {"weight_ih_l0": 1e-3 * torch.randn(hidden, inputs)})
        return cell
    raise ValueError(f"Expected a cell out of {', '.join(CELLS)}, got {name = }.")


class Dropout(nn.Module):
    """Drop a share of the numbers in training and scale the others up, as `torch.nn.Dropout`, at a tenth of its cost.

    On CPU its Bernoulli draws take a quarter of a training step. Here each number is kept by a random byte; the share is
    rounded to 256ths.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.kept = 256 - round(256 * share)
        if not 0 <= share < 1 or not self.kept:
            raise ValueError(f"Expected a share from 0 to less than 1, got {share = }.")

    def forward(self, x: Tensor) -> Tensor:
        """Return x of any shape, unchanged outside training."""
        if not self.training or self.kept == 256:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) < self.kept
        return x * keep.to(x.dtype).mul_(256 / self.kept)


class Stack(nn.Module):
    """Layers of one cell, read in one direction: each hears the states of the one below, normalised and dropped out."""

    def __init__(self, cell: str, inputs: int, hidden: int, layers: int, *, dropout: float, layer_norm: bool) -> None:
        super().__init__()
        self.cells = nn.ModuleList([make_cell(cell, hidden if k else inputs, hidden) for k in range(layers)])
        norm = nn.LayerNorm if layer_norm else nn.Identity
        self.between = nn.ModuleList([nn.Sequential(norm(hidden), Dropout(dropout)) for _ in range(layers - 1)])

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map x (B, T, D) and a state to the top layer's h (B, T, hidden) and the state after them.

        The state is h (layers, B, hidden), and c of the same shape where the cell has one.
        """
        after: list[State] = []
        for k, cell in enumerate(self.cells):
            if k:
                x = self.between[k - 1](x)
            before = None if state is None else tuple(s[k : k + 1].contiguous() for s in state)
            # PyTorch wants h and c as a pair, and h alone without its tuple.
            x, own = cell(x, before[0] if before is not None and len(before) == 1 else before)
            after.append(own if isinstance(own, tuple) else (own,))
        return x, tuple(torch.cat(parts) for parts in zip(*after, strict=True))


class Recurrent(nn.Module):
    """Dropout → recurrent layers → dropout → one linear map.

    Parameters
    ----------
    features, outputs
        `D` inputs and `P` outputs a step.
    cell
        One of `CELLS`.
    hidden, layers
        Units of a layer, and layers (of each direction).
    direction
        ``forward``: hears the past. ``both``: a second stack of layers hears the future, read backwards; the two meet in
        the linear map.
    lookahead
        With ``both``: steps of the future that may be heard in use, up to t + lookahead; None is the whole sequence. With a
        bound, output step t belongs to time t − lookahead, since the network waits to hear so far; streams of one batch
        begin together. Training hears each stretch to its end: from no step ahead to all of it, so that the network knows
        any look-ahead.
    input_dropout, dropout
        Shares of inputs, and of outputs of a layer, that training drops, 0 to 1.
    layer_norm
        Normalise the states of a layer before the next one hears them.

    Raises
    ------
    ValueError
        The cell or the direction is unknown.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        cell: str = "lstm",
        hidden: int = 60,
        layers: int = 1,
        direction: str = "forward",
        lookahead: int | None = None,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if direction not in DIRECTIONS:
            raise ValueError(f"Expected a direction out of {', '.join(DIRECTIONS)}, got {direction = }.")
        self.lookahead = lookahead
        self.drop_input = Dropout(input_dropout)
        self.past = Stack(cell, features, hidden, layers, dropout=dropout, layer_norm=layer_norm)
        self.future: Stack | None = None
        if direction == "both":
            self.future = Stack(cell, features, hidden, layers, dropout=dropout, layer_norm=layer_norm)
        self.drop = Dropout(dropout)
        self.read_out = nn.Linear(hidden if self.future is None else 2 * hidden, outputs)

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over a stretch of time.

        Parameters
        ----------
        x : Tensor, shape (B, T, D), float32
        state
            Where the stretch before left off; None is the beginning of time (zeros).
        lengths : Tensor, shape (B,), int64
            Steps of each sequence that are real, the rest being padding: where the whole future is heard, it begins
            there. None: all.

        Returns
        -------
        y : Tensor, shape (B, T, P), float32
        state
            To go on from.
        """
        h, state = self.hear(x, state, lengths)
        return self.read_out(self.drop(h)), state

    def hear(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over a stretch of time, and return what `forward` reads the mouth off: h (B, T, H), and the state after."""
        x = self.drop_input(x)
        if self.future is None:
            return self.past(x, state)  # (B, T, hidden)
        if self.lookahead is None or self.training:
            h, state = self.past(x, state)
            ahead, _ = self.future(reverse(x, lengths))  # h_t of what comes after t, t itself included
            return torch.cat([h, reverse(ahead, lengths)], -1), state  # (B, T, 2·hidden)
        return self._bounded(x, state)

    def _bounded(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Hear the past up to t and the future of t, for every t that has been heard so far ahead."""
        assert self.future is not None
        assert self.lookahead is not None
        late, size = self.lookahead, block(self.lookahead)
        h, kept = self.past(x, None if state is None else state[:-3])
        # What waits in the state: inputs (late + size − 1, B, D), states of the past (late, B, hidden), steps heard (1, B, 1).
        if state is None:
            streams = len(x)
            waiting = ((late + size - 1, streams, x.shape[2]), (late, streams, h.shape[2]), (1, streams, 1))
            state = tuple(x.new_zeros(shape) for shape in waiting)
        steps, heard = x.shape[1], state[-1]
        x, h = (torch.cat([w.transpose(0, 1), new], 1) for w, new in zip(state[-3:-1], (x, h), strict=True))
        # The first output belongs to time heard − late, the block that it is in began `within` steps earlier.
        within = (int(heard.flatten()[0]) - late) % size
        windows = x[:, size - 1 - within :].unfold(1, late + 1, size).permute(0, 1, 3, 2)  # (B, N, late + 1, D)
        backwards = windows.flip(2).flatten(0, 1)  # (B·N, late + 1, D)
        at_once = WINDOWS_AT_ONCE if x.device.type == "cpu" else len(backwards)
        ahead = torch.cat([self.future(some)[0][:, late + 1 - size :].flip(1) for some in backwards.split(at_once)])
        ahead = ahead.unflatten(0, windows.shape[:2]).flatten(1, 2)[:, within : within + steps]  # (B, T, hidden)
        h_both = torch.cat([h[:, :steps], ahead], -1)  # (B, T, 2·hidden)
        return h_both, (*kept, x[:, steps:].transpose(0, 1), h[:, steps:].transpose(0, 1), (heard + steps) % size)


def block(lookahead: int) -> int:
    """Return how many steps read the future together, in one pass back from the first one's t + lookahead.

    An eighth of the look-ahead, so that the last of them hears seven eighths (Zhang et al. 2016 hear the future in blocks
    too): a pass for every step would take as many times as long as a block has steps.
    """
    return 1 + lookahead // 8


class Ensemble(nn.Module):
    """Networks that learn side by side, each from its own start and with its own dropout: their mean errs less than one.

    Parameters
    ----------
    members
        How many.
    **network
        As of `Recurrent`.
    """

    def __init__(self, members: int, **network: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList([Recurrent(**network) for _ in range(members)])

    @property
    def each(self) -> list[Recurrent]:
        """The members, in order."""
        return [member for member in self.members if isinstance(member, Recurrent)]

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over a stretch of time, as a `Recurrent`; y (M, B, T, P) is what each member says."""
        said: list[Tensor] = []
        after: list[State] = []
        own = len(state) // len(self.members) if state is not None else 0
        for k, member in enumerate(self.members):
            y, left = member(x, state[k * own : (k + 1) * own] if state is not None else None, lengths)
            said.append(y)
            after.append(left)
        return torch.stack(said), tuple(s for left in after for s in left)


def reverse(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Turn sequences (B, T, D) round in time, each within its own length (B,); padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    streams, steps = x.shape[:2]
    step = torch.arange(steps, device=x.device)
    turned = lengths[:, None] - 1 - step  # (B, T)
    rows = torch.where(turned >= 0, turned, step) + steps * torch.arange(streams, device=x.device)[:, None]
    return x.flatten(0, 1).index_select(0, rows.flatten()).view_as(x)  # whole rows: gather would move number by number


def carry(state: State, fresh: Tensor) -> State:
    """Detach a state from the graph that made it, and zero it for the streams that start anew (`fresh`, (B,) bool).

    Truncated backpropagation through time: values flow on, gradients stop here.
    """
    keep = (~fresh).to(state[0].dtype)[None, :, None]
    return tuple(s.detach() * keep for s in state)
