"""Corpora made of arrays, for training without video, and the talking photograph taken apart, for rendering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.corpus import Clip, Corpus
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import file_sha256, probe
from lipwright.data.mouth import INNER_LIPS, OUTER_LIPS
from lipwright.pipeline.render.bank import Bank, collect_windows

FRAME_HZ = 25


def _resting_mouth() -> np.ndarray:
    """Closed lips in face space, (40, 3): two flat rings from corner to corner, as the 40 points run."""
    angle = np.linspace(0, 2 * np.pi, len(OUTER_LIPS), endpoint=False)
    outer = np.stack([-0.3 * np.cos(angle), 0.9 + 0.1 * np.sin(angle), np.full(20, -0.2)], 1)
    inner = np.stack([-0.25 * np.cos(angle), np.full(len(INNER_LIPS), 0.9), np.full(20, -0.2)], 1)
    return np.concatenate([outer, inner])


@pytest.fixture(scope="session")
def resting() -> np.ndarray:
    """Return a closed mouth in face space, (40, 3) float32."""
    return _resting_mouth().astype(np.float32)


@pytest.fixture(scope="session")
def opened() -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from apertures (F,) to mouths (F, 40, 3) that are open so far."""

    def make(opening: np.ndarray) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        mouth = np.repeat(_resting_mouth()[None], len(opening), 0)
        mouth[:, :20, 1] += 0.5 * opening[:, None] * np.sin(angle)
        mouth[:, 20:, 1] += 0.5 * opening[:, None] * np.sin(angle)
        return mouth.astype(np.float32)

    return make


@pytest.fixture(scope="session")
def toy_corpus(opened: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Path]:
    """Return the maker of a corpus of noise whose loudness opens the mouth: `toy_corpus(folder, lengths_s, seed)`."""

    def make(folder: Path, lengths_s: Sequence[float] = (20.0,), *, seed: int = 0, moving: bool = True) -> Path:
        rng = np.random.default_rng(seed)
        corpus = Corpus.create(folder, FeatureSettings())
        rows = []
        for k, length_s in enumerate(lengths_s):
            steps, frames = round(length_s * STEP_HZ), round(length_s * FRAME_HZ)
            times = np.arange(frames) / FRAME_HZ
            knots = np.arange(0, length_s + 0.2, 0.1)
            curve = rng.uniform(0, 1, len(knots)) * moving
            samples = round(length_s * SAMPLE_RATE_HZ)
            loud_db = np.interp(np.arange(samples) / SAMPLE_RATE_HZ, knots, 30 * curve - 45)
            audio = np.round(32767 * np.clip(rng.normal(0, 10 ** (loud_db / 20)), -1, 1)).astype(np.int16)
            clip = Clip(
                features=compute_features(audio / np.float32(32768))[:steps],
                audio=audio,
                other_sound=np.zeros(steps, bool),
                times_s=times,
                mouth=opened(0.3 * np.interp(times, knots, curve)),
                rotation=np.tile(np.eye(3), (frames, 1, 1)),
                scale=np.full(frames, 100.0),
                shift=np.zeros((frames, 3)),
                blendshapes=np.repeat(np.interp(times, knots, curve)[:, None], 52, 1).astype(np.float32),
                valid=np.ones(frames, bool),
            )
            row = {
                "id": f"{k:012x}-0", "path": f"clip{k}.mp4", "sha256": f"{k:064x}", "speaker": "somebody",
                "start_s": 0.0, "end_s": length_s, "rate": "25", "frames": frames, "face_rate": 1.0, "face": None,
                "lag_ms": None, "split": None, "status": "ok", "reason": None, "settings_hash": corpus.hash,
            }  # fmt: skip
            corpus.save_clip(row["id"], clip)
            rows.append(row)
        corpus.add(rows)
        return folder

    return make


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, toy_corpus: Callable[..., Path]) -> Path:
    """Return a model folder trained for a moment on the corpus of arrays."""
    from lipwright.pipeline.settings import TrainSettings
    from lipwright.pipeline.train import train_model

    folder = tmp_path_factory.mktemp("toy")
    corpus = toy_corpus(folder / "corpus", (16.0,))
    train_model(corpus, folder / "run", TrainSettings(epochs=2, hidden=16, augment=()), device="cpu")
    return folder / "run"


@pytest.fixture(scope="session")
def talk_bank(talk: Any, talk_track: FaceTrack) -> Bank:
    """Return the bank of the talking photograph's own footage."""
    return collect_windows(probe(talk.path), talk_track, file_sha256(talk.path))
