"""The ridge: it finds a linear map, chooses its penalty on data that it did not see, and is stored beside a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lipwright.models.baselines import FILE, REACH_STEPS, STRIDE, NormalEquations, Ridge, fit_ridge, surroundings
from lipwright.models.errors import ModelError

COLUMNS = len(range(-REACH_STEPS, REACH_STEPS + 1, STRIDE))


def test_surroundings_are_the_neighbours_in_order() -> None:
    features = np.arange(200, dtype=np.float32)[:, None]
    stacked = surroundings(features)
    assert stacked.shape == (200, COLUMNS)
    np.testing.assert_array_equal(stacked[100], np.arange(100 - REACH_STEPS, 100 + REACH_STEPS + 1, STRIDE))
    np.testing.assert_array_equal(stacked[0], np.maximum(np.arange(-REACH_STEPS, REACH_STEPS + 1, STRIDE), 0))
    np.testing.assert_array_equal(stacked[-1], np.minimum(199 + np.arange(-REACH_STEPS, REACH_STEPS + 1, STRIDE), 199))


@pytest.mark.parametrize("steps", [1, 10, 300])
def test_any_length_has_its_surroundings(steps: int) -> None:
    stacked = surroundings(np.random.default_rng(0).normal(0, 1, (steps, 28)))
    assert stacked.shape == (steps, COLUMNS * 28)
    assert stacked.dtype == np.float32


Sequence = tuple[np.ndarray, np.ndarray, np.ndarray]


def linear(steps: int, seed: int, noise: float = 0.0, outputs: int = 3) -> Sequence:
    """Features, and coefficients that follow linearly from the features of 0 and 100 ms later."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (steps, 4)).astype(np.float32)
    ahead = np.roll(features, -10, 0)
    maps = np.random.default_rng(99).normal(0, 1, (2, 4, outputs))
    target = features @ maps[0] + ahead @ maps[1] + 0.5 + rng.normal(0, noise, (steps, outputs))
    valid = np.ones(steps, bool)
    valid[-10:] = False
    return features, target.astype(np.float32), valid


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_linear_map_is_found(outputs: int) -> None:
    ridge = fit_ridge([linear(1500, 0, outputs=outputs)], [linear(500, 1, outputs=outputs)])
    assert ridge.weights.shape == (COLUMNS * 4, outputs)
    assert ridge.weights.dtype == ridge.bias.dtype == np.float32
    features, target, valid = linear(400, 2, outputs=outputs)
    predicted = ridge.predict(features)
    assert predicted.shape == target.shape
    residual = ((predicted - target)[valid] ** 2).mean() / target[valid].var()
    assert residual < 0.01


def test_what_is_not_valid_is_not_learned_from() -> None:
    features, target, valid = linear(1000, 0)
    spoiled = target.copy()
    spoiled[~valid] = np.nan
    held_out = linear(300, 1)
    np.testing.assert_array_equal(
        fit_ridge([(features, spoiled, valid)], [held_out]).weights,
        fit_ridge([(features, target, valid)], [held_out]).weights,
    )


def test_the_penalty_is_chosen_on_held_out_data() -> None:
    features, target, valid = linear(1000, 2)

    def error(ridge: Ridge) -> float:
        return float(((ridge.predict(features) - target)[valid] ** 2).mean())

    for noise, heavier in ((40.0, True), (0.0, False)):  # noise asks for more than the middle penalty, its absence for less
        train = [linear(300, 0, noise=noise)]
        chosen, middle = fit_ridge(train, [linear(1000, 1)]), fit_ridge(train, [])
        assert (np.abs(chosen.weights).sum() < np.abs(middle.weights).sum()) == heavier
        assert error(chosen) < error(middle)


def test_sequences_are_not_joined_across_their_ends() -> None:
    a, b = linear(400, 0), linear(400, 1)
    both = fit_ridge([a, b], [])
    turned = fit_ridge([b, a], [])
    np.testing.assert_allclose(both.weights, turned.weights, atol=1e-3)


@pytest.mark.parametrize("penalty", [0.5, 30.0, 10_000.0])
def test_a_regression_that_is_added_up_is_that_of_all_data(penalty: float) -> None:
    from sklearn.linear_model import Ridge as Solver

    rng = np.random.default_rng(4)
    x, weights = rng.normal(3, 2, (10_000, 6)), rng.uniform(0.1, 3, 10_000)
    y = x @ rng.normal(0, 1, (6, 2)) + rng.normal(0, 1, (10_000, 2)) - 5
    first, second = NormalEquations(), NormalEquations()
    assert not first
    first.add(x[:7000], y[:7000], weights[:7000])
    second.add(x[7000:], y[7000:], weights[7000:])
    whole = Solver(alpha=penalty).fit(x, y, weights)
    found, bias = (first + second).solve(penalty)
    np.testing.assert_allclose(found, whole.coef_.T, rtol=1e-7)
    np.testing.assert_allclose(bias, whole.intercept_, rtol=1e-7)
    alike = NormalEquations()
    alike.add(x, y)
    assert alike.error(found, bias) == pytest.approx(((whole.predict(x) - y) ** 2).mean(), rel=1e-9)


def test_with_an_infinite_penalty_nothing_is_said() -> None:
    equations = NormalEquations()
    equations.add(np.ones((3, 2)), np.ones((3, 1)))
    weights, bias = equations.solve(np.inf)
    assert not weights.any()
    assert not bias.any()


def test_save_then_load_is_bit_equal(tmp_path: Path) -> None:
    ridge = fit_ridge([linear(300, 0)], [])
    ridge.save(tmp_path)
    back = Ridge.load(tmp_path)
    np.testing.assert_array_equal(back.weights, ridge.weights)
    np.testing.assert_array_equal(back.bias, ridge.bias)
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"ridge\.safetensors is missing or broken"):
        Ridge.load(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    fit_ridge([linear(300, 0)], []).save(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-10])
    with pytest.raises(ModelError, match="broken"):
        Ridge.load(tmp_path)
