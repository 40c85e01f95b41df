"""``evaluate`` as a gate: a page for people, thresholds for scripts, and what the exit code says."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from lipwright.data.encoder import Encoding
from lipwright.data.media import BT709, probe, read_frames
from lipwright.data.writer import VideoWriter


def test_a_report_and_thresholds_that_are_met(installed: Any, trained: Any, talk: Any, tmp_path: Path) -> None:
    words = ["evaluate", "--model", trained.run, talk.path, "--report", "judged", "--require", "aperture_r=0.2,lmd=9"]
    ran = installed(*words, "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.json.keys() == {"clips", "mean", "require", "report"}
    assert ran.json["report"] == "judged/report.html"
    assert ran.json["require"] == [
        {"metric": "aperture_r", "threshold": 0.2, "value": ran.json["mean"]["aperture_r"], "pass": True},
        {"metric": "lmd", "threshold": 9.0, "value": ran.json["mean"]["lmd"], "pass": True},
    ]
    page = (tmp_path / "judged" / "report.html").read_text("utf-8")
    assert page.count("<video ") == 2
    assert "Painted from mouths of each video itself" in page
    assert f'<data value="{ran.json["mean"]["lmd_ratio"]!r}">' in page
    assert [path.name for path in tmp_path.iterdir()] == ["judged"]


def test_a_missed_threshold_has_an_exit_code_of_its_own(lipwright: Any, trained: Any, talk: Any, tmp_path: Path) -> None:
    words = ["evaluate", "--model", trained.run, talk.path]
    ran = lipwright(*words, "--require", "aperture_r=0.9999,lmd=9,lag_ms=-1", "--json", cwd=tmp_path)
    assert ran.code == 6
    assert [each["pass"] for each in ran.json["require"]] == [False, True, False]
    first, second = ran.err.splitlines()
    assert first.startswith("lipwright: aperture_r is 0.")
    assert first.endswith(", required at least 0.9999")
    assert second.startswith("|lag_ms| is ")
    assert second.endswith(", required at most -1")
    # Some inputs failed, too: the threshold wins, and both are told.
    both = lipwright(*words, "none.mp4", "--require", "aperture_r=0.9999", cwd=tmp_path)
    assert both.code == 6
    assert "none.mp4 does not exist" in both.err.splitlines()[0]
    assert "aperture_r is 0." in both.err.splitlines()[1]
    assert lipwright(*words, "none.mp4", "--require", "lmd=9", cwd=tmp_path).code == 5
    assert lipwright("evaluate", "none.mp4", "--require", "lmd=9", cwd=tmp_path).code == 3
    ran = lipwright(*words, "--report", "judged", "--bank", "none.mp4", cwd=tmp_path)
    assert (ran.code, ran.err) == (3, "lipwright: none.mp4 does not exist; check the path\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--require", "lips=1"], "there is no metric 'lips'. There are aperture_r, "),
        (["--require", "lag_ms=soon"], "'soon' is no number to require of lag_ms"),
        (["--require", "render.mouth_psnr=30"], "render.mouth_psnr is required, but not measured; add --render"),
        (["--bank", "other.mp4"], "--bank goes with --render or --report"),
        (["--syncnet", "w.model"], "--syncnet goes with --render or --report"),
    ],
)
def test_what_cannot_be_asked_for_is_a_usage_error(lipwright: Any, words: list[str], said: str, tmp_path: Path) -> None:
    ran = lipwright("evaluate", "video.mp4", *words, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"lipwright: {said}")
    assert len(ran.err.splitlines()) == 1


def test_a_report_that_is_there_is_kept(lipwright: Any, talk: Any, tmp_path: Path) -> None:
    (tmp_path / "judged").mkdir()
    ran = lipwright("evaluate", talk.path, "--report", "judged", cwd=tmp_path)
    assert (ran.code, ran.err) == (
        3, "lipwright: judged already exists; choose another --report or pass --force to replace it\n",
    )  # fmt: skip
    (tmp_path / "judged" / "thesis.txt").write_text("mine")
    ran = lipwright("evaluate", talk.path, "--report", "judged", "--force", cwd=tmp_path)
    assert ran.code == 3
    assert "holds other files (thesis.txt)" in ran.err
    assert [path.name for path in (tmp_path / "judged").iterdir()] == ["thesis.txt"]


@pytest.fixture
def excerpt(talk: Any, tmp_path: Path) -> Path:
    """The first 2.6 s of the talk: enough for SyncNet, too short for a film."""
    path = tmp_path / "excerpt.mp4"
    encoding, media = Encoding(320, 320, Fraction(1, 12800), Fraction(25), BT709), probe(talk.path)
    with VideoWriter(path, encoding, audio=media, audio_span_s=(Fraction(0), Fraction(65, 25))) as writer:
        for frame in islice(read_frames(media), 65):
            writer.write(frame.yuv(), frame.time)
    return path


@pytest.mark.skipif(find_spec("syncnet_python") is None, reason="syncnet-python is not installed")
def test_syncnet_judges_source_and_result(lipwright: Any, trained: Any, excerpt: Path, tmp_path: Path) -> None:
    import torch

    from lipwright.pipeline.syncnet import _module

    torch.save(_module("SyncNetModel").S().state_dict(), tmp_path / "random.model")
    ran = lipwright(
        "evaluate", "--model", trained.run, excerpt, "--report", "judged", "--syncnet", "random.model",
        "--require", "syncnet.result.lse_d=0", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert ran.code == 6
    scores = ran.json["clips"][0]["syncnet"]
    assert scores.keys() == {"source", "result"}
    assert all(score.keys() == {"lse_d", "lse_c", "lag_ms"} for score in scores.values())
    page = (tmp_path / "judged" / "report.html").read_text("utf-8")
    assert f'<data value="{scores["result"]["lse_c"]!r}">' in page
    assert "None: no 3 seconds show a mouth that speaks" in page
    assert "<video" not in page
