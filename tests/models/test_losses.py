"""Each term of the loss is zero for the truth, punishes what it names, and counts only the steps that count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lipwright.models.lipsync import Config, LipSync
from lipwright.models.losses import VELOCITY_STEPS, MouthLoss, Weights

UPPER, LOWER = 0, 1


def loss(weights: Weights, blendshapes: int = 0) -> MouthLoss:
    """Two points, of which the first coefficient moves the lower down, the second both sidewards."""
    config = Config(features={}, feature_size=3, points=2, components=2, scale=0.1, hidden=2, blendshapes=blendshapes)
    model = LipSync(config)
    model.pca_components.copy_(torch.tensor([[0.0, 0, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0]]))
    return MouthLoss(model, UPPER, LOWER, weights)


def said(*openings: float) -> torch.Tensor:
    return torch.tensor(openings)[None, :, None] * torch.tensor([1.0, 0.0])  # (1, T, 2)


NOTHING = Weights()
ALL = Weights(velocity=1.0, opening=1.0, closure=1.0, blendshapes=1.0)


def value(weights: Weights, ours: torch.Tensor, theirs: torch.Tensor, counts: torch.Tensor | None = None) -> float:
    counts = torch.ones(theirs.shape[:2], dtype=torch.bool) if counts is None else counts
    return float(loss(weights, ours.shape[-1] - 2)(ours[None], theirs, counts)[0])


def test_sounds_are_judged_by_cross_entropy_and_the_rest_as_ever() -> None:
    config = Config(features={}, feature_size=3, points=2, components=2, scale=0.1, hidden=2, blendshapes=1, phones=3)
    judge = MouthLoss(LipSync(config), UPPER, LOWER, Weights(blendshapes=1.0, phones=0.5))
    counts = torch.ones(1, 2, dtype=torch.bool)
    wanted = torch.tensor([[[0.0, 0.0, 1.0, 0, 1, 0], [0.0, 0.0, 1.0, 0.5, 0, 0.5]]])
    logits = torch.tensor([[1.0, 3.0, -1.0], [2.0, 0.0, 0.0]])
    ours = torch.cat([wanted[0, :, :2], wanted[0, :, 2:3] - 0.2, logits], 1)[None]
    log_p = logits.log_softmax(-1)
    entropy = -(log_p[0, 1] + 0.5 * log_p[1, 0] + 0.5 * log_p[1, 2])
    assert float(judge(ours[None], wanted, counts)[0]) == pytest.approx(2 * 0.2**2 + 0.5 * float(entropy), abs=1e-6)


def test_the_truth_costs_nothing() -> None:
    truth = said(0.5, 0.9, 0.2, 0.0, 0.3, 0.6, 0.1)
    assert value(replace(ALL, closure=0.0), truth, truth) == 0


def test_the_opening_is_the_vertical_between_the_lips() -> None:
    assert loss(NOTHING).opening(torch.tensor([[0.4, 7.0], [-0.1, 0.0]])).tolist() == pytest.approx([0.4, -0.1])


def test_without_weights_it_is_the_mean_squared_error() -> None:
    assert value(NOTHING, said(0.5, 1.0), said(0.5, 0.8)) == pytest.approx(0.02)
    assert value(replace(NOTHING, opening=2.0), said(1.0), said(0.8)) == pytest.approx(0.02 + 2 * 0.04)


def test_lips_that_should_meet_and_do_not_cost_more() -> None:
    closure = replace(NOTHING, closure=10.0)
    for ours, theirs, more in ((0.4, 0.0, 10 * 0.3**2), (0.05, 0.0, 0.0), (0.4, 0.5, 0.0)):
        assert value(closure, said(ours), said(theirs)) == pytest.approx((ours - theirs) ** 2 / 2 + more, abs=1e-6)


def test_a_mouth_that_is_off_but_moves_right_has_no_velocity_error() -> None:
    steps = torch.linspace(0, 1, VELOCITY_STEPS + 3).tolist()
    velocity = replace(NOTHING, velocity=1.0)
    off = said(*(s + 0.2 for s in steps))
    assert value(velocity, off, said(*steps)) == pytest.approx(value(NOTHING, off, said(*steps)), abs=1e-6)
    still = said(*(0.5 for _ in steps))
    assert value(velocity, still, said(*steps)) > value(NOTHING, still, said(*steps)) + 0.1


def test_steps_that_do_not_count_do_not_matter() -> None:
    truth = said(*torch.linspace(0, 0.1, 12).tolist())
    counts = torch.ones(1, 12, dtype=torch.bool)
    counts[0, 5] = False
    wrong = truth.clone()
    wrong[0, 5] = 99
    assert value(replace(ALL, blendshapes=0.0), wrong, truth, counts) == 0


def test_blendshapes_are_weighed_apart() -> None:
    ours, theirs = torch.zeros(1, 3, 2 + 4), torch.zeros(1, 3, 2 + 4)
    ours[..., 2:] = 2.0
    assert value(NOTHING, ours, theirs) == 0
    assert value(replace(NOTHING, blendshapes=0.5), ours, theirs) == pytest.approx(3 * 0.5 * 4)
