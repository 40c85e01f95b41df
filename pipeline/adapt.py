"""A trained network for other people's mouths: it keeps how it listens, and reads the mouth off anew.

The statistics of sound stay, since the network has learned with them; PCA and statistics of the mouth become the new
speakers'. The read-out begins where it says just what the trained one says, in the new coefficients, and a ridge regression
of what that lacks, on the frozen states, is added to it. So a base model is the prior: with little footage, or where the
validation part does not ask for more, it is what speaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Several

import numpy as np
import torch

from lipwright.models.baselines import NormalEquations
from lipwright.models.lipsync import MOST_LEAD_STEPS, LipSync
from lipwright.models.metrics import lag_curve
from lipwright.pipeline.sequences import Sequence, an_hour, apertures, arrays

PENALTIES = (3000.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0, 30_000.0, np.inf)
"""Of the ridge, the usual one first; with the last, the read-out stays as it was. `docs/base.md`."""

KEPT = ("feature_mean", "feature_std", "silence")
"""Statistics that a network has learned with."""


def find_lead(base: LipSync, sequences: Several[Sequence]) -> int:
    """Return how many steps earlier mouths move than a model's network says: where the apertures correlate best.

    Parameters
    ----------
    base
        It hears both ways; another network has learned its delay, and keeps it.
    sequences
        An hour of them is heard.

    Returns
    -------
    int
        For `Config.lead_steps`; what it is of `base`, if nothing moves, or if the correlation goes on rising beyond the bounds.
    """
    own = base.config
    if own.direction == "forward":
        return 0
    said, measured, valid = apertures(base, an_hour(sequences))
    curve = lag_curve(said, measured, valid)
    leads = {lead: r for lead, r in enumerate(curve, own.lead_steps - len(curve) // 2) if r is not None}
    close = [lead for lead in leads if abs(lead) <= MOST_LEAD_STEPS]
    if not close:
        return own.lead_steps
    best = max(close, key=leads.__getitem__)
    # On the way to a peak beyond the bounds, the bound is nobody's lead.
    peak = leads[best] >= max(leads.get(best - 1, -1.0), leads.get(best + 1, -1.0))
    return best if peak else own.lead_steps


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


def choose_penalty(
    model: LipSync, train: Several[Sequence], held_out: Several[Sequence], penalties: Several[float] = PENALTIES
) -> float:
    """Return the penalty of `fit_read_out` with which the squared error of the coefficients is least on other sequences."""
    if len(penalties) == 1:
        return penalties[0]
    lacking, p, members = _lacking(model, train), model.config.components, len(model.network.each)
    judged = NormalEquations()  # of the mean of what members lack, on the states of all
    for heard, due, _ in _lessons(model, held_out):
        said = np.mean([_said(model, k, h) for k, h in enumerate(heard)], 0)
        judged.add(np.hstack(heard), (due - said)[:, :p])

    def error(penalty: float) -> float:
        weights, biases = zip(*(equations.solve(penalty) for equations in lacking), strict=True)
        return judged.error(np.vstack(weights)[:, :p] / members, np.mean(biases, 0)[:p])

    return min(penalties, key=error)


def fit_read_out(model: LipSync, sequences: Several[Sequence], penalty: float) -> None:
    """Add to each member's read-out what a ridge regression finds it to lack.

    Parameters
    ----------
    model
        Its network speaks already.
    sequences
        What is learned from, hushes included, each with its weight.
    penalty
        One of `PENALTIES`; with an infinite one, nothing is added.
    """
    if not np.isfinite(penalty):
        return
    with torch.no_grad():
        for member, equations in zip(model.network.each, _lacking(model, sequences), strict=True):
            weights, bias = equations.solve(penalty)
            for now, add in ((member.read_out.weight, weights.T), (member.read_out.bias, bias)):
                now += torch.from_numpy(np.asarray(add, np.float32)).to(now)


def _lessons(model: LipSync, sequences: Several[Sequence]) -> Iterator[tuple[list[np.ndarray], np.ndarray, float]]:
    """Yield the states (N, H) of each member, what is wanted (N, P + S) and its weight, at steps where the mouth is seen."""
    for s in an_hour(sequences):
        yield [h[s.valid] for h in model.hear(s.features)], arrays(model, s)[1][s.valid], s.weight


def _said(model: LipSync, member: int, states: np.ndarray) -> np.ndarray:
    """Return what a member reads off its states, (N, P + S)."""
    with torch.no_grad():
        return model.network.each[member].read_out(torch.from_numpy(states).to(model.feature_mean)).cpu().numpy()


def _lacking(model: LipSync, sequences: Several[Sequence]) -> list[NormalEquations]:
    """Return the regression of what each member lacks, on its states."""
    lacking = [NormalEquations() for _ in model.network.each]
    for heard, wanted, weight in _lessons(model, sequences):
        for k, h in enumerate(heard):
            lacking[k].add(h, wanted - _said(model, k, h), weight)
    return lacking
