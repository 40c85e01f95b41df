"""The memory of a training does not grow with its corpus: what does stands on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lipwright.data.corpus import Corpus
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.pipeline import fit
from lipwright.pipeline import sequences as module
from lipwright.pipeline.course import FIT_FILE
from lipwright.pipeline.sequences import an_hour, heard_in_training, load_sequences
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model

Maker = Callable[..., Path]

MOST_MB = 40
"""Anonymous memory that many minutes of footage may take beyond what one minute takes; the arrays of ten are 100 MB."""

CHILD = """
import sys
from lipwright.pipeline import sequences
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model
sequences.MOST_STEPS, sequences.LEAST_HUSHED_S = 6000, 10.0
train_model(sys.argv[1], sys.argv[2], TrainSettings({}), init="{}", device="cpu")
"""

SMALL = 'epochs=1, hidden=8, layers=1, members=1, streams=4, coverage=0.001, hushed_share=0.0, direction="forward"'


def repeated(corpus: Path, folder: Path, times: int) -> Path:
    """Make a corpus whose every clip is there many times, by hard links, each as a source of its own."""
    one, many = Corpus.load(corpus), Corpus.create(folder, FeatureSettings())
    rows = []
    for k in range(times):
        for row in one.usable:
            name = f"{k:06x}{row['id'][6:]}"
            os.link(one.clip_path(row["id"]), many.clip_path(name))
            mark = {"id": name, "sha256": f"{k:06x}{row['sha256'][6:]}", "path": f"{k}-{row['path']}", "speaker": str(k)}
            rows.append(row | mark)
    many.add(rows)
    return folder


def anonymous_mb(corpus: Path, run: Path, cache: Path, child_text: str) -> float:
    """Train, and return the peak of memory that is no file's."""
    env = os.environ | {"LIPWRIGHT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", child_text, str(corpus), str(run)], env=env)
    peak_kb = 0
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status").read_text()
        peak_kb = max([peak_kb, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.005)
    assert child.returncode == 0
    return peak_kb / 1024


@pytest.mark.parametrize(
    ("settings", "init", "times"), [(SMALL, "none", 25), ("epochs=1, coverage=0.001", "base", 10)], ids=["small", "default"]
)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked at in /proc")
def test_memory_does_not_grow_with_the_corpus(toy_corpus: Maker, tmp_path: Path, settings: str, init: str, times: int) -> None:
    short = toy_corpus(tmp_path / "short", (20.0, 20.0, 20.0))
    long = repeated(short, tmp_path / "long", times)
    cache = tmp_path / "cache"
    child = CHILD.format(settings, init)
    before, after = (anonymous_mb(folder, tmp_path / f"{folder.name}.run", cache, child) for folder in (short, long))
    assert after - before < MOST_MB
    assert list(cache.iterdir()) == []


def test_of_a_long_corpus_so_much_is_varied_and_has_its_share(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STEPS", 20 * STEP_HZ)
    monkeypatch.setattr(module, "LEAST_HUSHED_S", 5.0)
    lengths = (8.0, 6.0, 9.0, 8.0, 7.0, 8.0, 9.0)
    train, _, _ = load_sequences(Corpus.load(toy_corpus(tmp_path / "corpus", lengths)))
    settings = TrainSettings(augment=("gain",), variants=2, augmented_share=0.25, hushed_share=0.2)
    heard = heard_in_training(train, settings, FeatureSettings())
    plain, rest = heard[: len(train)], heard[len(train) :]
    steps = sum(len(s.features) for s in train)
    chosen = an_hour(train)
    assert 1 < len(chosen) < len(train)
    assert len(rest) == len(chosen) * (2 + 2)
    silent = [s for s in rest if not s.shapes.any()]

    def share(part: list[module.Sequence]) -> float:
        return sum(s.weight * len(s.features) for s in part) / steps

    assert share(plain) == pytest.approx(0.55)
    assert share(silent) == pytest.approx(0.1)
    assert share(heard) == pytest.approx(1.0)


def test_an_hour_of_a_long_corpus_stands_for_all_of_it(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = (8.0, 6.0, 9.0, 8.0, 7.0, 8.0, 9.0, 6.0)
    train, _, _ = load_sequences(Corpus.load(toy_corpus(tmp_path / "corpus", lengths)))
    train = [replace(s, weight=0.5) for s in train]
    steps = sum(len(s.features) for s in train)
    assert an_hour(train) is train
    for most in (1, 2000, steps - 1):
        monkeypatch.setattr(module, "MOST_STEPS", most)
        drawn = an_hour(train)
        length = sum(len(s.features) for s in drawn)
        assert most <= length < most + max(len(s.features) for s in train)
        assert sum(s.weight * len(s.features) for s in drawn) == pytest.approx(0.5 * steps)
        places = [next(k for k, s in enumerate(train) if s.features is d.features) for d in drawn]
        assert places == sorted(set(places))  # each once, as they lie on disk
        assert [s.features is t.features for s, t in zip(drawn, an_hour(train), strict=True)] == [True] * len(drawn)


def test_drawn_in_portions_an_epoch_is_the_same(toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = toy_corpus(tmp_path / "corpus")
    settings = TrainSettings(
        epochs=2, hidden=8, layers=1, members=1, bptt_s=0.4, streams=17, mixup=0.0, hushed_share=0.0, refit=False
    )
    train_model(corpus, tmp_path / "whole", settings, init="none", device="cpu")
    monkeypatch.setattr(fit, "DRAWN", 7)
    report = train_model(corpus, tmp_path / "portions", settings, init="none", device="cpu")
    assert report["steps"] / report["epochs"] > 2 * 7
    whole, portions = (load_file(tmp_path / name / FIT_FILE) for name in ("whole", "portions"))
    for name in whole:
        np.testing.assert_array_equal(portions[name], whole[name], err_msg=name)


def test_what_a_device_has_no_room_for_stays_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [np.ones((100, 4), np.float32), np.ones(100, bool)]
    own, away = torch.device("cpu"), torch.device("meta")
    asked: list[str] = []
    for accelerator in (torch.cuda, torch.mps):
        monkeypatch.setattr(accelerator, "empty_cache", lambda: asked.append("emptied"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (asked.append("cuda"), (3400, 10**9))[1])
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: (asked.append("mps"), 5000)[1])
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1600)
    assert [fit._room(torch.device(kind)) for kind in ("cuda", "mps")] == [1700, 1700]
    assert asked == ["emptied", "cuda", "emptied", "mps"]  # first what torch keeps for later is given back
    for room, there in ((1700, away), (1699, own)):
        monkeypatch.setattr(fit, "_room", lambda device, room=room: room)
        assert [t.device for t in fit._moved(columns, away)] == [there] * 2
