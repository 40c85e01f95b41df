"""What `inspect` says of a network is what the network does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from lipwright.data.errors import CorpusError, InputError, OutputExistsError
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import LipSync
from lipwright.pipeline.inspect import REACH_STEPS, inspect_runs
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model

Maker = Callable[..., Path]
QUICK = TrainSettings(
    epochs=6, hidden=12, streams=20, bptt_s=0.5, delay_ms=120.0, dropout=0.0, learning_rate=0.01, averaging=0.9,
    layers=1, members=1, mixup=0.0, augment=(), hushed_share=0.0, velocity_weight=0.0, closure_weight=0.0, refit=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(toy_corpus: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_corpus(tmp_path_factory.mktemp("inspect") / "corpus", (20.0, 16.0))


@pytest.fixture(scope="module")
def runs(corpus: Path) -> dict[str, Path]:
    """Return a run of each direction."""
    made = {}
    for name, change in {
        "forward": {"direction": "forward"}, "bounded": {}, "whole": {"direction": "whole", "delay_ms": None},
    }.items():  # fmt: skip
        made[name] = corpus.parent / name
        train_model(corpus, made[name], replace(QUICK, **change), device="cpu")
    return made


def test_every_run_is_looked_into(runs: dict[str, Path], tmp_path: Path) -> None:
    result = inspect_runs(list(runs.values()), tmp_path / "look.png")
    assert [look["run"] for look in result["runs"]] == [str(run) for run in runs.values()]
    assert [look["direction"] for look in result["runs"]] == ["forward", "both", "both"]
    for look in result["runs"]:
        assert len(look["back_ms"]) == len(look["gradient"])
        assert np.diff(look["back_ms"]).tolist() == [10] * (len(look["back_ms"]) - 1)
        assert np.isfinite(look["gradient"]).all()
        assert look["gradient"][0] > 0
        assert len(look["lag_ms"]) == len(look["said"]) == len(look["measured"])
    assert len(result["runs"][0]["gradient"]) == REACH_STEPS + 10 + 1  # the past goes on while the output waits
    assert len(result["runs"][1]["gradient"]) == REACH_STEPS + 1


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_figure_of_each_kind(runs: dict[str, Path], tmp_path: Path, kind: str) -> None:
    (tmp_path / f".look.{kind}.{2**30}-1.partial").touch()  # of a killed process
    inspect_runs([runs["forward"]], tmp_path / f"look.{kind}")
    head = (tmp_path / f"look.{kind}").read_bytes()[:200]
    assert {"png": b"PNG", "svg": b"<svg", "pdf": b"%PDF"}[kind] in head or b"<?xml" in head
    assert [p.name for p in tmp_path.iterdir()] == [f"look.{kind}"]


def test_a_loudness_that_opens_the_mouth_is_answered_after_the_delay(toy_corpus: Maker, tmp_path: Path) -> None:
    from lipwright.data.corpus import Corpus

    opened = Corpus.load(toy_corpus(tmp_path / "corpus"))
    (row,) = opened.rows
    clip = opened.load_clip(row["id"])
    clip.features[:, 13] += clip.features[:, 0]  # log energy
    opened.save_clip(row["id"], clip)
    for delay_ms, steps in ((30.0, 1), (200.0, 18)):
        run = tmp_path / f"run{steps}"
        train_model(opened.folder, run, replace(QUICK, delay_ms=delay_ms, epochs=12), device="cpu")
        (look,) = inspect_runs([run], tmp_path / "look.png", force=True)["runs"]
        assert look["learned_delay_ms"] == pytest.approx(10 * steps, abs=25)
        assert look["mouth_lag_ms"] == pytest.approx(0, abs=10)
        assert max(look["said"]) > 0.6


def test_a_gate_that_forgets_shortens_the_flow(runs: dict[str, Path], tmp_path: Path) -> None:
    fades = []
    for bias in (-4.0, 0.0, 4.0):
        model = LipSync.load(runs["forward"])
        hidden = model.config.hidden
        with torch.no_grad():
            model.network.members[0].past.cells[0].bias_ih_l0[hidden : 2 * hidden] += bias  # the forget gate
        model.save(tmp_path / "run")
        (look,) = inspect_runs([tmp_path / "run"], tmp_path / "look.png", force=True)["runs"]
        fades.append(look["gradient"][100] / look["gradient"][0])
    assert all(a * 3 < b for a, b in pairwise(fades))


def test_the_seed_chooses_the_windows(runs: dict[str, Path], tmp_path: Path) -> None:
    flows = [
        inspect_runs([runs["forward"]], tmp_path / "look.png", seed=seed, force=True)["runs"][0]["gradient"]
        for seed in (1, 1, 2)
    ]
    assert flows[0] == flows[1]
    assert flows[0] != flows[2]


# What cannot be done --------------------------------------------------------------------------------------------------


def test_what_cannot_be_inspected_says_why(runs: dict[str, Path], toy_corpus: Maker, tmp_path: Path) -> None:
    run = runs["forward"]
    with pytest.raises(InputError, match=r"look\.jpg names no kind of figure; use \.png"):
        inspect_runs([run], tmp_path / "look.jpg")
    with pytest.raises(ModelError, match="gone is not a model folder"):
        inspect_runs([run, tmp_path / "gone"], tmp_path / "look.png")
    with pytest.raises(CorpusError, match="nothing is not a corpus"):
        inspect_runs([run], tmp_path / "look.png", corpus=tmp_path / "nothing")
    short = toy_corpus(tmp_path / "short", (1.4,))
    with pytest.raises(InputError, match=r"longest clip has 1\.\d\d s, too short"):
        inspect_runs([runs["whole"]], tmp_path / "look.png", corpus=short)
    (tmp_path / "look.png").write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match=r"look\.png already exists"):
        inspect_runs([run], tmp_path / "look.png")
    assert (tmp_path / "look.png").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["look.png", "short"]


def test_a_model_that_does_not_know_its_corpus_asks_for_one(runs: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    model = LipSync.load(runs["forward"])
    model.config = replace(model.config, corpora=[])
    model.save(tmp_path / "run")
    with pytest.raises(InputError, match="does not say what it was trained on; pass --corpus"):
        inspect_runs([tmp_path / "run"], tmp_path / "look.png")
    assert inspect_runs([tmp_path / "run"], tmp_path / "look.png", corpus=corpus)["runs"]
