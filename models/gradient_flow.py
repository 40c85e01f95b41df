"""How far back through time a network still learns: the norm of ∂L_T/∂h_k against T − k."""

from __future__ import annotations

import torch
from torch import Tensor

from lipwright.models.recurrent import Recurrent, State


def gradient_flow(network: Recurrent, x: Tensor, by_y: Tensor) -> Tensor:
    """Follow the gradient of the last step's loss back through the states of the past.

    ``∂L_T/∂h_k = ∂L_T/∂ŷ_T · ∂ŷ_T/∂h_T · Π_{j=k+1..T} ∂h_j/∂h_{j-1}``; it vanishes, holds or explodes as k goes back
    (Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013, section 2). h_k is all that the network hands on from
    step k: of an LSTM h and c, of several layers all of them.

    Parameters
    ----------
    network
        Runs without dropout here.
    x : Tensor, shape (B, T, D), float32
        Windows, up to the step whose output is judged.
    by_y : Tensor, shape (B, P), float32
        ∂L_T/∂ŷ_T.

    Returns
    -------
    Tensor, shape (B, T), float32
        ‖∂L_T/∂h_k‖ at [:, T − k]: the first is at the step of the loss itself.
    """
    training = network.training
    network.eval()
    states: list[State] = []
    with torch.backends.cudnn.flags(enabled=False):  # its backward pass would ask for training mode
        for k in range(x.shape[1]):
            states.append(network.past(x[:, k : k + 1], states[-1] if states else None)[1])
    network.train(training)
    top = states[-1][0][-1]  # h_T of the uppermost layer, (B, hidden)
    y = top @ network.read_out.weight[:, : top.shape[1]].T  # what the past says to ŷ_T
    flat = [s for state in states for s in state]
    # Nothing reads c_T: the last step's cell state has no gradient.
    slopes = torch.autograd.grad(y, flat, by_y, allow_unused=True)
    squares = torch.stack([torch.zeros(len(x)).to(x) if g is None else g.square().sum((0, 2)) for g in slopes])  # (T·n, B)
    return squares.unflatten(0, (len(states), -1)).sum(1).sqrt().flip(0).T
