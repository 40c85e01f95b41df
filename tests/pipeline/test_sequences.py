"""What training hears besides the clips themselves: variants keep sound and mouth together, hushes close the mouth."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.articulation import CLASSES
from lipwright.data.cache import cache_folder
from lipwright.data.corpus import Corpus
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features
from lipwright.models.metrics import lag_ms, pearson
from lipwright.pipeline.sequences import (
    CLOSING_S,
    LEAST_HUSHED_S,
    Sequence,
    heard_in_training,
    hush_sequence,
    load_sequences,
    vary_sequence,
)
from lipwright.pipeline.settings import TrainSettings

SETTINGS = FeatureSettings()
LOUDNESS = SETTINGS.mfcc


@pytest.fixture
def sequence(toy_corpus: Callable[..., Path], tmp_path: Path) -> Sequence:
    (train,), _, _ = load_sequences(Corpus.load(toy_corpus(tmp_path / "corpus")))
    return train


def opening(sequence: Sequence) -> np.ndarray:
    """How far the lower inner lip is under the upper one."""
    return np.ptp(sequence.shapes[:, 20:, 1], axis=1)


def test_a_sequence_is_its_sound(sequence: Sequence) -> None:
    assert len(sequence.sound) == 160 * len(sequence.features)
    heard = compute_features(sequence.sound / np.float32(32768), SETTINGS)[: len(sequence.features)]
    np.testing.assert_allclose(heard[:-3, :13], sequence.features[:-3, :13], atol=2.0)
    assert sequence.blendshapes.shape == (len(sequence.features), 52)
    assert np.allclose(sequence.blendshapes[:, 7], opening(sequence) / np.ptp(opening(sequence)), atol=0.1)


def test_what_was_read_needs_the_corpus_no_more(toy_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = toy_corpus(tmp_path / "corpus", (8.0, 9.0))
    settings = TrainSettings(augment=("gain",), variants=1, augmented_share=0.25, hushed_share=0.2)
    train, held_out, _ = load_sequences(Corpus.load(folder))
    before = heard_in_training(train + held_out, settings, SETTINGS)
    shutil.rmtree(folder)
    toy_corpus(folder, (8.0, 9.0), seed=1)  # others, under the same names
    after = heard_in_training(train + held_out, settings, SETTINGS)
    assert len(after) == len(before)
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(two.features, one.features)


@pytest.mark.parametrize("kinds", [("tempo",), ("tract",), ("noise", "reverb"), ("gain", "band", "tempo", "tract")])
def test_the_mouth_of_a_variant_goes_with_its_sound(sequence: Sequence, kinds: tuple[str, ...]) -> None:
    for seed in range(3):
        varied = vary_sequence(sequence, kinds, SETTINGS, seed)
        assert len({len(part) for part in (varied.features, varied.shapes, varied.blendshapes, varied.valid)}) == 1
        assert varied.valid[:-1].all()
        loud = varied.features[:, LOUDNESS]
        assert pearson(loud, opening(varied)) > 0.7
        assert abs(lag_ms(opening(varied), loud, varied.valid) or 0) < 30


def test_a_variant_is_computed_once(sequence: Sequence, monkeypatch: pytest.MonkeyPatch) -> None:
    first = vary_sequence(sequence, ("tract",), SETTINGS, 12345)
    kept = set((cache_folder() / "variants").iterdir())
    monkeypatch.setattr("lipwright.pipeline.sequences.vary", None)
    again = vary_sequence(sequence, ("tract",), SETTINGS, 12345)
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.shapes, again.shapes)
    assert set((cache_folder() / "variants").iterdir()) == kept
    with pytest.raises(TypeError):
        vary_sequence(sequence, ("noise",), SETTINGS, 12345)


def test_invalid_steps_stay_invalid_at_another_tempo(sequence: Sequence) -> None:
    sequence.valid[300:400] = False
    varied = vary_sequence(sequence, ("tempo",), SETTINGS, 0)
    tempo = len(sequence.features) / len(varied.features)
    gone = np.flatnonzero(~varied.valid[:-1])
    assert gone[0] * tempo == pytest.approx(300, abs=3)
    assert gone[-1] * tempo == pytest.approx(400, abs=3)


def test_a_hush_closes_the_mouth_and_the_rest_stays(sequence: Sequence) -> None:
    hushed = hush_sequence(sequence, SETTINGS, 1, whole=False)
    changed = np.any(hushed.shapes != sequence.shapes, axis=(1, 2))
    assert 0.1 < changed.mean() < 0.7
    assert not hushed.shapes[changed].any()
    assert hushed.valid[changed].all()
    assert np.array_equal(hushed.shapes[~changed], sequence.shapes[~changed])
    # The mouth is on its way to and from a hush: what it does there is not judged.
    onset = int(np.flatnonzero(changed & ~np.roll(changed, 1))[0])
    assert not hushed.valid[onset - round(100 * CLOSING_S) : onset].any()
    assert hushed.blendshapes[changed].std(0).max() == pytest.approx(0, abs=1e-6)
    assert hushed.blendshapes[changed].mean() < 0.3 * sequence.blendshapes.mean()


def test_sounds_go_with_what_is_heard_and_rest_in_a_hush(sequence: Sequence) -> None:
    half = len(sequence.features) // 2
    told = np.eye(len(CLASSES), dtype=np.float32)[np.where(np.arange(len(sequence.features)) < half, 3, 5)]
    spoken = replace(sequence, phones=told)
    varied = vary_sequence(spoken, ("tempo",), SETTINGS, 0)
    at = len(varied.features) // 2
    assert varied.phones.shape == (len(varied.features), len(CLASSES))
    assert (varied.phones[: at - 2, 3] == 1).all()
    assert (varied.phones[at + 2 : -1, 5] == 1).all()
    hushed = hush_sequence(spoken, SETTINGS, 1, whole=False)
    rests = hushed.phones[:, CLASSES.index("rest")] == 1
    np.testing.assert_array_equal(rests, np.any(hushed.shapes != sequence.shapes, axis=(1, 2)))
    np.testing.assert_array_equal(hushed.phones[~rests], told[~rests])


def test_a_clip_without_any_speech_is_closed_throughout(sequence: Sequence) -> None:
    hushed = hush_sequence(sequence, SETTINGS, 0, whole=True)
    assert hushed.valid.all()
    assert not hushed.shapes.any()


@pytest.mark.parametrize("lengths_s", [(20.0,), (400.0,), (15.0, 25.0)], ids=str)
def test_what_is_heard_shares_the_time(toy_corpus: Callable[..., Path], tmp_path: Path, lengths_s: tuple[float, ...]) -> None:
    train, _, _ = load_sequences(Corpus.load(toy_corpus(tmp_path / "corpus", lengths_s)))
    settings = TrainSettings(augment=("gain",), variants=3, augmented_share=0.25, hushed_share=0.2)
    heard = heard_in_training(train, settings, SETTINGS)
    assert sum(s.weight for s in heard) == pytest.approx(len(train))
    assert [s.weight for s in heard[: len(train)]] == [pytest.approx(0.55)] * len(train)
    rest = heard[len(train) :]
    silent = [s for s in rest if not s.shapes.any()]
    assert sum(s.weight for s in silent) == pytest.approx(0.1 * len(train))
    hushed_s = sum(len(s.features) for s in silent) / STEP_HZ
    assert LEAST_HUSHED_S <= hushed_s < LEAST_HUSHED_S + sum(lengths_s)
    assert len({s.features.tobytes() for s in rest}) > 0.7 * len(rest)  # each is another, but digital silence


def test_nothing_is_made_that_is_not_heard(sequence: Sequence) -> None:
    settings = TrainSettings(augment=(), hushed_share=0.0)
    assert heard_in_training([sequence], settings, SETTINGS) == [sequence]
