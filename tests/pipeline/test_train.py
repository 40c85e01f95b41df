"""Training is repeatable bit by bit, keeps its best epoch, and leaves a whole model or nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError, InputError, OutputExistsError
from lipwright.models.baselines import Ridge
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import LipSync
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import FIXED_STEPS, METRICS_FILE, load_sequences, train_model

Maker = Callable[..., Path]
QUICK = TrainSettings(epochs=2, hidden=12, bptt_s=0.5, streams=20)


def _weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "model.safetensors")


def test_one_seed_gives_one_model_bit_by_bit(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train_model(corpus, tmp_path / name, QUICK, device="cpu", seed=seed)
    a, b, c = (_weights(tmp_path / name) for name in "abc")
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert any(not np.array_equal(a[name], c[name]) for name in a)
    lines = [(tmp_path / name / METRICS_FILE).read_text() for name in "ab"]
    assert lines[0] == lines[1]


def test_it_learns_what_the_sound_says(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    settings = replace(QUICK, epochs=15, delay_ms=40, dropout=0.0, learning_rate=0.01, averaging=0.9)
    report = train_model(corpus, tmp_path / "run", settings, device="cpu")
    assert report["val_aperture_r"] > 0.8


def test_the_kept_epoch_is_the_best_one(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    settings = replace(QUICK, epochs=12, patience=3, learning_rate=0.03, averaging=0.0)
    report = train_model(corpus, tmp_path / "run", settings, device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS_FILE).read_text().splitlines()]
    losses = [row["val_loss"] for row in rows]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert report["epochs"] == int(np.argmin(losses)) + 1
    assert report["val_loss"] == min(losses)
    assert len(rows) in (12, report["epochs"] + 3)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["val_loss"] == report["val_loss"]
    assert config["training"]["seed"] == 0


def test_a_model_folder_is_whole_and_says_what_it_was_made_from(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (12.0, 6.0))
    report = train_model(corpus, tmp_path / "run", QUICK, device="cpu")
    assert set(report) == {"run", "epochs", "steps", "val_loss", "val_aperture_r", "elapsed_s"}
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {
        "config.json", "model.safetensors", "ridge.safetensors", METRICS_FILE,
    }  # fmt: skip
    model = LipSync.load(tmp_path / "run")
    assert {s["sha256"] for s in model.config.sources} == {row["sha256"] for row in Corpus.load(corpus).rows}
    assert model.config.features == Corpus.load(corpus).settings["features"]
    assert Ridge.load(tmp_path / "run").weights.shape[1] == model.config.components
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_output_hears_no_further_than_it_says(toy_corpus: Maker, tmp_path: Path) -> None:
    train_model(toy_corpus(tmp_path / "corpus"), tmp_path / "run", replace(QUICK, delay_ms=80), device="cpu")
    config = LipSync.load(tmp_path / "run").config
    reach_ms = config.features["window_ms"] / 2
    assert config.lookahead_ms == 80
    assert 80 - 10 < config.delay_steps * 10 + reach_ms <= 80


# Little data ----------------------------------------------------------------------------------------------------------


def test_under_ten_seconds_steps_are_fixed_and_nothing_is_kept_for_validation(
    toy_corpus: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (7.0,))
    with caplog.at_level(logging.WARNING):
        report = train_model(corpus, tmp_path / "run", replace(QUICK, bptt_s=0.1, streams=4), device="cpu")
    assert "without validation" in caplog.text
    assert "10 s" in caplog.text
    assert report["val_loss"] is None
    assert report["val_aperture_r"] is None
    assert FIXED_STEPS <= report["steps"] < 2 * FIXED_STEPS
    train, held_out, _ = load_sequences(Corpus.load(corpus))
    assert held_out == []
    assert sum(len(s.features) for s in train) >= 580  # all but the second between the two parts


def test_from_ten_seconds_on_the_end_is_kept_apart(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = Corpus.load(toy_corpus(tmp_path / "corpus", (20.0,)))
    (train,), (held_out,), _ = load_sequences(corpus)
    whole = corpus.load_clip(corpus.rows[0]["id"]).features
    assert np.array_equal(train.features, whole[:1700])
    assert np.array_equal(held_out.features, whole[1800:2000])


# What cannot be done --------------------------------------------------------------------------------------------------


def _refused(tmp_path: Path, corpus: Path, error: type[Exception], words: str, **change: float) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(error, match=words):
        train_model(corpus, tmp_path / "run", replace(QUICK, **change), device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_delay_that_cannot_be_is_refused(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (4.0,))
    _refused(tmp_path, corpus, InputError, "reach", delay_ms=5)
    _refused(tmp_path, corpus, InputError, r"longer than the longest clip", delay_ms=9000)


def test_a_corpus_without_anything_to_learn_is_refused(toy_corpus: Maker, tmp_path: Path) -> None:
    _refused(tmp_path, tmp_path / "nothing", CorpusError, r"nothing is not a corpus")
    still = toy_corpus(tmp_path / "still", moving=False)
    _refused(tmp_path, still, CorpusError, r"still.*nobody speaks")
    empty = toy_corpus(tmp_path / "empty", ())
    _refused(tmp_path, empty, CorpusError, r"empty.*nothing to train on")


def test_a_broken_clip_is_refused_by_name(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    (clip,) = (corpus / "clips").iterdir()
    clip.write_bytes(clip.read_bytes()[:5000])
    _refused(tmp_path, corpus, CorpusError, rf"{clip.name}.*run lipwright preprocess again")


def test_features_that_are_not_numbers_are_refused(toy_corpus: Maker, tmp_path: Path) -> None:
    folder = toy_corpus(tmp_path / "corpus")
    corpus = Corpus.load(folder)
    clip = corpus.load_clip(corpus.rows[0]["id"])
    clip.features[50] = np.nan
    corpus.save_clip(corpus.rows[0]["id"], clip)
    _refused(tmp_path, folder, CorpusError, "not numbers")


def test_a_device_that_is_not_there_is_refused(toy_corpus: Maker, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"abacus is not available"):
        train_model(toy_corpus(tmp_path / "corpus"), tmp_path / "run", QUICK, device="abacus")
    assert not (tmp_path / "run").exists()


def test_training_that_diverges_says_so_and_leaves_nothing(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    _refused(tmp_path, corpus, InputError, "diverged in epoch", learning_rate=1e30)


# Outputs --------------------------------------------------------------------------------------------------------------


def test_an_output_is_refused_and_replaced_on_demand(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    train_model(corpus, tmp_path / "run", QUICK, device="cpu", seed=1)
    before = _weights(tmp_path / "run")
    with pytest.raises(OutputExistsError, match="run already exists"):
        train_model(corpus, tmp_path / "run", QUICK, device="cpu", seed=2)
    assert all(np.array_equal(before[k], v) for k, v in _weights(tmp_path / "run").items())
    train_model(corpus, tmp_path / "run", QUICK, device="cpu", seed=2, force=True)
    assert any(not np.array_equal(before[k], v) for k, v in _weights(tmp_path / "run").items())


def test_a_folder_of_other_things_is_never_replaced(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "holiday.mp4").write_bytes(b"mine")
    for folder in (tmp_path / "videos", corpus):
        before = sorted(folder.rglob("*"))
        with pytest.raises(InputError, match="choose another --out"):
            train_model(corpus, folder, QUICK, device="cpu", force=True)
        assert sorted(folder.rglob("*")) == before


def test_interrupted_training_leaves_nothing(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")

    def interrupt(what: str, done: int, of: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_model(corpus, tmp_path / "run", QUICK, device="cpu", progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]
