"""A render that is signed is the render that is not: the same spans, the same packets; and nothing unsigned bears its name."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from lipwright.data import cache
from lipwright.data.edits import Edit
from lipwright.data.errors import InputError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import file_sha256, probe, read_frames
from lipwright.data.mouth import track_of
from lipwright.pipeline.certificate import TEST_NAME
from lipwright.pipeline.jobs import render_jobs
from lipwright.pipeline.render import render_video
from lipwright.pipeline.settings import Credentials, RenderSettings
from lipwright.pipeline.verify import NONE, TRUSTED, VALID, verify_file

SECOND = RenderSettings(end_s=1.0)


@pytest.fixture(scope="module")
def mouth(talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mouth") / "mouth.json"
    from dataclasses import replace

    replace(track_of(talk_track), edits=(Edit(0, 9, gain=0.8),)).save(path)
    return path


@pytest.fixture
def render(talk: Any, mouth: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that renders a second of the talk: `render(out, settings, **more)`."""

    def run(out: str, settings: RenderSettings = SECOND, **more: Any) -> dict[str, Any]:
        return render_video(talk.path, talk.path, tmp_path / out, mouth=mouth, settings=settings, **more)

    return run


def _packets(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        return [(p.stream_index, p.pts, p.dts, p.duration, p.is_keyframe, bytes(p)) for p in container.demux() if p.size]


def _spans() -> dict[str, str]:
    folder = cache.cached_path("spans", "x").parent
    return {span.name: file_sha256(span) for span in folder.iterdir()}


def test_a_signed_render_is_the_unsigned_one(
    render: Callable[..., dict[str, Any]],
    tmp_path: Path,
    talk: Any,
    mouth: Path,
    authority: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = render("plain.mp4", credentials=None)
    assert (plain["credentials"], plain["signer"], plain["unsigned"]) == (None, None, "left out, as asked for")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    before = _spans()
    tested, told = render("tested.mp4"), render("signed.mp4", credentials=Credentials(*authority.issue()))
    assert (tested["credentials"], tested["signer"], tested["unsigned"]) == ("test certificate", TEST_NAME, None)
    assert (told["credentials"], told["signer"], told["unsigned"]) == ("signed", "Jane Doe", None)
    assert _spans() == before
    for name in ("tested.mp4", "signed.mp4"):
        assert _packets(tmp_path / name) == _packets(tmp_path / "plain.mp4")
    assert verify_file(tmp_path / "plain.mp4")["verdict"] == NONE
    said = verify_file(tmp_path / "signed.mp4", trust=authority.root)
    assert said["verdict"] == TRUSTED
    assert said["metadata_synthetic"] is True
    record = said["render"]
    assert record["mouths"][0]["driver"] == {"kind": "mouth track", "name": "mouth.json", "sha256": file_sha256(mouth)}
    assert record["source"] == {"name": talk.path.name, "sha256": file_sha256(talk.path)}
    assert "From 0.00 s to 1.00 s, where it is seen, the mouth of the largest face" in said["changes"][0]
    assert "mouth.json" in said["changes"][0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.mp4", "signed.mp4", "tested.mp4"]


@pytest.mark.parametrize(("name", "settings"), [("out.mov", RenderSettings(end_s=0.4, alpha=True)), ("out.m4v", SECOND)])
def test_mov_and_m4v_are_signed(
    render: Callable[..., dict[str, Any]], tmp_path: Path, name: str, settings: RenderSettings
) -> None:
    assert render(name, settings)["credentials"] == "test certificate"
    assert verify_file(tmp_path / name)["verdict"] == VALID
    assert len(list(read_frames(probe(tmp_path / name)))) == round(25 * (settings.end_s or 0))


def test_matroska_says_it_in_its_metadata(render: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert ".mkv holds none" in render("out.mkv")["unsigned"]
    said = verify_file(tmp_path / "out.mkv")
    assert (said["verdict"], said["metadata_synthetic"]) == (NONE, True)


def test_without_the_extra_a_render_is_as_before(
    render: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render("signed.mp4")
    for module in ("c2pa", "cryptography"):
        monkeypatch.setitem(sys.modules, module, None)
    told = render("out.mp4")
    assert told["credentials"] is None
    assert "lipwright[provenance]" in told["unsigned"]
    assert _packets(tmp_path / "out.mp4") == _packets(tmp_path / "signed.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "Synthetic media" in container.metadata["comment"]


def test_a_render_of_a_render_keeps_the_chain(
    render: Callable[..., dict[str, Any]], talk: Any, mouth: Path, tmp_path: Path
) -> None:
    render("once.mp4")
    render_video(tmp_path / "once.mp4", talk.path, tmp_path / "twice.mp4", mouth=mouth, settings=SECOND)
    said = verify_file(tmp_path / "twice.mp4")
    assert said["verdict"] == VALID
    assert said["sources"][0]["name"] == "once.mp4"
    assert said["sources"][0]["credentials"]["verdict"] == VALID
    assert talk.path.name.encode() in (tmp_path / "twice.mp4").read_bytes()


def test_a_label_is_in_the_corner_and_nowhere_else(render: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    render("plain.mp4")
    told = render("label.mp4", RenderSettings(end_s=1.0, label=True))
    assert told["outside_max_abs"] == 0  # of what was painted: the label comes after
    own, drawn = (list(read_frames(probe(tmp_path / name)))[12].yuv().y.astype(int) for name in ("plain.mp4", "label.mp4"))
    corner = np.zeros(own.shape, bool)
    corner[:40, :140] = True
    assert np.abs(own - drawn)[corner].mean() > 20
    assert np.abs(own - drawn)[~corner].mean() < 1
    assert verify_file(tmp_path / "label.mp4")["render"]["label"] is True


@pytest.mark.parametrize("wrong", ["certificate", "key", "consent"])
def test_what_cannot_sign_is_refused_before_work(
    render: Callable[..., dict[str, Any]], tmp_path: Path, authority: Any, wrong: str
) -> None:
    given = dict(zip(("certificate", "key"), authority.issue(), strict=True)) | {wrong: tmp_path / "gone.pem"}
    work: list[Any] = []
    with pytest.raises(InputError, match=r"gone\.pem does not exist"):
        render("out.mp4", credentials=Credentials(**given), progress=lambda *done: work.append(done))
    assert not work
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_never_overwritten(render: Callable[..., dict[str, Any]], authority: Any) -> None:
    chain, key = authority.issue()
    key = key.rename(key.with_name("key.mp4"))
    with pytest.raises(InputError, match="is an input"):
        render(str(key), credentials=Credentials(chain, key), force=True)


def test_a_list_of_renders_is_signed_as_one(talk: Any, mouth: Path, tmp_path: Path, authority: Any) -> None:
    consent = tmp_path / "consent.json"
    consent.write_text('{"agreed": true}')
    row = {"target": str(talk.path), "audio": str(talk.path), "mouth": str(mouth)}
    rows = [row | {"out": str(tmp_path / name)} for name in ("a.mp4", "b.mov")]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = render_jobs(tmp_path / "jobs.jsonl", SECOND, credentials=Credentials(*authority.issue(), consent))
    assert [job["credentials"] for job in done["jobs"]] == ["signed", "signed"]
    for name in ("a.mp4", "b.mov"):
        said = verify_file(tmp_path / name, trust=authority.root, consent=consent)
        assert (said["verdict"], said["consent_matches"]) == (TRUSTED, True)


# Stopped while it signs -----------------------------------------------------------------------------------------------


def test_an_interrupt_while_signing_leaves_nothing(render: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"before")

    def interrupt(what: str, done: int, of: int) -> None:
        if what == "sign":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        render("out.mp4", progress=interrupt, force=True)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("out.mp4", b"before")]


def test_a_kill_while_signing_leaves_nothing_under_the_name(
    render: Callable[..., dict[str, Any]], talk: Any, mouth: Path, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from lipwright.pipeline import render_video, sealing\n"
        "from lipwright.pipeline.settings import RenderSettings\n"
        "write = sealing._Watched.write\n"
        "def kill(self, data):\n"
        "    write(self, data)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "sealing._Watched.write = kill\n"
        "render_video(sys.argv[1], sys.argv[1], sys.argv[2], mouth=sys.argv[3], settings=RenderSettings(end_s=1.0))\n"
    )
    words = [sys.executable, "-c", code, talk.path, tmp_path / "out.mp4", mouth]
    assert subprocess.run(words, capture_output=True, check=False, env=dict(os.environ)).returncode == -9
    left = sorted(p.name for p in tmp_path.iterdir())
    assert len(left) == 2
    assert all(name.startswith(".out.mp4.") for name in left)
    assert {name.rpartition(".")[2] for name in left} == {"partial", "sealed"}
    render("out.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert verify_file(tmp_path / "out.mp4")["verdict"] == VALID
