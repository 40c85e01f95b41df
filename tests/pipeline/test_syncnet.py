"""SyncNet is asked as its own package asks it: same windows, same numbers; and no file of weights runs code.

Nobody may ship its weights, so these are random ones: what they say of lips is nonsense, but the same nonsense.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import torch

from lipwright.data.audio import read_speech
from lipwright.data.errors import InputError, MissingPartError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Yuv, probe
from lipwright.data.mouth import track_of
from lipwright.pipeline import syncnet
from lipwright.pipeline.evaluate import Take
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.syncnet import SyncNet, Views, crop, runs_of, sound_of

pytestmark = pytest.mark.skipif(
    find_spec("syncnet_python") is None or find_spec("python_speech_features") is None,
    reason="syncnet-python is not installed: pip install --no-deps syncnet-python python_speech_features",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("syncnet") / "random.model"
    torch.save(syncnet._module("SyncNetModel").S().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def judge(weights: Path) -> SyncNet:
    return SyncNet.load(weights)


def test_the_numbers_are_the_packages_own(
    judge: SyncNet,
    talk: Any,
    talk_track: FaceTrack,
    talk_pictures: list[Yuv],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the same crops and the same sound, for more than one batch of windows."""
    (run,) = runs_of(talk_track)
    count = 29
    views = Views(judge._net, torch.device("cpu"))
    for k in range(count):
        bgr = cv2.cvtColor(talk_pictures[int(run.rows[k])].y, cv2.COLOR_GRAY2BGR)
        name = str(tmp_path / f"{k:06d}.jpg")
        cv2.imwrite(name, crop(bgr, run.middle[k], float(run.half[k])))
        views.add(cv2.imread(name))
    samples = sound_of(read_speech(probe(talk.path)), run.first, count)
    soundfile.write(tmp_path / "audio.wav", samples, 16000, subtype="PCM_16")
    theirs = syncnet._module("SyncNetInstance").SyncNetInstance(judge._net, device="cpu")
    offset, confidence, distance = theirs.evaluate(SimpleNamespace(tmp_dir=str(tmp_path), batch_size=20, vshift=15))
    ours = judge.score([(views.made(), judge.hear(samples, count))])
    assert ours == {
        "lse_d": pytest.approx(distance, rel=1e-5),
        "lse_c": pytest.approx(confidence, abs=1e-4),
        "lag_ms": 40.0 * offset,
    }
    capsys.readouterr()  # theirs prints


@pytest.mark.parametrize("frames", [-6, 0, 4])
def test_a_late_picture_has_a_positive_lag(judge: SyncNet, frames: int) -> None:
    heard = torch.from_numpy(np.random.default_rng(0).normal(size=(120, 64)).astype(np.float32))
    score = judge.score([(heard.roll(frames, 0)[10:110], heard[10:110])])
    assert score["lag_ms"] == 40 * frames
    assert (score["lse_d"] or 0) < 4 < (score["lse_c"] or 0)


def test_runs_are_judged_as_one(judge: SyncNet) -> None:
    """A gap in the face costs nothing but the windows around it."""
    rng = np.random.default_rng(1)
    parts = [tuple(torch.from_numpy(rng.normal(size=(n, 8)).astype(np.float32)) for _ in range(2)) for n in (60, 20)]
    assert judge.score(parts)["lse_d"] == pytest.approx(judge.score(parts[::-1])["lse_d"])
    assert judge.score(parts) != judge.score(parts[:1])
    assert judge.score([]) == {"lse_d": None, "lse_c": None, "lag_ms": None}


def test_source_and_result_are_judged(judge: SyncNet, talk: Any, talk_track: FaceTrack, talk_bank: Bank) -> None:
    shown = 60
    track, measured = talk_track.part(slice(0, shown)), track_of(talk_track.part(slice(0, shown)))
    still = np.repeat(measured.speaker.neutral[None], len(measured.valid), 0)
    samples = read_speech(probe(talk.path))
    take = Take(probe(talk.path), "", track, samples, measured, {"model": still}, 0.2)
    scores = judge.judge(take, talk_bank)
    for score in scores.values():
        assert all(value is not None and np.isfinite(value) for value in score.values())
        assert score["lse_d"] > 0
        assert score["lse_c"] > 0
    assert scores["source"]["lse_d"] != scores["result"]["lse_d"]


def test_a_face_that_is_seen_too_shortly_has_no_numbers(
    judge: SyncNet, talk: Any, talk_track: FaceTrack, talk_bank: Bank
) -> None:
    track = talk_track.part(slice(0, 40))
    measured = track_of(track)
    take = Take(probe(talk.path), "", track, np.zeros(16000, np.float32), measured, {"model": measured.xyz}, 0.2)
    assert judge.judge(take, talk_bank)["result"] == {"lse_d": None, "lse_c": None, "lag_ms": None}


def test_a_cut_ends_a_run(talk_track: FaceTrack) -> None:
    (run,) = runs_of(talk_track)
    first, second = runs_of(replace(talk_track, shots=np.array([0, 60])))
    assert (len(first.rows), first.rows[-1], second.rows[0]) == (60, 59, 60)
    assert len(first.rows) + len(second.rows) == len(run.rows)
    assert len(runs_of(replace(talk_track, shots=np.array([0, 30])))) == 1  # 30 frames are too few


def test_a_crop_beyond_the_edges_is_grey() -> None:
    picture = np.full((100, 100, 3), 200, np.uint8)
    cut = crop(picture, np.array([50.0, 50.0]), 60.0)
    assert cut.shape == (224, 224, 3)
    assert cut[110, 112].tolist() == [200] * 3
    assert cut[2, 2].tolist() == cut[222, 222].tolist() == [110] * 3


# Weights --------------------------------------------------------------------------------------------------------------


class Trap:
    """What a stranger may have written."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.file, "w"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path, zipped: bool) -> None:
    trap, sprung = tmp_path / "trap.model", tmp_path / "sprung"
    torch.save({"w": Trap(str(sprung))}, trap, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"trap\.model is not read: .* could run code"):
        SyncNet.load(trap)
    assert not sprung.exists()


def test_weights_in_the_old_format_are_read(weights: Path, tmp_path: Path) -> None:
    """The published file is of 2017."""
    old = tmp_path / "old.model"
    torch.save(torch.load(weights, weights_only=True), old, _use_new_zipfile_serialization=False)
    assert torch.equal(SyncNet.load(old)._net.netfclip[0].weight, SyncNet.load(weights)._net.netfclip[0].weight)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.model does not exist"):
        SyncNet.load(tmp_path / "none.model")
    (tmp_path / "noise.model").write_bytes(b"not weights at all")
    with pytest.raises(InputError, match=r"noise\.model is not read: it is broken"):
        SyncNet.load(tmp_path / "noise.model")
    for name, content in (("other.model", {"w": torch.zeros(3)}), ("list.model", [1, 2])):
        torch.save(content, tmp_path / name)
        with pytest.raises(InputError, match=rf"{name[:5]}.*holds other weights than SyncNet's"):
            SyncNet.load(tmp_path / name)


def test_a_missing_package_says_how_to_get_it(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "syncnet_python", None)
    with pytest.raises(MissingPartError, match="pip install --no-deps syncnet-python python_speech_features"):
        SyncNet.load(weights)
