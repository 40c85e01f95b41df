"""What is done is known without being read; what is not, or not as wanted, is work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lipwright.data.corpus import Corpus
from lipwright.data.features import FeatureSettings
from lipwright.data.media import file_sha256
from lipwright.pipeline import plan as planning
from lipwright.pipeline.intake import Source, stamp_of
from lipwright.pipeline.plan import Item, State, make_plan

FEATURES = FeatureSettings()


def taken(corpus: Corpus, path: Path, **more: Any) -> None:
    """Let a corpus hold a video as if it had been taken in; of bytes, since no plan looks into them."""
    sha256 = file_sha256(path)
    row = {
        "id": f"{sha256[:12]}-0", "path": str(path.resolve()), "sha256": sha256, "speaker": "ann", "start_s": 0.0,
        "end_s": 5.0, "face": None, "split": None, "status": "ok", "reason": None, "settings_hash": corpus.hash,
    } | stamp_of(path) | more  # fmt: skip
    corpus.add([row])
    if row["status"] == "ok":
        corpus.clip_path(row["id"]).touch()


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    for k, path in enumerate(paths):
        path.write_bytes(bytes([k]) * (100 + k))
    return paths


@pytest.fixture
def corpus(tmp_path: Path, videos: list[Path]) -> Corpus:
    """A corpus that holds the first two of three videos."""
    corpus = Corpus.create(tmp_path / "corpus", FEATURES)
    for path in videos[:2]:
        taken(corpus, path)
    return corpus


def plan(corpus: Corpus, *paths: Path, face: str | None = None, **more: Any) -> list[Item]:
    return make_plan(corpus, [Source(path, "ann", face) for path in paths], **more)


def states(items: list[Item]) -> list[State]:
    return [item.state for item in items]


def test_what_is_done_is_not_read(corpus: Corpus, videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "file_sha256", lambda path: pytest.fail(f"{path} was read"))
    items = plan(corpus, *videos)
    assert states(items) == [State.DONE, State.DONE, State.NEW]
    assert [item.is_work for item in items] == [False, False, True]
    assert [[r["path"] for r in item.rows] for item in items] == [[str(p)] for p in videos[:2]] + [[]]


def test_a_video_that_was_only_touched_is_done(corpus: Corpus, videos: list[Path]) -> None:
    os.utime(videos[0], ns=(1, 1))
    (item,) = plan(corpus, videos[0])
    assert (item.state, item.rows[0]["modified_ns"]) == (State.RENAMED, 1)
    corpus.add(item.rows)
    assert states(plan(corpus, videos[0])) == [State.DONE]


@pytest.mark.parametrize("length", [100, 70])
def test_a_video_that_was_changed_is_work(corpus: Corpus, videos: list[Path], length: int) -> None:
    videos[0].write_bytes(b"z" * length)
    assert states(plan(corpus, *videos)) == [State.CHANGED, State.DONE, State.NEW]


def test_a_video_that_was_moved_is_done_under_its_new_name(corpus: Corpus, videos: list[Path], tmp_path: Path) -> None:
    moved = videos[0].rename(tmp_path / "moved.mp4")
    (item,) = plan(corpus, moved)
    assert (item.state, item.is_work) == (State.RENAMED, False)
    assert item.rows[0]["path"] == str(moved)
    corpus.add(item.rows)
    assert sorted(Path(r["path"]).name for r in corpus.rows) == ["b.mp4", "moved.mp4"]
    assert corpus.find(item.rows[0]["sha256"]), "its clip is gone"


def test_a_rejected_video_that_was_moved_is_work_since_its_reason_tells_its_name(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "d.mp4"
    path.write_bytes(b"d")
    taken(corpus, path, status="rejected", start_s=None, end_s=None, reason=f"{path} is silent")
    assert states(plan(corpus, path)) == [State.DONE]
    assert states(plan(corpus, path.rename(tmp_path / "e.mp4"))) == [State.NEW]


def test_a_copy_is_a_twin_of_what_is_there(corpus: Corpus, videos: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(videos[0], tmp_path / "copy.mp4"))
    (item,) = plan(corpus, copy)
    assert (item.state, item.twin, item.is_work) == (State.TWIN, str(videos[0]), False)
    assert [r["path"] for r in item.rows] == [str(videos[0])]


def test_of_the_same_bytes_given_twice_the_first_is_taken(corpus: Corpus, videos: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(videos[2], tmp_path / "copy.mp4"))
    items = plan(corpus, copy, videos[2])
    assert states(items) == [State.NEW, State.TWIN]
    assert items[1].twin == str(copy)


def test_what_is_alone_in_its_size_is_not_read(
    corpus: Corpus, videos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(planning, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    copy = Path(shutil.copy(videos[0], tmp_path / "copy.mp4"))
    plan(corpus, *videos, copy)
    assert read == [copy]


@pytest.mark.parametrize("names", [["0.mp4", "a.mp4"], ["a.mp4", "z.mp4"], ["0.mp4"]], ids=str)
def test_a_copy_does_not_keep_the_original_from_being_made_anew(
    corpus: Corpus, videos: list[Path], tmp_path: Path, names: list[str]
) -> None:
    copy = next(tmp_path / name for name in names if name != "a.mp4")
    shutil.copy(videos[0], copy)
    given = [tmp_path / name for name in names]
    assert {i.state for i in plan(corpus, *given)} <= {State.DONE, State.TWIN}
    corpus.clip_path(corpus.of_path(str(videos[0]))[0]["id"]).unlink()
    items = {i.source.path.name: i for i in plan(corpus, *given)}
    assert [name for name, item in items.items() if item.is_work] == (["a.mp4"] if "a.mp4" in names else ["0.mp4"])


def test_names_that_go_round_are_told_and_nothing_is_lost(corpus: Corpus, videos: list[Path], tmp_path: Path) -> None:
    before = {r["sha256"]: r["id"] for r in corpus.rows}
    for steps in ([("a", "x"), ("b", "a"), ("x", "b")], [("b", "c2"), ("a", "b")]):
        for old, new in steps:
            (tmp_path / f"{old}.mp4").rename(tmp_path / f"{new}.mp4")
        there = sorted(p for p in tmp_path.glob("*.mp4") if p != videos[2])
        items = plan(corpus, *there)
        assert states(items) == [State.RENAMED] * 2
        corpus.add([row for item in items for row in item.rows])
        assert {r["sha256"]: r["id"] for r in corpus.rows} == before
        assert all(corpus.clip_path(name).exists() for name in before.values())
        assert {r["path"]: r["sha256"] for r in corpus.rows} == {str(p): file_sha256(p) for p in there}
        assert Corpus.load(corpus.folder).rows == corpus.rows


def test_a_name_that_other_bytes_have_now_does_not_hold_back_what_was_moved(
    corpus: Corpus, videos: list[Path], tmp_path: Path
) -> None:
    old = videos[0].rename(tmp_path / "old.mp4")
    videos[0].write_bytes(b"other")
    items = plan(corpus, videos[0], old)
    assert states(items) == [State.CHANGED, State.RENAMED]
    corpus.add(items[1].rows)
    taken(corpus, videos[0])
    assert states(plan(corpus, videos[0], videos[1], old)) == [State.DONE] * 3


def test_another_name_of_the_speaker_is_no_work_and_another_face_is(corpus: Corpus, videos: list[Path]) -> None:
    (item,) = make_plan(corpus, [Source(videos[0], "eve")])
    assert (item.state, item.rows[0]["speaker"]) == (State.RENAMED, "eve")
    assert states(plan(corpus, videos[0], face="left")) == [State.OTHER_FACE]


def test_other_settings_a_lost_clip_and_force_are_work(corpus: Corpus, videos: list[Path], tmp_path: Path) -> None:
    assert states(plan(corpus, *videos, force=True)) == [State.FORCED, State.FORCED, State.NEW]
    corpus.clip_path(corpus.of_path(str(videos[1]))[0]["id"]).unlink()
    assert states(plan(corpus, *videos)) == [State.DONE, State.LOST, State.NEW]
    other = Corpus.planned(corpus.folder, FeatureSettings(mfcc=20))
    assert states(plan(other, *videos)) == [State.OTHER_SETTINGS, State.OTHER_SETTINGS, State.NEW]


def test_what_cannot_be_read_is_work_that_will_say_why(corpus: Corpus, tmp_path: Path) -> None:
    gone, other = tmp_path / "gone.mp4", tmp_path / "gone too.mp4"
    for path in (gone, other):
        path.symlink_to(tmp_path / "nowhere")
    assert states(plan(corpus, gone, other)) == [State.NEW, State.NEW]


def test_rows_of_before_there_were_stamps_are_known_by_content(corpus: Corpus, videos: list[Path]) -> None:
    old = [{k: v for k, v in r.items() if k not in ("bytes", "modified_ns")} for r in corpus.rows]
    corpus.add(old)
    assert "bytes" not in corpus.rows[0]
    assert states(plan(corpus, *videos)) == [State.RENAMED, State.RENAMED, State.NEW]
