"""Videos become clips once, by their bytes; what cannot be used is a rejected row that says why."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.audio import read_speech
from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError, InputError
from lipwright.data.features import FeatureSettings, compute_features
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import file_sha256, probe
from lipwright.data.mouth import measure_mouth
from lipwright.pipeline.preprocess import find_sources, preprocess_corpus

# Sources --------------------------------------------------------------------------------------------------------------


def _tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_the_speaker_is_the_sub_folder_else_the_file(tmp_path: Path) -> None:
    _tree(tmp_path, "ann/1.mp4", "ann/deep/2.MOV", "bob/3.webm", "4.mkv", "notes.txt", "ann/thumb.jpg", "ann/voice.wav")
    found = {s.path.relative_to(tmp_path).as_posix(): s.speaker for s in find_sources([tmp_path])}
    assert found == {"ann/1.mp4": "ann", "ann/deep/2.MOV": "ann", "bob/3.webm": "bob", "4.mkv": "4.mkv"}
    named = {s.speaker for s in find_sources([tmp_path / "ann", tmp_path / "4.mkv"], "cleo")}
    assert named == {"cleo"}
    assert [s.speaker for s in find_sources([tmp_path / "bob" / "3.webm"])] == ["3.webm"]


def test_a_file_that_is_named_is_always_tried(tmp_path: Path) -> None:
    _tree(tmp_path, "talk.dat")
    assert [s.path for s in find_sources([tmp_path / "talk.dat"])] == [tmp_path / "talk.dat"]


def test_a_file_given_twice_is_taken_once(tmp_path: Path) -> None:
    _tree(tmp_path, "ann/1.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "ann" / "1.mp4")
    assert len(find_sources([tmp_path, tmp_path / "ann" / "1.mp4", tmp_path / "ann"])) == 1


def test_in_a_folder_only_files_are_videos(tmp_path: Path) -> None:
    """To open a pipe is to wait for whoever writes to it, for ever."""
    _tree(tmp_path, "all/1.mp4", "all/2.mp4/3.mp4")
    os.mkfifo(tmp_path / "all" / "pipe.mp4")
    (tmp_path / "all" / "gone.mp4").symlink_to("nowhere")  # somebody misses it
    found = [s.path.relative_to(tmp_path / "all").as_posix() for s in find_sources([tmp_path / "all"])]
    assert found == ["1.mp4", "2.mp4/3.mp4", "gone.mp4"]
    with pytest.raises(InputError, match=r"pipe\.mp4 is neither a file nor a folder"):
        find_sources([tmp_path / "all" / "pipe.mp4"])


def test_inputs_without_a_video_are_refused_by_name(tmp_path: Path) -> None:
    _tree(tmp_path, "only/notes.txt")
    with pytest.raises(InputError, match=r"no video in .*only.*expected files such as"):
        find_sources([tmp_path / "only"])
    with pytest.raises(InputError, match=r"gone\.mp4 does not exist"):
        find_sources([tmp_path / "only", tmp_path / "gone.mp4"])


# Clips ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taken(talk: Any, talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The talking photograph (already tracked) and its twin, taken into a corpus."""
    folder = tmp_path_factory.mktemp("taken")
    shutil.copy(talk.path, folder / "twin.mp4")
    seen: list[tuple[str, int, int]] = []
    report = preprocess_corpus([talk.path, folder / "twin.mp4"], folder / "corpus", progress=lambda *s: seen.append(s))
    assert seen[-1][0] == "preprocess"
    return folder / "corpus", report


def test_a_clip_holds_what_the_video_shows_and_says(
    talk: Any, talk_track: FaceTrack, taken: tuple[Path, dict[str, Any]]
) -> None:
    folder, report = taken
    (row,) = report["clips"]
    clip = Corpus.load(folder).load_clip(row["id"])
    samples = read_speech(probe(talk.path))
    steps = round(100 * row["end_s"])
    assert steps == int(100 * talk.times_s[-1]) + 1
    np.testing.assert_allclose(clip.features, compute_features(samples)[:steps], rtol=0, atol=1e-4)  # dB
    np.testing.assert_allclose(clip.audio / 32767, samples[: 160 * steps], atol=1e-4)
    np.testing.assert_array_equal(clip.times_s, talk_track.times_s)
    np.testing.assert_allclose(clip.mouth, measure_mouth(talk_track))
    assert clip.valid.all()
    assert clip.blendshapes.shape == (len(talk.times_s), 52)


def test_a_row_describes_its_source(talk: Any, taken: tuple[Path, dict[str, Any]]) -> None:
    folder, report = taken
    (row,) = report["clips"]
    sha256 = file_sha256(talk.path)
    assert row["id"] == f"{sha256[:12]}-0"
    assert (row["sha256"], row["path"], row["speaker"]) == (sha256, str(talk.path.resolve()), "talk.mp4")
    assert (row["status"], row["reason"], row["rate"], row["frames"]) == ("ok", None, "25", len(talk.times_s))
    assert row["face_rate"] == 1
    assert 0 == row["start_s"] < row["end_s"] == pytest.approx(talk.times_s[-1], abs=0.05)
    assert report["seconds"] == pytest.approx(row["end_s"] - row["start_s"])
    assert report["frames"] == row["frames"]
    assert [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()] == [row]


def test_the_same_bytes_are_taken_once(taken: tuple[Path, dict[str, Any]]) -> None:
    folder, report = taken
    assert len(report["clips"]) == 1
    assert len(list((folder / "clips").iterdir())) == 1


def test_a_second_run_touches_nothing_and_force_does_it_anew(talk: Any, taken: tuple[Path, dict[str, Any]]) -> None:
    folder, report = taken
    (clip,) = (folder / "clips").iterdir()
    before = (clip.stat().st_ino, clip.read_bytes(), (folder / "manifest.jsonl").read_text())
    again = preprocess_corpus([talk.path], folder)
    assert again["clips"] == report["clips"]
    assert (clip.stat().st_ino, clip.read_bytes(), (folder / "manifest.jsonl").read_text()) == before
    preprocess_corpus([talk.path], folder, force=True)
    assert clip.read_bytes() == before[1]
    assert clip.stat().st_ino != before[0]


def test_a_clip_that_got_lost_is_made_again(talk: Any, taken: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(taken[0], tmp_path / "corpus")
    (clip,) = (tmp_path / "corpus" / "clips").iterdir()
    before = clip.read_bytes()
    clip.unlink()
    preprocess_corpus([talk.path], tmp_path / "corpus")
    assert clip.read_bytes() == before


def test_another_speaker_replaces_the_row(talk: Any, taken: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(taken[0], tmp_path / "corpus")
    report = preprocess_corpus([talk.path], tmp_path / "corpus", speaker="Eileen")
    assert [row["speaker"] for row in report["clips"]] == ["Eileen"]
    assert [row["speaker"] for row in Corpus.load(tmp_path / "corpus").rows] == ["Eileen"]


def test_a_folder_that_is_no_corpus_is_left_alone(talk: Any, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.txt").write_text("mine")
    with pytest.raises(CorpusError, match=r"holiday exists and is not a corpus"):
        preprocess_corpus([talk.path], tmp_path / "holiday")
    assert [p.name for p in (tmp_path / "holiday").iterdir()] == ["beach.txt"]


# Plans ---------------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_and_touches_nothing(talk: Any, taken: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(taken[0], tmp_path / "corpus")
    (tmp_path / "new.mp4").write_bytes(b"new")

    def all_of(folder: Path) -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*")}

    before = all_of(tmp_path)
    told = preprocess_corpus([talk.path, tmp_path / "new.mp4"], tmp_path / "corpus", dry_run=True)
    assert [(Path(i["path"]).name, i["state"], i["to_do"]) for i in told["plan"]] == [
        ("talk.mp4", "done", False),
        ("new.mp4", "new", True),
    ]
    assert told["plan"][1]["bytes"] == 3
    told = preprocess_corpus([talk.path], tmp_path / "none", dry_run=True)
    assert [i["state"] for i in told["plan"]] == ["new"]
    assert all_of(tmp_path) == before


def test_a_video_that_was_moved_keeps_its_clip(talk: Any, taken: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copy(talk.path, tmp_path / "talk.mp4")
    first = preprocess_corpus([tmp_path / "talk.mp4"], tmp_path / "corpus")
    (clip,) = (tmp_path / "corpus" / "clips").iterdir()
    before = clip.stat().st_ino
    (tmp_path / "talk.mp4").rename(tmp_path / "moved.mp4")
    again = preprocess_corpus([tmp_path / "moved.mp4"], tmp_path / "corpus", speaker="talk.mp4")
    moved = str((tmp_path / "moved.mp4").resolve())
    assert [row["path"] for row in again["clips"]] == [moved]
    assert [row | {"path": moved} for row in first["clips"]] == Corpus.load(tmp_path / "corpus").rows
    assert clip.stat().st_ino == before


def test_a_corpus_that_another_run_works_on_is_left_to_it(talk: Any, tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "corpus", FeatureSettings())
    with corpus.alone(), pytest.raises(CorpusError, match="is being worked on by process"):
        preprocess_corpus([talk.path], tmp_path / "corpus")
    assert corpus.rows == []


# Rejections -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_a_row_that_says_why(
    tmp_path: Path, bars: Callable[..., Path], tone: Callable[..., Any], wav: Callable[..., Path]
) -> None:
    loud, still = probe(wav(tone(1.0))), probe(wav(tone(1.0, level=0.0), name="still.wav"))
    sources = {
        bars(name="mute.mp4"): "has no audio stream",
        bars(
            name="faceless.mp4", audio=loud
        ): "never shows a face for 2 s that can be learned from (no face in 100% of its frames)",
        bars(name="silent.mp4", audio=still): "is silent",
        loud.path: "has no video stream",
        tmp_path / "links" / "loop.mp4": "cannot be read (Too many levels of symbolic links); check",
    }
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "loop.mp4").symlink_to("loop.mp4")
    given = [path for path in sources if not path.is_symlink()]
    report = preprocess_corpus([*given, tmp_path / "links"], tmp_path / "corpus", workers=1)
    assert len(report["clips"]) == len(sources)
    assert (report["seconds"], report["frames"]) == (0, 0)
    for row in report["clips"]:
        why = sources[Path(row["path"])]
        assert row["status"] == "rejected"
        assert row["reason"].startswith(row["path"])
        assert why in row["reason"]
        assert row["split"] is None
    assert list((tmp_path / "corpus" / "clips").iterdir()) == []


def test_what_cannot_be_read_today_keeps_what_was_made_of_it(
    talk: Any, taken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Links to a disk that is not there, say."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "links").mkdir()
    shutil.copy(talk.path, tmp_path / "disk" / "talk.mp4")
    (tmp_path / "links" / "talk.mp4").symlink_to(tmp_path / "disk" / "talk.mp4")
    first = preprocess_corpus([tmp_path / "links"], tmp_path / "corpus")
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    away = preprocess_corpus([tmp_path / "links"], tmp_path / "corpus")
    assert [row["status"] for row in away["clips"]] == ["ok", "rejected"]
    assert "cannot be read (No such file or directory)" in away["clips"][1]["reason"]
    (tmp_path / "unplugged").rename(tmp_path / "disk")
    (clip,) = (tmp_path / "corpus" / "clips").iterdir()
    assert preprocess_corpus([tmp_path / "links"], tmp_path / "corpus")["clips"] == first["clips"]
    assert clip.exists()


def test_a_run_with_nothing_new_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    preprocess_corpus([tmp_path / "a.mp4"], tmp_path / "corpus")
    before = {name: (tmp_path / "corpus" / name).stat().st_ino for name in ("manifest.jsonl", "report.html")}
    preprocess_corpus([tmp_path / "a.mp4"], tmp_path / "corpus")
    assert {name: (tmp_path / "corpus" / name).stat().st_ino for name in before} == before


def test_every_empty_file_is_named_and_looked_at_again(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.mp4" for name in "ab"]
    for path in paths:
        path.touch()
    for _ in range(2):
        report = preprocess_corpus(paths, tmp_path / "corpus", workers=1)
        assert [row["reason"] for row in report["clips"]] == [f"{p} is empty (0 bytes); copy or record it again" for p in paths]
    assert [i["state"] for i in preprocess_corpus(paths, tmp_path / "corpus", dry_run=True)["plan"]] == ["new", "new"]


def test_a_rejected_source_is_not_tried_twice_but_its_repaired_version_is(
    tmp_path: Path, bars: Callable[..., Path], tone: Callable[..., Any], wav: Callable[..., Path], talk: Any
) -> None:
    path = bars(name="talk.mp4", start=Fraction(0))
    first = preprocess_corpus([path], tmp_path / "corpus")
    assert preprocess_corpus([path], tmp_path / "corpus")["clips"] == first["clips"]
    shutil.copy(talk.path, path)
    (row,) = preprocess_corpus([path], tmp_path / "corpus")["clips"]
    assert row["status"] == "ok"
    assert Corpus.load(tmp_path / "corpus").rows == [row]
