"""A corpus on disk: valid at any moment, read back as it was written, and split so that validation hears nothing new twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data.corpus import (
    Clip,
    Corpus,
    save_clip,
    settings_hash,
    settings_of,
)  # fmt: skip
from lipwright.data.errors import CorpusError
from lipwright.data.features import FeatureSettings
from lipwright.data.mouth import aperture, measure_speaker
from lipwright.data.splits import LEAST_SPLIT_S, SPLIT_GAP_S, VALIDATION_SHARE

FEATURES = FeatureSettings()


def clip(seconds: float = 2.0, seed: int = 0, rate: float = 25.0) -> Clip:
    rng = np.random.default_rng(seed)
    frames, steps = int(seconds * rate), int(seconds * 100) + 1
    valid = rng.random(frames) > 0.05
    mouth = rng.normal(0, 0.1, (frames, 40, 3)).astype(np.float32) * valid[:, None, None]
    return Clip(
        features=rng.normal(0, 1, (steps, 28)).astype(np.float32),
        audio=rng.integers(-9000, 9000, int(seconds * 16000)).astype(np.int16),
        other_sound=rng.random(steps) > 0.9,
        times_s=np.arange(frames) / rate,
        mouth=mouth,
        rotation=rng.normal(0, 1, (frames, 3, 3)),
        scale=rng.uniform(100, 200, frames),
        shift=rng.normal(0, 1, (frames, 3)),
        blendshapes=rng.random((frames, 52)).astype(np.float32),
        valid=valid,
    )


def row(
    name: str, speaker: str = "ann", start_s: float | None = 0.0, end_s: float | None = 10.0, **more: Any
) -> dict[str, Any]:
    return {
        "id": f"{name}-{round(1000 * (start_s or 0))}", "path": f"/videos/{name}.mp4", "sha256": name * 4,
        "speaker": speaker, "start_s": start_s, "end_s": end_s, "rate": "25", "frames": 250, "face_rate": 1.0,
        "face": None, "lag_ms": None, "split": None, "status": "ok", "reason": None,
        "settings_hash": settings_hash(settings_of(FEATURES)),
    } | more  # fmt: skip


def rejected(name: str, **more: Any) -> dict[str, Any]:
    return row(name, start_s=None, end_s=None, status="rejected", reason="no face") | more


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.create(tmp_path / "corpus", FEATURES)


# The folder -----------------------------------------------------------------------------------------------------------


def test_a_new_corpus_is_valid_and_empty(corpus: Corpus) -> None:
    assert files(corpus.folder) == ["corpus.json"]
    head = json.loads((corpus.folder / "corpus.json").read_text())
    assert (head["format"], head["version"]) == ("lipwright-corpus", 1)
    assert head["settings"]["features"] == FEATURES.to_dict()
    assert head["settings_hash"] == corpus.hash
    back = Corpus.load(corpus.folder)
    assert (back.rows, back.settings, back.hash) == ([], corpus.settings, corpus.hash)


def test_rows_come_back_as_they_were_added(corpus: Corpus) -> None:
    corpus.add([row("b"), rejected("a"), row("c", speaker="Zoë")])
    back = Corpus.load(corpus.folder)
    assert back.rows == corpus.rows
    assert {r["path"] for r in back.rows} == {f"/videos/{n}.mp4" for n in "abc"}
    assert len((corpus.folder / "manifest.jsonl").read_text().splitlines()) == 3
    assert sorted(r["id"] for r in back.usable) == ["b-0", "c-0"]
    assert next(r for r in back.rows if r["status"] == "rejected")["split"] is None


def test_the_manifest_does_not_depend_on_the_order_of_adding(tmp_path: Path) -> None:
    rows = [row("a"), row("b", speaker="bob"), rejected("c"), row("d", start_s=5.0), row("e")]
    manifests = []
    for k, order in enumerate(([0, 1, 2, 3, 4], [4, 2, 0, 3, 1])):
        corpus = Corpus.create(tmp_path / str(k), FEATURES)
        for i in order:
            corpus.add([dict(rows[i])])
        manifests.append((corpus.folder / "manifest.jsonl").read_bytes())
    assert manifests[0] == manifests[1]


def test_rows_of_the_same_source_are_replaced(corpus: Corpus) -> None:
    corpus.add([row("a"), row("b")])
    corpus.add([rejected("a")])
    assert sorted((r["id"], r["status"]) for r in corpus.rows) == [("a-0", "rejected"), ("b-0", "ok")]
    corpus.add([row("a", end_s=4.0), row("a", start_s=5.0)])
    assert [r["id"] for r in corpus.rows] == ["a-0", "a-5000", "b-0"]
    assert Corpus.load(corpus.folder).rows == corpus.rows


def test_a_renamed_source_is_the_same_source(corpus: Corpus) -> None:
    corpus.add([row("a", speaker="a.mp4"), row("b")])
    corpus.add([row("a", path="/videos/new.mp4", speaker="new.mp4")])
    assert sorted(r["path"] for r in corpus.rows) == ["/videos/b.mp4", "/videos/new.mp4"]


def test_clips_that_no_row_names_are_gone(corpus: Corpus) -> None:
    corpus.add([row("a", end_s=4.0), row("a", start_s=5.0), row("b")])
    for name in ("a-0", "a-5000", "b-0"):
        corpus.save_clip(name, clip())
    corpus.add([row("a", end_s=4.0), row("a", start_s=5.0, status="rejected", reason="no face")])
    assert [p for p in files(corpus.folder) if p.startswith("clips")] == ["clips/a-0.safetensors", "clips/b-0.safetensors"]


def test_what_was_made_with_other_settings_is_not_mixed_in(corpus: Corpus) -> None:
    corpus.add([row("a", settings_hash="earlier"), row("b")])
    assert [r["id"] for r in corpus.usable] == ["b-0"]
    assert [r["id"] for r in corpus.stale] == ["a-0"]
    assert corpus.find("a" * 4) == []


def test_opening_again_keeps_what_is_there(corpus: Corpus) -> None:
    corpus.add([row("a")])
    corpus.save_clip("a-0", clip())
    again = Corpus.create(corpus.folder, FEATURES)
    assert again.rows == corpus.rows
    assert files(corpus.folder) == ["clips/a-0.safetensors", "corpus.json", "manifest.jsonl"]


# One at a time ---------------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_and_told_who_is_there(corpus: Corpus) -> None:
    other = Corpus.load(corpus.folder)
    with corpus.alone():
        with pytest.raises(CorpusError, match=rf"is being worked on by process {os.getpid()} on .*; wait"):
            other.add([row("a")])
        with pytest.raises(CorpusError, match="worked on by"), other.alone():
            pass
        with pytest.raises(CorpusError, match="worked on by"):  # its settings would change under the first
            Corpus.create(corpus.folder, FeatureSettings(mfcc=20))
        corpus.add([row("b")])
        assert [r["id"] for r in Corpus.load(corpus.folder).rows] == ["b-0"]  # who only looks is let in
    other.add([row("a")])
    assert [r["id"] for r in Corpus.load(corpus.folder).rows] == ["a-0", "b-0"]


def test_a_killed_run_leaves_all_that_it_finished_and_locks_nobody_out(corpus: Corpus) -> None:
    script = f"""
import os, signal
from pathlib import Path
from lipwright.data.corpus import Corpus
corpus = Corpus.load(Path({str(corpus.folder)!r}))
with corpus.alone():
    corpus.add([{row("a")!r}])
    corpus.add([{row("b")!r}])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = corpus.folder / "clips" / ".b-0.safetensors.4711-1.partial"
    left.write_bytes(b"half")
    assert "journal.jsonl" in files(corpus.folder)
    assert [r["id"] for r in Corpus.load(corpus.folder).rows] == ["a-0", "b-0"]
    with corpus.alone():
        assert files(corpus.folder) == ["corpus.json", "manifest.jsonl"]
        assert [r["id"] for r in corpus.rows] == ["a-0", "b-0"]


def test_what_was_added_before_an_error_is_in_the_manifest(corpus: Corpus) -> None:
    with pytest.raises(KeyboardInterrupt), corpus.alone():
        corpus.add([row("a")])
        corpus._manifest.put([row("b")])  # Ctrl-C came before it was noted
        raise KeyboardInterrupt
    assert files(corpus.folder) == ["corpus.json", "manifest.jsonl"]
    assert [r["id"] for r in Corpus.load(corpus.folder).rows] == ["a-0"]


def test_rows_that_replace_all_others_take_their_clips_with_them(corpus: Corpus) -> None:
    corpus.add([row("a"), row("b"), row("c")])
    for name in ("a-0", "b-0", "c-0"):
        corpus.save_clip(name, clip())
    with corpus.alone():
        corpus.replace([r for r in corpus.rows if r["id"] != "b-0"])
    assert [r["id"] for r in Corpus.load(corpus.folder).rows] == ["a-0", "c-0"]
    assert [p for p in files(corpus.folder) if p.startswith("clips")] == ["clips/a-0.safetensors", "clips/c-0.safetensors"]


@pytest.mark.parametrize(
    "left", [["clips/"], ["clips/", ".corpus.json.4711-1.partial"], [".corpus.json.4711-1.partial"]], ids=str
)
def test_a_run_that_ended_before_there_was_a_corpus_is_begun_again(tmp_path: Path, left: list[str]) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in left:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("{")
    assert Corpus.create(folder, FEATURES).rows == []
    assert Corpus.load(folder).rows == []


def test_clips_without_a_corpus_are_not_taken_for_an_empty_folder(corpus: Corpus) -> None:
    corpus.save_clip("a-0", clip())
    (corpus.folder / "corpus.json").unlink()
    with pytest.raises(CorpusError, match="exists and is not a corpus"):
        Corpus.create(corpus.folder, FEATURES)


def test_a_plan_for_a_folder_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert Corpus.planned(tmp_path / "corpus", FEATURES).rows == []
    assert list(tmp_path.iterdir()) == []


# Clips ----------------------------------------------------------------------------------------------------------------


def test_a_clip_comes_back_bit_for_bit(corpus: Corpus) -> None:
    given = clip()
    corpus.save_clip("a-0", given)
    back = corpus.load_clip("a-0")
    for name, values in vars(given).items():
        assert getattr(back, name).dtype == values.dtype
        np.testing.assert_array_equal(getattr(back, name), values)


def test_arrays_of_any_layout_are_written_right(corpus: Corpus) -> None:
    given = clip()
    backwards = Clip(**(vars(given) | {"mouth": np.asfortranarray(given.mouth), "audio": given.audio[::-1]}))
    corpus.save_clip("a-0", backwards)
    back = corpus.load_clip("a-0")
    np.testing.assert_array_equal(back.mouth, given.mouth)
    np.testing.assert_array_equal(back.audio, given.audio[::-1])


def test_the_mouth_of_a_clip_stands_on_the_features_grid() -> None:
    given = clip(seconds=3.0)
    track = given.mouth_track(measure_speaker(given.mouth[given.valid]))
    assert len(track.xyz) == len(given.features)
    steps = np.round(given.times_s * 100).astype(int)
    np.testing.assert_allclose(track.xyz[steps][given.valid], given.mouth[given.valid], atol=1e-6)
    assert not track.valid[given.other_sound].any()
    assert track.valid[steps[given.valid & ~given.other_sound[steps]]].all()
    assert not track.valid[steps.max() + 1 :].any()
    opening = aperture(given.mouth[given.valid])
    assert track.speaker.scale == pytest.approx(np.percentile(opening, 90) - np.percentile(opening, 5), abs=1e-5)


def test_writing_is_all_or_nothing(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.save_clip("a-0", clip())
    before = files(corpus.folder)
    broken = Clip(**(vars(clip()) | {"audio": np.array([object()])}))
    with pytest.raises(Exception):  # noqa: B017, PT011
        corpus.save_clip("a-0", broken)
    corpus.load_clip("a-0")
    (corpus.folder / "clips" / "b-0.safetensors").mkdir()
    with pytest.raises(OSError):  # noqa: PT011
        corpus.save_clip("b-0", clip())
    assert files(corpus.folder) == before


def test_whoever_reads_a_file_reads_it_whole(corpus: Corpus) -> None:
    corpus.add([row("a")])
    corpus.save_clip("a-0", clip())
    paths = [corpus.clip_path("a-0"), corpus.folder / "manifest.jsonl", corpus.folder / "corpus.json"]
    before = [path.read_bytes() for path in paths]
    readers = [path.open("rb") for path in paths]
    corpus.save_clip("a-0", clip(seed=1))
    corpus.add([row("b")])
    Corpus.create(corpus.folder, FeatureSettings(mfcc=20))
    assert [reader.read() for reader in readers] == before
    assert all(path.read_bytes() != old for path, old in zip(paths, before, strict=True))
    for reader in readers:
        reader.close()


def test_a_partial_file_of_a_killed_process_is_not_a_clip(corpus: Corpus) -> None:
    corpus.add([row("a")])
    (corpus.folder / "clips" / ".a-0.safetensors.4711.partial").write_bytes(b"half")
    assert corpus.find("aaaa") == []
    with pytest.raises(CorpusError):
        corpus.load_clip("a-0")


@pytest.mark.parametrize("content", [None, b"", b"garbage", "truncated", "other arrays"])
def test_a_broken_clip_is_named(corpus: Corpus, content: bytes | str | None) -> None:
    from safetensors.numpy import save

    path = corpus.clip_path("a-0")
    save_clip(path, clip())
    if content is None:
        path.unlink()
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif content == "other arrays":
        path.write_bytes(save({"features": np.zeros(3, np.float32)}))
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"a-0\.safetensors is missing or broken"):
        corpus.load_clip("a-0")


# Resuming -------------------------------------------------------------------------------------------------------------


def test_what_is_done_is_found_and_nothing_else(corpus: Corpus) -> None:
    corpus.add([row("a"), row("b"), rejected("c")])
    corpus.save_clip("a-0", clip())
    assert [r["id"] for r in corpus.find("aaaa")] == ["a-0"]
    assert corpus.find("bbbb") == []  # its clip is gone
    assert [r["status"] for r in corpus.find("cccc")] == ["rejected"]  # needs none
    assert corpus.find("dddd") == []


def test_a_source_of_several_segments_is_found_whole_or_not_at_all(corpus: Corpus) -> None:
    corpus.add([row("a", end_s=4.0), row("a", start_s=5.0)])
    corpus.save_clip("a-0", clip())
    assert corpus.find("aaaa") == []
    corpus.save_clip("a-5000", clip())
    assert [r["id"] for r in corpus.find("aaaa")] == ["a-0", "a-5000"]


def test_other_settings_find_nothing(corpus: Corpus) -> None:
    corpus.add([row("a")])
    corpus.save_clip("a-0", clip())
    other = Corpus.create(corpus.folder, FeatureSettings(mfcc=20))
    assert other.hash != corpus.hash
    assert other.find("aaaa") == []
    assert Corpus.load(corpus.folder).hash == other.hash


def test_the_hash_is_of_the_content_not_of_the_order() -> None:
    assert settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


# Broken corpora -------------------------------------------------------------------------------------------------------


def _head(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "corpus.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return apply


def _manifest(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "manifest.jsonl").write_bytes(content) and None


BROKEN: dict[str, Callable[[Path], None]] = {
    "no corpus.json": lambda folder: (folder / "corpus.json").unlink(),
    "empty corpus.json": lambda folder: (folder / "corpus.json").write_bytes(b"") and None,
    "corpus.json of bytes": lambda folder: (folder / "corpus.json").write_bytes(b"\xff\xfe\x00") and None,
    "corpus.json is a list": _head(lambda head: [head]),
    "another version": _head(lambda head: head | {"version": 2}),
    "no version": _head(lambda head: {k: v for k, v in head.items() if k != "version"}),
    "another format": _head(lambda head: head | {"format": "lipwright-model"}),
    "no settings": _head(lambda head: {k: v for k, v in head.items() if k != "settings"}),
    "settings are text": _head(lambda head: head | {"settings": "default"}),
    "manifest cut off": _manifest(b'{"id": "a-0", "path": "/vid'),
    "manifest of bytes": _manifest(b"\xff\xfe\x00"),
    "a row is a number": _manifest(b"7\n"),
    "a row is a list": _manifest(b"[]\n"),
    "a row without keys": _manifest(b'{"id": "a-0"}\n'),
    "a row without status": _manifest((json.dumps({k: v for k, v in row("a").items() if k != "status"}) + "\n").encode()),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_corpus_is_named(corpus: Corpus, what: str) -> None:
    corpus.add([row("a")])
    Corpus.load(corpus.folder)
    BROKEN[what](corpus.folder)
    with pytest.raises(CorpusError) as caught:
        Corpus.load(corpus.folder)
    assert str(corpus.folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_missing_folder_and_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(CorpusError, match=name):
            Corpus.load(tmp_path / name)


def test_another_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(CorpusError, match=f"{name} exists and is not a corpus"):
            Corpus.create(tmp_path / name, FEATURES)
    assert files(tmp_path) == ["file", "photos/cat.jpg"]


def test_a_corpus_of_another_version_is_left_as_it_is(corpus: Corpus) -> None:
    BROKEN["another version"](corpus.folder)
    before = (corpus.folder / "corpus.json").read_bytes()
    with pytest.raises(CorpusError, match="version 2"):
        Corpus.create(corpus.folder, FEATURES)
    assert (corpus.folder / "corpus.json").read_bytes() == before


def test_an_empty_folder_and_a_deep_one_become_corpora(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/er/corpus"):
        Corpus.create(tmp_path / name, FEATURES)
        assert Corpus.load(tmp_path / name).rows == []


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_read_is_named(corpus: Corpus) -> None:
    (corpus.folder / "corpus.json").chmod(0)
    with pytest.raises(CorpusError, match="broken"):
        Corpus.load(corpus.folder)


# The split ------------------------------------------------------------------------------------------------------------


def on_one_line(rows: list[dict[str, Any]], kind: str) -> list[tuple[float, float]]:
    """The spans of a speaker's clips laid end to end."""
    spans, before = [], 0.0
    for r in rows:
        if (span := r["split"][kind]) is not None:
            assert r["start_s"] - 1e-9 <= span[0] < span[1] <= r["end_s"] + 1e-9
            spans.append((before + span[0] - r["start_s"], before + span[1] - r["start_s"]))
        before += r["end_s"] - r["start_s"]
    return spans


@pytest.mark.parametrize(
    "lengths",
    [[100.0], [60.0, 40.0], [10.0] * 10, [84.5, 15.5], [85.0, 15.0], [85.5, 14.5], [3.0, 90.0, 7.0], [99.0, 0.5, 0.5],
     list(np.random.default_rng(0).uniform(0.3, 20, 30)), list(np.random.default_rng(1).uniform(0.3, 2, 60))],
)  # fmt: skip
@pytest.mark.parametrize("start_s", [0.0, 12.5])
def test_the_last_part_of_a_speakers_time_is_held_out(corpus: Corpus, lengths: list[float], start_s: float) -> None:
    lengths = [round(length, 3) for length in lengths]
    rows = [row(f"c{k:02}", start_s=start_s, end_s=round(start_s + length, 3)) for k, length in enumerate(lengths)]
    corpus.add([*rows, row("z", speaker="bob", end_s=500.0), rejected("y")])
    own = [r for r in corpus.usable if r["speaker"] == "ann"]
    total = sum(lengths)
    train, validation = on_one_line(own, "train"), on_one_line(own, "validation")
    border = (1 - VALIDATION_SHARE) * total
    slack = 0.001 * len(lengths) + 0.002  # times are written in milliseconds
    assert sum(b - a for a, b in train) == pytest.approx(border, abs=slack)
    assert sum(b - a for a, b in validation) == pytest.approx(total - border - SPLIT_GAP_S, abs=slack)
    assert train[-1][1] == pytest.approx(border, abs=slack)
    assert validation[0][0] == pytest.approx(border + SPLIT_GAP_S, abs=slack)
    for a, b in pairwise(train + validation):
        assert a[1] <= b[0] + 0.0011


@pytest.mark.parametrize("count", [1, 6, 7, 20, 100])
def test_of_many_speakers_with_little_time_some_are_for_validation(corpus: Corpus, count: int) -> None:
    lengths_s = np.random.default_rng(0).uniform(3, LEAST_SPLIT_S - 0.1, count)
    corpus.add([row(f"{k:03}", speaker=f"{k:03}", end_s=float(s)) for k, s in enumerate(lengths_s)])
    sides = [r["split"] for r in corpus.rows]
    assert all((s["train"] is None) != (s["validation"] is None) for s in sides)
    judged = sum(s["validation"][1] for s in sides if s["validation"])
    assert judged <= VALIDATION_SHARE * lengths_s.sum()
    if count >= 20:
        assert judged > 0.6 * VALIDATION_SHARE * lengths_s.sum()


def test_speakers_are_split_each_for_themselves(corpus: Corpus) -> None:
    corpus.add([row("a", end_s=100.0), row("b", speaker="bob", end_s=20.0)])
    splits = {r["speaker"]: r["split"] for r in corpus.rows}
    assert splits["ann"] == {"train": [0.0, 85.0], "validation": [86.0, 100.0]}
    assert splits["bob"] == {"train": [0.0, 17.0], "validation": [18.0, 20.0]}


def test_too_short_a_speaker_validates_nothing(corpus: Corpus) -> None:
    corpus.add([row("a", end_s=5.0)])
    assert corpus.rows[0]["split"] == {"train": [0.0, 5.0], "validation": None}


def test_a_new_clip_moves_the_border(corpus: Corpus) -> None:
    corpus.add([row("a", end_s=100.0)])
    corpus.add([row("b", end_s=100.0)])
    assert [r["split"] for r in corpus.rows] == [
        {"train": [0.0, 100.0], "validation": None},
        {"train": [0.0, 70.0], "validation": [71.0, 100.0]},
    ]
    corpus.add([rejected("b")])
    assert corpus.usable[0]["split"] == {"train": [0.0, 85.0], "validation": [86.0, 100.0]}
