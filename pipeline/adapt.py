"""A trained network for other people's mouths: it keeps how it listens, and reads the mouth off anew.

The statistics of sound stay, since the network has learned with them; PCA and statistics of the mouth become the new
speakers'. The read-out begins where it says just what the trained one says, in the new coefficients, and a ridge regression
of what that lacks, on the frozen states, is added to it. So a base model is the prior: with little footage, or where the
validation part does not ask for more, it is what speaks.
"""

from __future__ import annotations

from collections.abc import Sequence as Several

import numpy as np
import torch

from lipwright.models.lipsync import LipSync
from lipwright.pipeline.sequences import Sequence, arrays

PENALTIES = (300.0, 30.0, 100.0, 1000.0, 3000.0, np.inf)
"""Of the ridge, the usual one first; with the last, the read-out stays as it was."""

MOST_STEPS = 360_000
"""The read-out is fitted on so many at most, an hour: neighbours say nearly the same."""

KEPT = ("feature_mean", "feature_std", "silence")
"""Statistics that a network has learned with."""


def take_over(model: LipSync, base: LipSync) -> None:
    """Give a model the network of another, which then says the same.

    Parameters
    ----------
    model
        With its own PCA and its own statistics of blendshapes; as many members as wanted, otherwise built like `base`.
    base
        Its members are taken in turn. Blendshapes that it does not say begin at their mean.
    """
    for name in KEPT:
        getattr(model, name).copy_(getattr(base, name))
    p, s = base.config.components, base.config.blendshapes
    with torch.no_grad():
        for k, member in enumerate(model.network.each):
            trained = base.network.each[k % len(base.network.each)]
            weights, bias = trained.read_out.weight, trained.read_out.bias
            # Linear, so that coefficients of one PCA turn to those of another in the read-out itself.
            turn = model.pca_components @ base.pca_components.T
            off = model.pca_components @ (base.pca_mean - model.pca_mean)
            rows, offsets = [turn @ weights[:p]], [turn @ bias[:p] + off]
            if model.config.blendshapes and s:
                ratio = base.blendshape_std / model.blendshape_std
                rows.append(ratio[:, None] * weights[p : p + s])
                shift = (base.blendshape_mean - model.blendshape_mean) / model.blendshape_std
                offsets.append(ratio * bias[p : p + s] + shift)
            elif model.config.blendshapes:
                rows.append(weights.new_zeros(model.config.blendshapes, weights.shape[1]))
                offsets.append(bias.new_zeros(model.config.blendshapes))
            read_out = {"read_out.weight": torch.cat(rows), "read_out.bias": torch.cat(offsets)}
            member.load_state_dict(trained.state_dict() | read_out)


def fit_read_out(
    model: LipSync, train: Several[Sequence], held_out: Several[Sequence], penalties: Several[float] = PENALTIES
) -> float:
    """Add to each member's read-out what a ridge regression finds it to lack.

    Parameters
    ----------
    model
        Its network speaks already.
    train
        What is learned from.
    held_out
        Chooses the penalty, by the squared error of the coefficients.
    penalties
        To choose from; the first without `held_out`.

    Returns
    -------
    float
        The penalty; infinite if the read-out is best left alone.
    """
    from sklearn.linear_model import Ridge as Solver

    def lessons(sequences: Several[Sequence]) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the states of each member, and what is wanted, where the mouth is seen."""
        every = -(-sum(len(s.features) for s in sequences) // MOST_STEPS)
        heard = [[h[s.valid][::every] for h in model.hear(s.features)] for s in sequences]
        wanted = np.concatenate([arrays(model, s)[1][s.valid][::every] for s in sequences])
        return [np.concatenate(states) for states in zip(*heard, strict=True)], wanted

    def said(k: int, h: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.network.each[k].read_out(torch.from_numpy(h).to(model.feature_mean)).cpu().numpy()

    def lacking(penalty: float) -> list[Solver]:
        return [Solver(alpha=penalty).fit(h, wanted - said(k, h)) for k, h in enumerate(states)]

    def error(penalty: float) -> float:
        spoken = [said(k, h) for k, h in enumerate(check_states)]
        if np.isfinite(penalty):
            spoken = [y + more.predict(h) for y, h, more in zip(spoken, check_states, lacking(penalty), strict=True)]
        return float(((np.mean(spoken, 0) - check)[:, : model.config.components] ** 2).mean())

    states, wanted = lessons(train)
    best = penalties[0]
    if held_out and len(penalties) > 1:
        check_states, check = lessons(held_out)
        best = min(penalties, key=error)
    if np.isfinite(best):
        with torch.no_grad():
            for member, more in zip(model.network.each, lacking(best), strict=True):
                for now, lack in ((member.read_out.weight, more.coef_), (member.read_out.bias, more.intercept_)):
                    now += torch.from_numpy(np.asarray(lack, np.float32)).reshape(now.shape).to(now)
    return best
