"""The base model's recipe, in small: from nothing but synthesized speech to a model that loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.articulation import CLASSES
from lipwright.models.baselines import Ridge
from lipwright.models.lipsync import LipSync

pytest.importorskip("babel", reason="phrases to read need the extra base")

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_base.py"


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)


def test_one_command_makes_a_model(tmp_path: Path) -> None:
    small = ["--minutes", "1.5", "--workers", "1", "--set", "epochs=1", "hidden=4", "layers=1", "coverage=1"]
    done = make("--out", str(tmp_path / "base"), *small)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["epochs"] == 1
    assert told["minutes"] >= 1
    model = LipSync.load(tmp_path / "base")
    assert (model.config.hidden, model.config.phones, model.config.blendshapes) == (4, len(CLASSES), 0)
    assert np.isfinite(model.predict(np.zeros((50, 28), np.float32))).all()
    assert Ridge.load(tmp_path / "base").weights.shape[1] == model.config.components


def test_less_than_two_recitals_are_refused(tmp_path: Path) -> None:
    done = make("--out", str(tmp_path / "base"), "--minutes", "0.5")
    assert done.returncode == 2
    assert "two recitals" in done.stderr
    assert not (tmp_path / "base").exists()
