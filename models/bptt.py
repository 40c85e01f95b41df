"""Backpropagation through time by hand: the sums of the textbook, in NumPy, without automatic differentiation.

For reading, and for testing what trains. A step's loss L_t depends on W through every state before it::

    ∂L_t/∂W = ∂L_t/∂ŷ_t · ∂ŷ_t/∂h_t · Σ_{k≤t} (Π_{j=k+1..t} ∂h_j/∂h_{j-1}) · ∂h_k/∂W

Taken literally, as below, this costs T²/2 products for T steps. Automatic differentiation shares them: it runs back once,
adding each step's ∂L_t/∂h_t to what comes from the future, and pays T.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Elman:
    """An Elman network, h_t = f(V x_t + W h_{t-1} + b_h), ŷ_t = U h_t + b_y, in float64.

    Attributes
    ----------
    V : ndarray, shape (H, D)
    W : ndarray, shape (H, H)
    U : ndarray, shape (P, H)
    b_h : ndarray, shape (H,)
    b_y : ndarray, shape (P,)
    relu
        f is ReLU; else tanh.
    """

    V: np.ndarray
    W: np.ndarray
    U: np.ndarray
    b_h: np.ndarray
    b_y: np.ndarray
    relu: bool = False

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the states h_0 … h_T (T + 1, H), of which h_0 = 0, and the outputs (T, P), of inputs (T, D)."""
        h = [np.zeros(len(self.b_h))]
        for x_t in x:
            a = self.V @ x_t + self.W @ h[-1] + self.b_h
            h.append(np.maximum(a, 0) if self.relu else np.tanh(a))
        states = np.array(h)
        return states, states[1:] @ self.U.T + self.b_y

    def slope(self, h: np.ndarray) -> np.ndarray:
        """Return f′ where f took the value h."""
        return (h > 0).astype(float) if self.relu else 1 - h**2


def bptt(net: Elman, x: np.ndarray, y: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss Σ_t |ŷ_t − y_t|² of one sequence, and its gradient by every weight.

    Parameters
    ----------
    net
        The network.
    x : ndarray, shape (T, D), float64
    y : ndarray, shape (T, P), float64

    Returns
    -------
    loss
    gradients
        Of the shapes of ``V``, ``W``, ``U``, ``b_h`` and ``b_y``.
    """
    h, said = net.run(x)
    grad = {name: np.zeros_like(getattr(net, name)) for name in ("V", "W", "U", "b_h", "b_y")}
    for t in range(1, len(x) + 1):
        by_y = 2 * (said[t - 1] - y[t - 1])  # ∂L_t/∂ŷ_t
        grad["U"] += np.outer(by_y, h[t])
        grad["b_y"] += by_y
        by_h = by_y @ net.U  # ∂L_t/∂h_t, and further down ∂L_t/∂h_k
        for k in range(t, 0, -1):
            by_a = by_h * net.slope(h[k])  # through f, to a_k = V x_k + W h_{k-1} + b_h
            grad["V"] += np.outer(by_a, x[k - 1])
            grad["W"] += np.outer(by_a, h[k - 1])
            grad["b_h"] += by_a
            by_h = by_a @ net.W  # one more factor ∂h_k/∂h_{k-1} = diag(f′(a_k)) W of the product
    return float(((said - y) ** 2).sum()), grad
