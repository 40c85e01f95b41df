"""The memory of a training does not grow with its corpus: what does stands on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lipwright.data.corpus import Corpus
from lipwright.data.features import STEP_HZ, FeatureSettings
from lipwright.pipeline import sequences as module
from lipwright.pipeline.sequences import heard_in_training, load_sequences
from lipwright.pipeline.settings import TrainSettings

Maker = Callable[..., Path]

MOST_MB = 40
"""Anonymous memory that 25 minutes of footage may take beyond what one minute takes; read into memory, they are 200 MB."""

CHILD = """
import sys
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.train import train_model
settings = TrainSettings(
    epochs=1, hidden=8, layers=1, members=1, streams=4, coverage=0.001, hushed_share=0.0, direction="forward"
)
train_model(sys.argv[1], sys.argv[2], settings, init="none", device="cpu")
"""


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


def anonymous_mb(corpus: Path, run: Path, cache: Path) -> float:
    """Train, and return the peak of memory that is no file's."""
    env = os.environ | {"LIPWRIGHT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(corpus), str(run)], env=env)
    peak_kb = 0
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status").read_text()
        peak_kb = max([peak_kb, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.005)
    assert child.returncode == 0
    return peak_kb / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked at in /proc")
def test_memory_does_not_grow_with_the_corpus(toy_corpus: Maker, tmp_path: Path) -> None:
    short = toy_corpus(tmp_path / "short", (20.0, 20.0, 20.0))
    long = repeated(short, tmp_path / "long", 25)
    cache = tmp_path / "cache"
    before, after = (anonymous_mb(folder, tmp_path / f"{folder.name}.run", cache) for folder in (short, long))
    assert after - before < MOST_MB
    assert list(cache.iterdir()) == []


def test_of_a_long_corpus_so_much_is_varied_and_has_its_share(
    toy_corpus: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_VARIED_S", 20.0)
    monkeypatch.setattr(module, "LEAST_HUSHED_S", 5.0)
    lengths = (8.0, 6.0, 9.0, 8.0, 7.0, 8.0, 9.0)
    train, _, _ = load_sequences(Corpus.load(toy_corpus(tmp_path / "corpus", lengths)))
    settings = TrainSettings(augment=("gain",), variants=2, augmented_share=0.25, hushed_share=0.2)
    heard = heard_in_training(train, settings, FeatureSettings())
    plain, rest = heard[: len(train)], heard[len(train) :]
    steps = sum(len(s.features) for s in train)
    chosen = train[:: -(-steps // (20 * STEP_HZ))]
    assert 1 < len(chosen) < len(train)
    assert len(rest) == len(chosen) * (2 + 2)
    silent = [s for s in rest if not s.shapes.any()]

    def share(part: list[module.Sequence]) -> float:
        return sum(s.weight * len(s.features) for s in part) / steps

    assert share(plain) == pytest.approx(0.55)
    assert share(silent) == pytest.approx(0.1)
    assert share(heard) == pytest.approx(1.0)
