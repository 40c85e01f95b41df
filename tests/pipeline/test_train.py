"""Training is repeatable bit by bit, keeps its best epoch, and leaves a whole model or nothing."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from lipwright.data.corpus import Corpus, settings_hash
from lipwright.data.errors import CorpusError, InputError, OutputExistsError
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.data.splits import SPLIT_GAP_S
from lipwright.models.baselines import Ridge
from lipwright.models.errors import ModelError
from lipwright.models.lipsync import BASE, LipSync
from lipwright.models.metrics import lag_ms
from lipwright.models.recurrent import CELLS, Ensemble
from lipwright.pipeline.course import FIT_FILE, LEAST_JUDGED_S, Course, build_model
from lipwright.pipeline.fit import LEAST_SHARE, Fit
from lipwright.pipeline.processes import Team
from lipwright.pipeline.record import METRICS_FILE, Record
from lipwright.pipeline.sequences import apertures, arrays, load_sequences
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.start import Start, starting_point
from lipwright.pipeline.train import train_model

Maker = Callable[..., Path]
QUICK = TrainSettings(
    epochs=2, hidden=12, layers=1, bptt_s=0.5, streams=20, members=1, mixup=0.0, augment=(), hushed_share=0.0, refit=False,
    velocity_weight=0.0, opening_weight=0.0, closure_weight=0.0,
)  # fmt: skip
"""One plain network."""


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


def test_the_kept_epoch_is_the_best_one_that_was_trained_long_enough(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (45.0,))
    settings = replace(QUICK, epochs=12, patience=3, learning_rate=0.03, averaging=0.0)
    report = train_model(corpus, tmp_path / "run", settings, device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS_FILE).read_text().splitlines()]
    scores = [row["val_aperture_r"] for row in rows]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    least = math.floor(LEAST_SHARE * 12)
    late = scores[least - 1 :]
    assert report["epochs"] == int(np.argmax(late)) + least
    assert report["val_aperture_r"] == max(late)
    assert len(rows) in (12, report["epochs"] + 3)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["val_loss"] == report["val_loss"]
    assert config["training"]["seed"] == 0


def test_a_model_folder_is_whole_and_says_what_it_was_made_from(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (12.0, 6.0))
    (tmp_path / f".run.{2**30}-1.partial").mkdir()  # of a killed process
    report = train_model(corpus, tmp_path / "run", QUICK, device="cpu")
    assert set(report) == {"run", "init", "epochs", "steps", "val_loss", "val_aperture_r", "elapsed_s"}
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


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("direction", "delay_ms"), [("forward", 40.0), ("whole", None), ("both", 60.0)])
def test_every_cell_learns_in_every_direction(
    toy_corpus: Maker, tmp_path: Path, cell: str, direction: str, delay_ms: float | None
) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    rate = 0.002 if cell == "rnn-relu" else 0.01  # what is let grow grows fast
    settings = replace(
        QUICK, cell=cell, direction=direction, delay_ms=delay_ms,
        epochs=10, hidden=16, dropout=0.0, input_dropout=0.0, learning_rate=rate, averaging=0.9,
    )  # fmt: skip
    report = train_model(corpus, tmp_path / "run", settings, device="cpu")
    assert report["val_aperture_r"] > 0.7
    config = LipSync.load(tmp_path / "run").config
    assert (config.cell, config.lookahead_ms) == (cell, delay_ms)
    assert config.direction == ("forward" if direction == "forward" else "both")
    assert config.delay_steps == (0 if settings.delay_ms is None else (settings.delay_ms - 12.5) // 10)


def test_by_default_the_past_waits_200_ms_and_both_hear_400_ms_ahead() -> None:
    assert TrainSettings(direction="forward").lookahead_ms == 200
    assert TrainSettings(direction="both").lookahead_ms == 400
    assert TrainSettings(direction="whole").lookahead_ms is None
    assert TrainSettings(direction="both", delay_ms=90.0).lookahead_ms == 90


def test_the_mouth_is_described_by_its_principal_components(toy_corpus: Maker, tmp_path: Path) -> None:
    from sklearn.decomposition import PCA

    corpus = Corpus.load(toy_corpus(tmp_path / "corpus", (12.0, 14.0)))
    rng = np.random.default_rng(0)
    for row in corpus.rows:  # mouths of full rank, the directions far enough apart to be told
        clip = corpus.load_clip(row["id"])
        turn = np.linalg.qr(np.random.default_rng(1).normal(size=(120, 120)))[0]
        moved = rng.normal(size=(len(clip.mouth), 120)) * 0.02 * 0.9 ** np.arange(120) @ turn
        corpus.save_clip(row["id"], replace(clip, mouth=clip.mouth + moved.reshape(-1, 40, 3).astype(np.float32)))
    train, _, scale = load_sequences(corpus)
    model = build_model(train, FeatureSettings(), TrainSettings(), scale)
    shapes = np.concatenate([s.shapes[s.valid] for s in train]).reshape(-1, 120)
    whole = PCA(20, svd_solver="full").fit(shapes)
    np.testing.assert_allclose(model.pca_mean, whole.mean_, atol=1e-5)
    same = np.sign((model.pca_components.numpy() * whole.components_).sum(1))
    np.testing.assert_allclose(same[:, None] * model.pca_components.numpy(), whole.components_, atol=1e-3)
    greatest = np.abs(model.pca_components.numpy()).argmax(1)
    assert (model.pca_components.numpy()[np.arange(20), greatest] > 0).all()
    heard, said = np.concatenate([s.features for s in train]), np.concatenate([s.blendshapes[s.valid] for s in train])
    np.testing.assert_allclose(model.feature_mean, heard.mean(0, dtype=float), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.feature_std, np.maximum(heard.std(0, dtype=float), 1e-3), rtol=1e-4)
    np.testing.assert_allclose(model.blendshape_std, said.std(0, dtype=float), rtol=1e-4)


# Backpropagation through time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bptt_s", [17.0, 1000.0, math.inf])
@pytest.mark.parametrize("cell", ["rnn-tanh", "lstm"])
def test_truncation_longer_than_the_clip_is_the_full_gradient(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, bptt_s: float
) -> None:
    monkeypatch.setattr("lipwright.pipeline.fit.LEAST_STEPS", 1)
    corpus = Corpus.load(toy_corpus(tmp_path / "corpus"))
    settings = replace(
        QUICK, cell=cell, bptt_s=bptt_s, epochs=1, streams=20, delay_ms=40, dropout=0.0, input_dropout=0.0, clip_norm=1e9
    )
    train_model(corpus.folder, tmp_path / "run", settings, device="cpu", seed=5)
    (sequence,), _, mean_scale = load_sequences(corpus)
    torch.manual_seed(5)
    model = build_model([sequence], FeatureSettings(), settings, mean_scale)
    x, y, valid = (torch.from_numpy(a) for a in arrays(model, sequence))
    error = (model.network(x[None])[0][0, 0] - y) ** 2
    p = model.config.components
    step = error[:, :p].mean(-1) + settings.blendshape_weight * error[:, p:].mean(-1)
    (step * valid).sum().div(valid.sum()).backward()
    saved = load_file(tmp_path / "run" / FIT_FILE)
    for k, weight in enumerate(model.network.parameters()):
        assert weight.grad is not None
        # One step was taken, so Adam's first moment is a tenth of the gradient.
        assert saved[f"search.adam.{k}.step"] == 1
        np.testing.assert_allclose(10 * saved[f"search.adam.{k}.exp_avg"], weight.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("bptt_s", [0.01, 0.0, -1.0, math.nan])
def test_a_window_of_one_step_is_refused(toy_corpus: Maker, tmp_path: Path, bptt_s: float) -> None:
    _refused(tmp_path, toy_corpus(tmp_path / "corpus"), InputError, "window of one step.*0.02 or more", bptt_s=bptt_s)


# Going on -------------------------------------------------------------------------------------------------------------


FULL = replace(
    QUICK, epochs=4, learning_rate=0.01, members=2, mixup=0.4, hushed_share=0.1, refit=True,
    velocity_weight=1.0, opening_weight=0.5, closure_weight=1.0,
)  # fmt: skip
"""All that a training has."""


def _stop_at(stage: str, epoch: int) -> Callable[[str, int, int], None]:
    def progress(what: str, done: int, of: int) -> None:
        if (what, done) == (stage, epoch):
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    ("change", "stage", "epoch"),
    [
        ({}, "train", 1),
        ({}, "train", 4),
        ({"augment": ("noise", "tempo")}, "train on all", 1),
        ({"direction": "forward", "refit": False}, "train", 2),
        ({"delay_ms": 60.0, "cell": "gru", "members": 1}, "train", 3),
    ],
)
def test_a_resumed_training_equals_one_that_never_stopped(
    toy_corpus: Maker, tmp_path: Path, change: dict[str, Any], stage: str, epoch: int
) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    settings = replace(FULL, **change)
    whole = train_model(corpus, tmp_path / "whole", settings, device="cpu", seed=7)
    with pytest.raises(KeyboardInterrupt, match="parts holds the best so far: go on with --resume"):
        train_model(corpus, tmp_path / "parts", settings, device="cpu", seed=7, progress=_stop_at(stage, epoch))
    assert LipSync.load(tmp_path / "parts").config.training["stage"] == ("search" if stage == "train" else "refit")
    parts = train_model(corpus, tmp_path / "parts", settings, device="cpu", seed=7, resume=True)
    assert {k: v for k, v in parts.items() if k not in ("run", "elapsed_s")} == {
        k: v for k, v in whole.items() if k not in ("run", "elapsed_s")
    }
    for name in ("model.safetensors", FIT_FILE, "ridge.safetensors"):
        a, b = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[k], b[k]) for k in a)
    assert (tmp_path / "whole" / METRICS_FILE).read_text() == (tmp_path / "parts" / METRICS_FILE).read_text()


def test_a_training_stopped_before_its_first_epoch_leaves_nothing(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = toy_corpus(tmp_path / "corpus")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lipwright.pipeline.fit.Fit.train_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        train_model(corpus, tmp_path / "run", QUICK, device="cpu")
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]


def test_a_training_that_has_ended_has_nothing_to_go_on_with(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    first = train_model(corpus, tmp_path / "run", QUICK, device="cpu")
    before = _weights(tmp_path / "run")
    again = train_model(corpus, tmp_path / "run", QUICK, device="cpu", resume=True)
    assert again["epochs"] == first["epochs"]
    assert all(np.array_equal(before[k], v) for k, v in _weights(tmp_path / "run").items())
    assert len((tmp_path / "run" / METRICS_FILE).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden": 13}, "trained with hidden 12, not 13"),
        ({"cell": "gru"}, "trained with cell lstm, not gru"),
        ({"direction": "both", "delay_ms": 200.0}, "trained with direction forward, not both"),
        ({"delay_ms": 150.0}, "trained with --delay-ms 200, not --delay-ms 150; resume"),
        ({"direction": "whole"}, "trained with direction forward, not both"),
        ({"layers": 2}, "trained with layers 1, not 2"),
        ({"components": 5}, "trained with components 20, not 5"),
        ({"members": 3}, "trained with members 1, not 3"),
        ({"epochs": 9}, "planned its learning rate for 2 epochs; resume with --epochs 2"),
    ],
)
def test_another_architecture_is_not_resumed(toy_corpus: Maker, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    corpus, begun = toy_corpus(tmp_path / "corpus"), replace(QUICK, direction="forward")
    train_model(corpus, tmp_path / "run", begun, device="cpu")
    before = _weights(tmp_path / "run")
    with pytest.raises(InputError, match=words) as caught:
        train_model(corpus, tmp_path / "run", replace(begun, **change), device="cpu", resume=True)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(before[k], v) for k, v in _weights(tmp_path / "run").items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "run"]


def test_what_cannot_be_resumed_says_why(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    with pytest.raises(InputError, match="run holds no training to resume"):
        train_model(corpus, tmp_path / "run", QUICK, device="cpu", resume=True)
    train_model(corpus, tmp_path / "run", QUICK, device="cpu")
    other = toy_corpus(tmp_path / "other", (20.0, 20.0))
    with pytest.raises(InputError, match="trained on another corpus"):
        train_model(other, tmp_path / "run", QUICK, device="cpu", resume=True)
    saved = tmp_path / "run" / FIT_FILE
    saved.write_bytes(saved.read_bytes()[:999])
    with pytest.raises(InputError, match=f"{FIT_FILE} is missing or broken"):
        train_model(corpus, tmp_path / "run", QUICK, device="cpu", resume=True)
    Corpus.load(corpus).add([row | {"sha256": "1" * 64, "path": "moved.mp4"} for row in Corpus.load(corpus).rows])
    with pytest.raises(InputError, match=r"corpus has changed since .*run was begun \(videos added, .*\); train anew"):
        train_model(corpus, tmp_path / "run", QUICK, device="cpu", resume=True)
    assert LipSync.load(tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_a_row_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    record, written = Record(tmp_path), []

    def add(tag: str, *_: Any) -> None:
        signal.raise_signal(number)
        written.append(tag)

    monkeypatch.setattr(record._board, "add_scalar", add)
    before = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            record.epoch({"stage": "search", "epoch": 1, "train_loss": 0.5, "val_loss": None, "gradient_norm": 0.1})
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
    assert written == ["search/train_loss", "search/gradient_norm"]
    assert len((tmp_path / METRICS_FILE).read_text().splitlines()) == 1
    record.close()


# Starting from another run --------------------------------------------------------------------------------------------


def test_a_training_starts_from_what_another_has_learned(toy_corpus: Maker, tmp_path: Path) -> None:
    first, second = toy_corpus(tmp_path / "first", (20.0, 15.0)), toy_corpus(tmp_path / "second", (16.0,), seed=1)
    settings = replace(QUICK, epochs=8, learning_rate=0.01, averaging=0.9)
    train_model(first, tmp_path / "base", replace(settings, cell="gru", members=2, delay_ms=60.0), device="cpu")
    still = replace(settings, epochs=1, learning_rate=1e-12)
    train_model(second, tmp_path / "run", still, init=tmp_path / "base", device="cpu")
    base, run = LipSync.load(tmp_path / "base"), LipSync.load(tmp_path / "run")
    for ours, theirs in zip(run.network.each, base.network.each, strict=True):
        torch.testing.assert_close(ours.past.state_dict(), theirs.past.state_dict(), atol=1e-6, rtol=0)
    (held_out,) = load_sequences(Corpus.load(second))[1]
    before, after = (np.square(m.predict(held_out.features) - held_out.shapes).mean() for m in (base, run))
    assert after <= before  # the read-out alone has learned
    assert (run.config.cell, run.config.members, run.config.lookahead_ms) == ("gru", 2, 60)
    assert [s["sha256"] for s in run.config.sources] == [row["sha256"] for row in Corpus.load(second).rows]
    assert run.config.training["settings"]["epochs"] == 1


@pytest.mark.parametrize(("frames", "lead"), [(1, -4), (-1, 4)])
def test_a_training_finds_how_early_a_mouth_moves_and_keeps_to_it(
    toy_corpus: Maker, tmp_path: Path, frames: int, lead: int
) -> None:
    settings = replace(QUICK, epochs=8, learning_rate=0.01, averaging=0.9, direction="both", delay_ms=100.0, hushed_share=0.0)
    train_model(toy_corpus(tmp_path / "first", (30.0,)), tmp_path / "base", settings, device="cpu")
    second = Corpus.load(toy_corpus(tmp_path / "second", (30.0,), seed=1))
    clip = second.load_clip(second.rows[0]["id"])
    second.save_clip(second.rows[0]["id"], replace(clip, mouth=np.roll(clip.mouth, frames, axis=0)))  # at 25 a second
    train_model(second.folder, tmp_path / "run", replace(settings, epochs=4), init=tmp_path / "base", device="cpu")
    base, run = LipSync.load(tmp_path / "base"), LipSync.load(tmp_path / "run")
    assert (base.config.lead_steps, run.config.lead_steps) == (0, lead)
    assert run.config.delay_steps == base.config.delay_steps
    train, held_out, _ = load_sequences(second)
    lags = [abs(lag_ms(*apertures(m, train + held_out)) or 0.0) for m in (base, run)]
    assert lags[0] > 30
    assert lags[1] < 1000 / STEP_HZ  # trained on, it stays where it was put


def test_what_cannot_be_started_from_is_refused(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    with pytest.raises(ModelError, match="nowhere is not a model folder"):
        train_model(corpus, tmp_path / "run", QUICK, init=tmp_path / "nowhere", device="cpu")
    train_model(corpus, tmp_path / "base", QUICK, device="cpu")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["features"]["level_db"] = -12.0
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorpusError, match="other features than the model of --init"):
        train_model(corpus, tmp_path / "run", QUICK, init=tmp_path / "base", device="cpu")
    assert not (tmp_path / "run").exists()


BASED = replace(TrainSettings(), members=1, epochs=2, refit=True, hushed_share=0.0)
"""Built like the base model."""


def test_by_default_a_training_starts_from_the_base_model(toy_corpus: Maker, tmp_path: Path) -> None:
    report = train_model(toy_corpus(tmp_path / "corpus"), tmp_path / "run", replace(BASED, learning_rate=1e-12), device="cpu")
    assert report["init"] == "base"
    run, base = LipSync.load(tmp_path / "run"), LipSync.load(BASE)
    torch.testing.assert_close(run.feature_mean, base.feature_mean)
    torch.testing.assert_close(run.network.each[0].past.state_dict(), base.network.each[0].past.state_dict(), atol=1e-6, rtol=0)
    assert (run.config.blendshapes, run.config.phones) == (52, 0)
    assert run.config.training["init"] == "base"


OTHERWISE = [{"cell": "gru"}, {"hidden": 20}, {"layers": 1}, {"layer_norm": True}, {"direction": "forward"}]


@pytest.mark.parametrize("change", OTHERWISE, ids=str)
def test_where_the_base_model_is_built_otherwise_a_training_starts_from_nothing(
    toy_corpus: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    asked = replace(TrainSettings(), **change)
    with caplog.at_level(logging.INFO):
        assert starting_point("base", asked, Corpus.load(toy_corpus(tmp_path / "corpus"))) == (asked, Start())
    assert f"another {next(iter(change))} than asked for" in caplog.text


@pytest.mark.parametrize("change", [{"direction": "whole"}, {"delay_ms": 120.0}, {"members": 3}])
def test_the_base_model_hears_as_far_as_it_is_let(toy_corpus: Maker, tmp_path: Path, change: dict[str, Any]) -> None:
    corpus, asked = Corpus.load(toy_corpus(tmp_path / "corpus")), replace(TrainSettings(), **change)
    settings, start = starting_point("base", asked, corpus)
    assert (settings, start.name) == (asked, "base")
    course = Course([corpus], settings, 0, start, torch.device("cpu"), Team())
    config = course.build(course.train).config
    assert (config.lookahead_ms, config.members) == (settings.lookahead_ms, settings.members)


def test_a_few_seconds_of_validation_choose_nothing(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus", ((LEAST_JUDGED_S + SPLIT_GAP_S) / 0.15 - 1,))
    report = train_model(corpus, tmp_path / "run", replace(QUICK, epochs=8, patience=2, learning_rate=0.1), device="cpu")
    assert report["epochs"] == 8
    assert report["val_aperture_r"] is not None


def test_where_no_epoch_is_better_the_base_model_is_kept(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(fit: Fit, _: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            for weight in fit.model.network.parameters():
                weight.normal_()
        return 1.0, 1.0

    monkeypatch.setattr(Fit, "train_epoch", spoil)
    report = train_model(toy_corpus(tmp_path / "corpus", (45.0,)), tmp_path / "run", BASED, device="cpu")
    assert report["epochs"] == 0
    kept, base = LipSync.load(tmp_path / "run").network.each[0], LipSync.load(BASE).network.each[0]
    torch.testing.assert_close(kept.past.state_dict(), base.past.state_dict())


def test_a_run_is_resumed_from_what_it_started_from(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    train_model(corpus, tmp_path / "run", BASED, init="none", device="cpu")
    with pytest.raises(InputError, match="started with --init none, not base"):
        train_model(corpus, tmp_path / "run", BASED, device="cpu", resume=True)


def test_a_corpus_that_was_made_otherwise_since_is_not_resumed_with(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    train_model(corpus, tmp_path / "run", QUICK, init="none", device="cpu")
    opened = Corpus.load(corpus)
    for row in opened.rows:
        row["settings_hash"] = settings_hash(opened.settings | {"tracker": "another"})
    opened.add(list(opened.rows))
    head = json.loads((corpus / "corpus.json").read_text())
    head["settings"]["tracker"] = "another"
    (corpus / "corpus.json").write_text(json.dumps(head))
    with pytest.raises(InputError, match="has been preprocessed otherwise since"):
        train_model(corpus, tmp_path / "run", QUICK, init="none", device="cpu", resume=True)


@pytest.mark.parametrize(("stage", "epoch"), [("train", 1), ("train on all", 1)])
def test_a_training_from_the_base_model_is_resumed_bit_by_bit(
    toy_corpus: Maker, tmp_path: Path, stage: str, epoch: int
) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (14.0,))
    with pytest.raises(KeyboardInterrupt):
        train_model(corpus, tmp_path / "parts", BASED, device="cpu", progress=_stop_at(stage, epoch))
    train_model(corpus, tmp_path / "parts", BASED, device="cpu", resume=True)
    train_model(corpus, tmp_path / "whole", BASED, device="cpu")
    parts, whole = _weights(tmp_path / "parts"), _weights(tmp_path / "whole")
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_a_start_that_has_changed_is_not_resumed_from(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    for run, seed in (("first", 0), ("second", 1)):
        train_model(corpus, tmp_path / run, QUICK, device="cpu", seed=seed)
    train_model(corpus, tmp_path / "run", QUICK, init=tmp_path / "first", device="cpu")
    shutil.rmtree(tmp_path / "first")
    (tmp_path / "second").rename(tmp_path / "first")
    with pytest.raises(InputError, match="started from has changed"):
        train_model(corpus, tmp_path / "run", QUICK, init=tmp_path / "first", device="cpu", resume=True)


def test_a_channel_is_a_constant_of_each_stream_on_what_is_no_difference(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[torch.Tensor] = []
    forward = Ensemble.forward

    def listen(self: Ensemble, x: torch.Tensor, *rest: Any) -> Any:
        if self.training:
            heard.append(x.clone())
        return forward(self, x, *rest)

    monkeypatch.setattr(Ensemble, "forward", listen)
    corpus = toy_corpus(tmp_path / "corpus")
    for run, channel in (("without", 0.0), ("with", 0.5)):
        train_model(corpus, tmp_path / run, replace(QUICK, epochs=1, channel_noise=channel), device="cpu")
    (plain, *_), (shifted, *_) = heard[: len(heard) // 2], heard[len(heard) // 2 :]
    added = shifted - plain
    torch.testing.assert_close(added[..., 14:], torch.zeros_like(added[..., 14:]))
    torch.testing.assert_close(added[..., :14], added[:, :1, :14].expand_as(added[..., :14]), atol=1e-5, rtol=0)
    assert 0.4 < added[:, 0, :14].std() < 0.6


def test_four_seconds_are_enough(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (4.0,))
    report = train_model(corpus, tmp_path / "run", BASED, device="cpu")
    assert report["init"] == "base"
    x = load_sequences(Corpus.load(corpus))[0][0].features
    assert np.isfinite(LipSync.load(tmp_path / "run").predict(x)).all()


# What a run leaves to read --------------------------------------------------------------------------------------------


def test_a_run_can_be_watched(toy_corpus: Maker, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_model(toy_corpus(tmp_path / "corpus"), tmp_path / "run", replace(FULL, epochs=2), device="cpu")
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS_FILE).read_text().splitlines()]
    said = [(event.step, event.value) for event in events.Scalars("search/val_aperture_r")]
    assert said == [(row["epoch"], pytest.approx(row["val_aperture_r"])) for row in rows if row["stage"] == "search"]
    assert len(events.Scalars("refit/train_loss")) == sum(row["stage"] == "refit" for row in rows)
    (film,), (figure,) = events.Images("held_out/mouth"), events.Images("held_out/aperture")
    assert film.encoded_image_string[:6] == b"GIF89a"
    assert figure.encoded_image_string[:4] == b"\x89PNG"


# Little data ----------------------------------------------------------------------------------------------------------


def test_under_ten_seconds_all_epochs_are_trained_and_nothing_is_kept_for_validation(
    toy_corpus: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (7.0,))
    with caplog.at_level(logging.WARNING):
        report = train_model(corpus, tmp_path / "run", replace(QUICK, epochs=7), device="cpu")
    assert "too little footage to keep some for validation: all 7 epochs are trained" in caplog.text
    assert report["val_loss"] is None
    assert report["val_aperture_r"] is None
    assert report["epochs"] == 7
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


def _refused(tmp_path: Path, corpus: Path, error: type[Exception], words: str, **change: Any) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(error, match=words):
        train_model(corpus, tmp_path / "run", replace(QUICK, **change), device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_delay_that_cannot_be_is_refused(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus", (4.0,))
    _refused(tmp_path, corpus, InputError, "reach", delay_ms=5)
    _refused(tmp_path, corpus, InputError, "choose one of them", direction="whole", delay_ms=300)
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


def test_a_mouth_that_is_not_numbers_is_refused(toy_corpus: Maker, tmp_path: Path) -> None:
    folder = toy_corpus(tmp_path / "corpus")
    corpus = Corpus.load(folder)
    clip = corpus.load_clip(corpus.rows[0]["id"])
    clip.mouth[50, 3] = np.nan
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


def test_a_signal_keeps_what_was_trained(toy_corpus: Maker, tmp_path: Path) -> None:
    corpus = toy_corpus(tmp_path / "corpus")

    def interrupt(what: str, done: int, of: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_model(corpus, tmp_path / "run", QUICK, device="cpu", progress=interrupt)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "run"]
    assert LipSync.load(tmp_path / "run").config.training["epochs"] == 1
