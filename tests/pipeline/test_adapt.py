"""A network taken over says what it said, in other coefficients; its read-out learns what is linear in its states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.data.corpus import Corpus
from lipwright.data.features import FeatureSettings
from lipwright.models.lipsync import MOST_LEAD_STEPS, LipSync
from lipwright.pipeline import sequences as module
from lipwright.pipeline.adapt import KEPT, PENALTIES, choose_penalty, find_lead, fit_read_out, take_over
from lipwright.pipeline.course import build_model
from lipwright.pipeline.sequences import Sequence, an_hour, load_sequences
from lipwright.pipeline.settings import TrainSettings

Maker = Callable[..., Path]
SMALL = TrainSettings(hidden=12, layers=1, members=1, components=6)


def made(corpus: Path, settings: TrainSettings, seed: int = 0, lead_steps: int = 0) -> tuple[LipSync, list[Sequence]]:
    """A model with random weights and the statistics of a corpus; and its sequences."""
    train, held_out, scale = load_sequences(Corpus.load(corpus))
    torch.manual_seed(seed)
    model = build_model(train + held_out, FeatureSettings(), settings, scale, lead_steps=lead_steps).eval()
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.mul_(4)  # states of a size that trained ones have
    return model, train + held_out


@pytest.mark.parametrize(("members", "ours"), [(1, 1), (2, 2), (1, 2)])
def test_a_network_taken_over_says_the_same(toy_corpus: Maker, tmp_path: Path, members: int, ours: int) -> None:
    base, _ = made(toy_corpus(tmp_path / "first", seed=1), replace(SMALL, members=members))
    model, sequences = made(toy_corpus(tmp_path / "second", seed=2), replace(SMALL, members=ours), seed=5)
    take_over(model, base)
    features = sequences[0].features
    there = model.expand(model.project(torch.from_numpy(base.predict(features)))).numpy()
    np.testing.assert_allclose(model.predict(features), there, atol=1e-4)
    np.testing.assert_allclose(model.predict_blendshapes(features), base.predict_blendshapes(features), atol=1e-4)
    for name in KEPT:
        torch.testing.assert_close(getattr(model, name), getattr(base, name))


def test_of_a_base_without_blendshapes_they_are_at_their_mean(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    model, sequences = made(corpus, SMALL)
    bare = [replace(s, blendshapes=s.blendshapes[:, :0]) for s in sequences]
    take_over(model, build_model(bare, FeatureSettings(), SMALL, 0.2).eval())
    said = model.predict_blendshapes(sequences[0].features)
    np.testing.assert_allclose(said, np.broadcast_to(model.blendshape_mean.clamp(0, 1), said.shape), atol=1e-6)


def linear(model: LipSync, sequence: Sequence, size: float) -> Sequence:
    """Let a sequence want what a random linear map reads off the states beside what is said."""
    (h,) = model.hear(sequence.features)
    more = np.random.default_rng(3).standard_normal((h.shape[1], model.config.components))
    said = model.project(torch.from_numpy(model.predict(sequence.features)))
    return replace(sequence, shapes=model.expand(said + torch.from_numpy(np.float32(size * (h @ more)))).numpy())


def error(model: LipSync, sequence: Sequence) -> float:
    return float(np.square(model.predict(sequence.features) - sequence.shapes)[sequence.valid].mean())


def test_what_is_linear_in_the_states_is_learned(toy_corpus: Maker, tmp_path: Path) -> None:
    model, (first, second, *_) = made(toy_corpus(tmp_path / "corpus", (20.0, 20.0)), SMALL)
    train, held_out = linear(model, first, 3.0), linear(model, second, 3.0)
    before = error(model, held_out)
    penalty = choose_penalty(model, [train], [held_out])
    assert penalty == min(PENALTIES)
    fit_read_out(model, [train], penalty)
    assert error(model, held_out) < 0.1 * before


@pytest.mark.parametrize("turned", [False, True])
def test_weights_decide_what_is_learned(toy_corpus: Maker, tmp_path: Path, turned: bool) -> None:
    model, (first, *_) = made(toy_corpus(tmp_path / "corpus"), SMALL)
    one, other = linear(model, first, 3.0), linear(model, first, -3.0)
    heavy, light = (other, one) if turned else (one, other)
    fit_read_out(model, [replace(heavy, weight=0.99), replace(light, weight=0.01)], min(PENALTIES))
    assert error(model, heavy) < 0.2 * error(model, light)


def test_where_validation_says_otherwise_the_read_out_stays(toy_corpus: Maker, tmp_path: Path) -> None:
    model, (first, second, *_) = made(toy_corpus(tmp_path / "corpus", (20.0, 20.0)), SMALL)
    train, held_out = linear(model, first, 3.0), linear(model, second, -3.0)
    said = model.predict(first.features)
    penalty = choose_penalty(model, [train], [held_out])
    assert penalty == np.inf
    fit_read_out(model, [train], penalty)
    np.testing.assert_array_equal(model.predict(first.features), said)


def moved(sequence: Sequence, model: LipSync, lead: int) -> Sequence:
    """Let a mouth move as a model says it, but so many steps earlier."""
    return replace(sequence, shapes=np.roll(model.predict(sequence.features), -lead, axis=0))


@pytest.mark.parametrize("lead", [-MOST_LEAD_STEPS, -4, 0, 7])
@pytest.mark.parametrize("own", [0, 3])
def test_the_lead_of_a_mouth_is_found(toy_corpus: Maker, tmp_path: Path, lead: int, own: int) -> None:
    base, sequences = made(toy_corpus(tmp_path / "corpus", (8.0, 20.0)), SMALL, lead_steps=own)
    alone = made(toy_corpus(tmp_path / "again", (8.0, 20.0)), SMALL)[0]
    assert find_lead(base, [moved(s, alone, lead) for s in sequences]) == lead


def test_of_a_long_corpus_what_is_drawn_tells_the_lead(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STEPS", 1500)
    base, sequences = made(toy_corpus(tmp_path / "corpus", (8.0,) * 8), SMALL)
    drawn = [any(s.features is t.features for t in an_hour(sequences)) for s in sequences]
    assert not all(drawn[:2])
    assert find_lead(base, [moved(s, base, 5 if heard else -5) for s, heard in zip(sequences, drawn, strict=True)]) == 5


def test_a_lead_beyond_bounds_is_no_lead(toy_corpus: Maker, tmp_path: Path) -> None:
    base, (first, *_) = made(toy_corpus(tmp_path / "corpus"), SMALL)
    for lead in (-MOST_LEAD_STEPS - 1, MOST_LEAD_STEPS + 1):
        assert find_lead(base, [moved(first, base, lead)]) == 0
    assert abs(find_lead(base, [moved(first, base, 3 * MOST_LEAD_STEPS)])) <= MOST_LEAD_STEPS


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, direction="forward")], ids=["still", "forward"])
def test_where_no_lead_can_be_known_it_stays(toy_corpus: Maker, tmp_path: Path, settings: TrainSettings) -> None:
    base, (first, *_) = made(toy_corpus(tmp_path / "corpus"), settings)
    still = settings.direction == "both"
    said = replace(first, shapes=np.zeros_like(first.shapes)) if still else moved(first, base, 5)
    assert find_lead(base, [said]) == 0


def test_a_lead_is_no_more_than_the_delay(toy_corpus: Maker, tmp_path: Path) -> None:
    model, _ = made(toy_corpus(tmp_path / "corpus"), replace(SMALL, delay_ms=60.0), lead_steps=7)
    assert model.config.lead_steps == model.config.delay_steps == 4


def test_one_penalty_is_no_choice(toy_corpus: Maker, tmp_path: Path) -> None:
    model, (first, *_) = made(toy_corpus(tmp_path / "corpus"), SMALL)
    assert choose_penalty(model, [first], [first], (7.0,)) == 7.0
