"""The recurrent network: features in, mouth coefficients out, one step every 10 ms.

An LSTM (Hochreiter & Schmidhuber 1997) carries what was heard in its cell state::

    i, f, o = σ(W_* x_t + R_* h_{t-1} + b_*)        input, forget and output gates
    c_t = f ⊙ c_{t-1} + i ⊙ tanh(W_c x_t + R_c h_{t-1} + b_c)
    h_t = o ⊙ tanh(c_t)
    ŷ_t = U h_t + b_y

The mouth often moves before the sound that it shapes: the output for time t is read off `delay` steps later, when the
network has heard that much more (Graves & Schmidhuber 2005; Suwajanakorn et al. 2017, section 3.1: 200 ms).
"""

from __future__ import annotations

from torch import Tensor, nn

State = tuple[Tensor, Tensor]
"""Hidden and cell state, each (layers, B, hidden)."""


class Recurrent(nn.Module):
    """Dropout → LSTM layers → dropout → one linear map.

    Parameters
    ----------
    features, hidden, layers, outputs
        Sizes: `D` inputs a step, LSTM units, LSTM layers, `P` outputs a step.
    input_dropout, dropout
        Shares of inputs and of LSTM outputs that training drops, 0 to 1.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        hidden: int = 60,
        layers: int = 1,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.drop_input = nn.Dropout(input_dropout)
        self.cells = nn.LSTM(features, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.drop = nn.Dropout(dropout)
        self.read_out = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over a stretch of time.

        Parameters
        ----------
        x : Tensor, shape (B, T, D), float32
        state
            Where the stretch before left off; None is silence before time began (zeros).

        Returns
        -------
        y : Tensor, shape (B, T, P), float32
            Output step t belongs to time t − delay.
        state
            To go on from.
        """
        hidden, state = self.cells(self.drop_input(x), state)  # (B, T, hidden)
        return self.read_out(self.drop(hidden)), state


def carry(state: State, fresh: Tensor) -> State:
    """Detach a state from the graph that made it, and zero it for the streams that start anew (`fresh`, (B,) bool).

    Truncated backpropagation through time: values flow on, gradients stop here.
    """
    keep = (~fresh).to(state[0].dtype)[None, :, None]
    return state[0].detach() * keep, state[1].detach() * keep
