"""Several corpora are trained on as one: the same features, each source once, each with its own split."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError, InputError
from lipwright.models.lipsync import LipSync
from lipwright.pipeline.inspect import inspect_runs
from lipwright.pipeline.pool import open_corpora, pooled
from lipwright.pipeline.sequences import load_sequences
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model

Maker = Callable[..., Path]
QUICK = TrainSettings(epochs=1, hidden=8, layers=1, members=1, bptt_s=0.5, hushed_share=0.0, refit=False, coverage=1.0)


@pytest.fixture
def two(toy_corpus: Maker, tmp_path: Path) -> list[Path]:
    """Return two corpora of other people."""
    first, second = toy_corpus(tmp_path / "first", (20.0,)), toy_corpus(tmp_path / "second", (16.0, 18.0), seed=1)
    _rename(second, "f")
    return [first, second]


def _rename(folder: Path, mark: str) -> None:
    """Let the sources of a corpus be others than those of the corpora of the same maker."""
    corpus = Corpus.load(folder)
    rows = [row | {"sha256": mark + row["sha256"][1:], "path": mark + row["path"]} for row in corpus.rows]
    with corpus.alone():
        corpus.replace(rows)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_corpora_are_the_sequences_of_both(two: list[Path]) -> None:
    apart = [load_sequences(Corpus.load(folder)) for folder in two]
    train, held_out, scale = load_sequences(*map(Corpus.load, two))
    for part, whole in enumerate((train, held_out)):
        for ours, theirs in zip(whole, [s for own in apart for s in own[part]], strict=True):
            np.testing.assert_array_equal(ours.features, theirs.features)
            np.testing.assert_array_equal(ours.valid, theirs.valid)
            np.testing.assert_array_equal(ours.sound, theirs.sound)
            np.testing.assert_allclose(ours.shapes, theirs.shapes, atol=1e-6)
    assert min(apart[0][2], apart[1][2]) <= scale <= max(apart[0][2], apart[1][2])


def test_a_model_of_two_corpora_says_so_and_they_are_only_read(two: list[Path], tmp_path: Path) -> None:
    before = [_files(folder) for folder in two]
    train_model(two, tmp_path / "run", QUICK, device="cpu")
    assert [_files(folder) for folder in two] == before
    config = LipSync.load(tmp_path / "run").config
    assert config.corpora == [str(folder) for folder in two]
    assert [s["sha256"] for s in config.sources] == [row["sha256"] for folder in two for row in Corpus.load(folder).rows]
    assert inspect_runs([tmp_path / "run"], tmp_path / "look.png")["runs"]


def test_a_source_that_is_in_two_corpora_counts_once(
    two: list[Path], tmp_path: Path, toy_corpus: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    again = toy_corpus(tmp_path / "again", (20.0,))
    alone = load_sequences(*map(Corpus.load, two))
    with caplog.at_level(logging.WARNING):
        both = load_sequences(*map(Corpus.load, [*two, again]))
    assert "1 sources are in several of the corpora" in caplog.text
    for ours, theirs in zip(both[:2], alone[:2], strict=True):
        assert len(ours) == len(theirs)
    assert both[2] == alone[2]
    corpora = open_corpora([*two, again])
    assert {corpus.folder.name for corpus, _ in pooled(corpora)[0]} == {"first", "second"}
    assert {corpus.folder.name for corpus, _ in pooled(corpora[::-1])[0]} == {"again", "second"}


def test_corpora_with_other_features_are_refused(two: list[Path], tmp_path: Path) -> None:
    head = json.loads((two[1] / "corpus.json").read_text())
    head["settings"]["features"]["level_db"] = -12.0
    (two[1] / "corpus.json").write_text(json.dumps(head))
    with pytest.raises(CorpusError, match=r"second has other features than .*first; preprocess"):
        train_model(two, tmp_path / "run", QUICK, device="cpu")
    with pytest.raises(InputError, match="no corpus is named"):
        train_model([], tmp_path / "run", QUICK, device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "second"]


def test_an_empty_corpus_is_refused_by_name(two: list[Path], tmp_path: Path, toy_corpus: Maker) -> None:
    with pytest.raises(CorpusError, match=r"empty holds nothing to train on"):
        train_model([*two, toy_corpus(tmp_path / "empty", ())], tmp_path / "run", QUICK, device="cpu")


def test_a_training_is_resumed_with_the_same_corpora_alone(two: list[Path], tmp_path: Path) -> None:
    def stop(what: str, done: int, of: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    longer = replace(QUICK, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train_model(two, tmp_path / "run", longer, device="cpu", progress=stop)
    for other in (two[:1], two[::-1]):
        with pytest.raises(InputError, match=r"other corpora \(.*first, .*second\); resume with those, in this order"):
            train_model(other, tmp_path / "run", longer, device="cpu", resume=True)
    train_model(two, tmp_path / "run", longer, device="cpu", resume=True)
    train_model(two, tmp_path / "whole", longer, device="cpu")
    resumed, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
    head = json.loads((two[1] / "corpus.json").read_text())
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace(head["settings_hash"], "0" * 12))
    with pytest.raises(InputError, match="first has been preprocessed otherwise since"):
        train_model(two, tmp_path / "run", longer, device="cpu", resume=True)


def test_a_run_that_was_begun_with_one_corpus_by_an_earlier_lipwright_goes_on(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus, run = toy_corpus(tmp_path / "corpus"), tmp_path / "run"
    train_model(corpus, run, QUICK, device="cpu")
    config = json.loads((run / "config.json").read_text())
    (config["corpus"],) = config.pop("corpora")
    (config["training"]["corpus_settings"],) = config["training"]["corpus_settings"]
    (run / "config.json").write_text(json.dumps(config))
    assert LipSync.load(run).config.corpora == [str(corpus)]
    assert train_model(corpus, run, QUICK, device="cpu", resume=True)["epochs"] == 1
