"""What a network is held to, beyond the squared error of the mouth: how it moves, how far it opens, that lips meet.

Beside the mouth, it may be held to say which sound it hears.

All terms are means over the steps that count. Mouths are relative to the speaker, so a weight means the same for everyone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lipwright.models.lipsync import LipSync
from lipwright.models.metrics import CLOSED_SHARE

VELOCITY_STEPS = 4
"""Movement is compared over 40 ms: from step to step, it is mostly noise of the measurement."""

CLOSED_AIM = CLOSED_SHARE - 0.05
"""Lips that shall be closed are driven a little below what counts as closed."""


@dataclass(frozen=True)
class Weights:
    """How much each term counts beside the squared error of the coefficients."""

    velocity: float = 0.0
    opening: float = 0.0
    closure: float = 0.0
    blendshapes: float = 0.0
    phones: float = 0.0


class MouthLoss:
    """The loss of what a network says.

    Parameters
    ----------
    model
        Gives the PCA, and how many blendshapes and classes of sounds follow the coefficients.
    upper, lower
        The inner lips' middle points, as indices of the `K`.
    weights
        Of the terms.
    """

    def __init__(self, model: LipSync, upper: int, lower: int, weights: Weights) -> None:
        self.weights, self._components, self._blendshapes = weights, model.config.components, model.config.blendshapes
        gap = model.pca_components.unflatten(-1, (-1, 3))  # (P, K, 3)
        # Along the image's vertical, downwards: linear in the coefficients, unlike the distance of the two points.
        self._slope = gap[:, lower, 1] - gap[:, upper, 1]
        mean = model.pca_mean.unflatten(-1, (-1, 3))
        self._offset = mean[lower, 1] - mean[upper, 1]

    def opening(self, coefficients: Tensor) -> Tensor:
        """Return how far the mouth is open beyond neutral, (…), of coefficients (…, P); 1 is the speaker's range."""
        return coefficients @ self._slope + self._offset

    def __call__(self, said: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
        """Return the sum over steps of the loss of each.

        Parameters
        ----------
        said : Tensor, shape (M, B, T, P + S + C)
            Of each member; of the classes of sounds, logits.
        wanted : Tensor, shape (B, T, P + S + C)
            Of the classes, probabilities.
        counts : Tensor, shape (B, T), bool
            Steps that are judged.

        Returns
        -------
        Tensor, shape (M,)
            To be divided by the number of steps that count.
        """
        weights, p, s = self.weights, self._components, self._blendshapes
        error = (said[..., : p + s] - wanted[..., : p + s]).square()
        step = error[..., :p].mean(-1)  # (M, B, T)
        if s:
            step = step + weights.blendshapes * error[..., p:].mean(-1)
        if said.shape[-1] > p + s:
            step = step - weights.phones * (wanted[..., p + s :] * said[..., p + s :].log_softmax(-1)).sum(-1)
        if weights.opening or weights.closure:
            ours, theirs = self.opening(said[..., :p]), self.opening(wanted[..., :p])
            step = step + weights.opening * (ours - theirs).square()
            step = step + weights.closure * (theirs < CLOSED_SHARE) * (ours - CLOSED_AIM).relu().square()
        total = (step * counts).sum((1, 2))
        if weights.velocity and said.shape[2] > VELOCITY_STEPS:
            lag = VELOCITY_STEPS
            ours, theirs = (x[..., lag:, :p] - x[..., :-lag, :p] for x in (said, wanted))
            moved = (ours - theirs).square().mean(-1) * (counts[:, lag:] & counts[:, :-lag])
            total = total + weights.velocity * moved.sum((1, 2))
        return total
