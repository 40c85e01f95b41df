"""Corpora are looked at, measured, put together, pruned and passed on, and never left half done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lipwright.data.corpus import Clip, Corpus
from lipwright.data.errors import CorpusError, InputError, MissingPartError, OutputExistsError
from lipwright.data.features import FeatureSettings
from lipwright.data.landmarks import FaceTrack
from lipwright.data.manifest import Row
from lipwright.pipeline import (
    cli,
    export_corpus,
    list_corpus,
    measure_corpora,
    merge_corpora,
    parquet,
    preprocess_corpus,
    prune_corpus,
)

LIPWRIGHT = [sys.executable, "-c", "from lipwright.pipeline.cli import main; main()"]
FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"


def clip(length_s: float = 1.0, seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    frames, steps = round(25 * length_s), round(100 * length_s)
    return Clip(
        features=rng.normal(0, 1, (steps, 28)).astype(np.float32),
        audio=rng.integers(-32768, 32767, 160 * steps).astype(np.int16),
        other_sound=rng.random(steps) > 0.5,
        times_s=np.arange(frames) / 25,
        mouth=rng.normal(0, 1, (frames, 40, 3)).astype(np.float32),
        rotation=rng.normal(0, 1, (frames, 3, 3)),
        scale=rng.uniform(1, 2, frames),
        shift=rng.normal(0, 1, (frames, 3)),
        blendshapes=rng.random((frames, 52)).astype(np.float32),
        valid=rng.random(frames) > 0.5,
    )


def segment(
    source: int, start_s: float | None = 0.0, end_s: float | None = 10.0, reason: str | None = None, **more: Any
) -> Row:
    sha256 = f"{source:08x}" * 8
    return {
        "id": f"{sha256[:12]}-{round(1000 * (start_s or 0))}", "path": f"/videos/{source}.mp4", "sha256": sha256,
        "bytes": 1000, "modified_ns": 10**18 + source, "speaker": "ann", "face": None, "start_s": start_s, "end_s": end_s,
        "rate": "30000/1001", "frames": 250, "face_rate": 0.9, "lag_ms": 20.0, "lag_confidence": 5.0, "lag_corrected": False,
        "other_sound_s": 0.0, "split": None, "status": "rejected" if reason else "ok", "reason": reason,
    } | more  # fmt: skip


Maker = Callable[..., Corpus]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Return the maker of a corpus of rows, a clip for each that is usable: `make(name, rows)`."""

    def corpus(name: str, rows: Sequence[Row], features: FeatureSettings | None = None) -> Corpus:
        made = Corpus.create(tmp_path / name, features or FeatureSettings())
        made.add([{"settings_hash": made.hash} | row for row in rows])
        for k, row in enumerate(made.rows):
            if row["status"] == "ok":
                made.save_clip(row["id"], clip(seed=k))
        return made

    return corpus


@pytest.fixture
def run() -> Iterator[CliRunner]:
    """Run commands in this process; their signal handlers are put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield CliRunner()
    for number, handler in before.items():
        signal.signal(number, handler)


def files(folder: Path) -> dict[str, bytes]:
    """Whatever is there and has a meaning: not the lock."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: content for name, content in found.items() if "lock" not in name}


def ids(rows: Sequence[Row]) -> list[str]:
    return [row["id"] for row in rows]


MIXED = [
    segment(1, end_s=30.0),
    segment(1, 30.0, 34.5, "no face"),
    segment(1, 34.5, 50.0),
    segment(2, end_s=20.0, speaker="bob", rate="25", lag_ms=230.0, lag_confidence=9.0, lag_corrected=True),
    segment(2, 20.0, 21.0, "too short", speaker="bob", rate="25", lag_ms=230.0, lag_confidence=9.0, lag_corrected=True),
    segment(3, speaker="bob", rate="variable", lag_ms=-400.0, lag_confidence=1.0),
    segment(4, None, None, "/videos/4.mp4 has no audio stream", speaker="bob", rate=None, lag_ms=None, lag_confidence=None),
]
"""Four videos of two people."""


# List -----------------------------------------------------------------------------------------------------------------


def test_rows_are_listed_and_chosen(make: Maker) -> None:
    corpus = make("corpus", MIXED)
    assert list_corpus(corpus.folder) == {"corpus": str(corpus.folder), "rows": corpus.rows}
    bobs = list_corpus(corpus.folder, speaker="bob", rejected=True)["rows"]
    assert [(r["speaker"], r["reason"]) for r in bobs] == [("bob", "too short"), ("bob", "/videos/4.mp4 has no audio stream")]
    with pytest.raises(CorpusError, match=r"nobody in .*corpus is called bo; there are ann, bob"):
        list_corpus(corpus.folder, speaker="bo")


def test_every_segment_is_a_line_in_aligned_columns(make: Maker, run: CliRunner) -> None:
    corpus = make("corpus", [*MIXED, segment(5, speaker="张伟", path="/videos/a\nb\udc80\x1b[2J.mp4")])
    lines = run.invoke(cli.app, ["corpus", "list", str(corpus.folder)]).stdout.splitlines()
    assert len(lines) == 1 + len(corpus.rows)
    head, *rows = lines
    assert head.split() == ["id", "speaker", "from–to", "s", "rate", "face", "lag", "ms", "split", "status", "video"]
    where = {name: head.index(name) for name in ("id", "speaker", "status", "video")}
    for line, row in zip(rows, corpus.rows, strict=True):
        wide = row["speaker"] == "张伟"  # whose name has two characters in four cells
        cells = line.split()
        assert line.startswith(row["id"])
        assert line.index(row["speaker"]) == where["speaker"]
        assert (
            line.index(row["reason"] if row["start_s"] is not None and row["reason"] else row["status"])
            == where["status"] - 2 * wide
        )
        assert line[where["video"] - 2 * wide :].startswith(Path(row["path"]).name[:1])
        assert ("230→0" in line[: where["status"]]) == bool(row["lag_corrected"])
        assert ("?" in cells) == (row["lag_confidence"] == 1.0)
    refused = rows[ids(corpus.rows).index(segment(4)["id"])]
    assert refused.endswith(" 4.mp4 has no audio stream")
    assert refused.split()[-7:-5] == ["–", "rejected"]
    assert rows[ids(corpus.rows).index(segment(5)["id"])].endswith("a?b??[2J.mp4")
    assert "0:34.5–0:50.0" in rows[2]
    assert "29.97" in rows[0]


def test_the_document_of_a_list_is_the_manifest(make: Maker, run: CliRunner) -> None:
    corpus = make("corpus", MIXED)
    done = run.invoke(cli.app, ["corpus", "list", str(corpus.folder), "--json"])
    assert json.loads(done.stdout) == {"corpus": str(corpus.folder), "rows": corpus.rows}
    empty = make("empty", [])
    assert json.loads(run.invoke(cli.app, ["corpus", "list", str(empty.folder), "--json"]).stdout)["rows"] == []


def long_corpus(make: Maker, count: int) -> Path:
    """Return a corpus of so many rows, ten a source, whose clips are missing."""
    folder = make("corpus", []).folder
    row = segment(0) | {"settings_hash": Corpus.load(folder).hash, "split": {"train": [0.0, 10.0], "validation": None}}
    line = json.dumps(row | {"id": "%012x-0", "sha256": "%064x"})
    (folder / "manifest.jsonl").write_text("\n".join(line % (k, k // 10) for k in range(count)))
    return folder


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_reader_of_a_long_list_may_stop(make: Maker, option: list[str]) -> None:
    command = [*LIPWRIGHT, "corpus", "list", str(long_corpus(make, 2000)), *option]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # it loses what does not fit
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert b"000000000000-0" in [listing.stdout.readline() for _ in range(2)][1]
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 0


def test_tens_of_thousands_of_rows(make: Maker, run: CliRunner) -> None:
    folder = long_corpus(make, 20_000)
    assert run.invoke(cli.app, ["corpus", "list", str(folder)]).stdout.count("\n") == 20_001
    numbers = measure_corpora([folder])["all"]
    assert (numbers["sources"], numbers["clips"], numbers["missing_clips"]) == (2_000, 20_000, 20_000)
    assert (numbers["kept_s"], numbers["lag"]["sure"]) == (2e5, 2_000)


# Stats ----------------------------------------------------------------------------------------------------------------


def test_the_numbers_are_the_manifests(make: Maker) -> None:
    corpus = make("corpus", MIXED)
    (numbers,) = measure_corpora([corpus.folder])["corpora"]
    assert (numbers["sources"], numbers["rejected"], numbers["clips"], numbers["speakers"]) == (4, 1, 4, 2)
    assert numbers["kept_s"] == 75.5
    assert list(numbers["left_out_s"].items()) == [("no face", 4.5), ("too short", 1.0)]
    assert list(numbers["most_heard_s"].items()) == [("ann", 45.5), ("bob", 30.0)]
    assert numbers["train_s"] == pytest.approx(0.85 * 75.5, abs=0.01)
    assert numbers["validation_s"] == pytest.approx(0.15 * 75.5 - 2, abs=0.01)  # a gap of a second for each speaker
    assert numbers["rates"] == {"30000/1001": 1, "25": 1, "variable": 1}
    assert numbers["lag"] == {
        "measured": 3, "sure": 2, "corrected": 1, "p5_ms": 30.5, "median_ms": 125.0, "p95_ms": 219.5,
    }  # fmt: skip
    assert numbers["settings_hash"] == corpus.hash
    assert (numbers["stale"], numbers["missing_clips"]) == (0, 0)
    assert numbers["bytes"] == sum(p.stat().st_size for p in corpus.folder.rglob("*") if p.is_file())
    assert numbers["mb_per_hour"] == pytest.approx(numbers["bytes"] / 1e6 / (75.5 / 3600), abs=0.1)


def test_what_cannot_be_trained_on_is_told_and_not_counted(make: Maker) -> None:
    corpus = make("corpus", [segment(1), segment(2, settings_hash="earlier"), segment(3)])
    corpus.clip_path(segment(3)["id"]).unlink()
    (numbers,) = measure_corpora([corpus.folder])["corpora"]
    assert (numbers["stale"], numbers["missing_clips"], numbers["sources"], numbers["kept_s"]) == (1, 1, 2, 20.0)


def test_all_counts_a_source_once(make: Maker) -> None:
    one, two = make("one", [segment(1), segment(2)]), make("two", [segment(2), segment(3, speaker="bob")])
    numbers = measure_corpora([one.folder, two.folder])
    assert [c["corpus"] for c in numbers["corpora"]] == [str(one.folder), str(two.folder)]
    whole = numbers["all"]
    assert (whole["twice"], whole["sources"], whole["clips"], whole["kept_s"]) == (1, 3, 3, 30.0)
    assert whole["most_heard_s"] == {"ann": 20.0, "bob": 10.0}
    assert whole["bytes"] == sum(c["bytes"] for c in numbers["corpora"])


def test_an_empty_corpus_has_numbers_and_words(make: Maker, run: CliRunner) -> None:
    empty, full = make("empty", []), make("full", MIXED)
    assert measure_corpora([empty.folder])["all"]["mb_per_hour"] is None
    done = run.invoke(cli.app, ["corpus", "stats", str(empty.folder), str(full.folder)])
    assert done.exit_code == 0
    table = {line[:20].strip(): line.split()[-2:] for line in done.stdout.splitlines()}
    assert done.stdout.splitlines()[0].split() == ["empty", "full", "in", "all"]
    assert re.search(r"^videos +– +4 +4$", done.stdout, re.MULTILINE)
    assert re.search(r"^kept +0\.0 s +1 min 16 s +1 min 16 s$", done.stdout, re.MULTILINE)
    assert table["settings"] == [full.hash, full.hash]


# Merge ----------------------------------------------------------------------------------------------------------------


def test_a_merged_corpus_is_as_if_it_had_been_made_at_once(make: Maker, tmp_path: Path) -> None:
    one, two = make("one", MIXED[:3]), make("two", MIXED[3:])
    at_once = make("once", MIXED)
    report = merge_corpora([one.folder, two.folder], tmp_path / "both")
    both = Corpus.load(tmp_path / "both")
    assert both.rows == at_once.rows
    assert both.settings == one.settings
    for corpus in (one, two):
        for row in corpus.usable:
            assert both.clip_path(row["id"]).samefile(corpus.clip_path(row["id"]))
    assert report == {
        "out": str(tmp_path / "both"), "sources": 4, "speakers": 2, "clips": 4, "seconds": 75.5, "linked": 4, "copied": 0,
        "twice": 0, "stale": 0,
    }  # fmt: skip


def test_where_files_cannot_have_two_names_they_are_copied(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make("one", [segment(1)])

    def link(source: Path, to: Path) -> None:
        raise OSError(18, "Invalid cross-device link", str(source))

    monkeypatch.setattr(os, "link", link)
    report = merge_corpora([one.folder], tmp_path / "both")
    assert (report["linked"], report["copied"]) == (0, 1)
    own, copied = one.clip_path(segment(1)["id"]), tmp_path / "both" / "clips" / f"{segment(1)['id']}.safetensors"
    assert copied.read_bytes() == own.read_bytes()
    assert not copied.samefile(own)


def test_of_a_source_in_several_the_first_with_a_clip_counts(make: Maker, tmp_path: Path) -> None:
    refused = segment(2, None, None, "/videos/2.mp4 shows several faces")
    one = make("one", [segment(1, speaker="ann"), refused])
    two = make("two", [segment(1, end_s=4.0, speaker="other"), segment(1, 5.0, speaker="other"), segment(2), segment(3)])
    report = merge_corpora([one.folder, two.folder], tmp_path / "both")
    both = Corpus.load(tmp_path / "both")
    assert ids(both.rows) == ids([segment(1), segment(2), segment(3)])
    assert both.usable == both.rows
    assert {row["speaker"] for row in both.rows} == {"ann"}
    assert (report["twice"], report["sources"]) == (2, 3)
    assert sorted(p.stem for p in (both.folder / "clips").iterdir()) == sorted(ids(both.rows))
    np.testing.assert_array_equal(both.load_clip(both.rows[0]["id"]).mouth, one.load_clip(both.rows[0]["id"]).mouth)


def test_what_was_made_with_other_settings_is_not_merged(make: Maker, tmp_path: Path) -> None:
    one = make("one", [segment(1, settings_hash="earlier"), segment(2)])
    two = make("two", [segment(1)])
    report = merge_corpora([one.folder, two.folder], tmp_path / "both")
    assert (report["stale"], report["sources"], report["twice"]) == (1, 2, 0)
    assert Corpus.load(tmp_path / "both").stale == []
    other = make("other", [segment(3)], FeatureSettings(mfcc=20))
    with pytest.raises(CorpusError, match=rf"one and .*other were made with different settings .*{one.hash}.*{other.hash}"):
        merge_corpora([one.folder, other.folder], tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_an_existing_corpus_is_replaced_only_if_asked_for(make: Maker, tmp_path: Path) -> None:
    one, old = make("one", [segment(1)]), make("old", [segment(2)])
    before = files(old.folder)
    with pytest.raises(OutputExistsError, match="old already exists"):
        merge_corpora([one.folder], old.folder)
    with old.alone(), pytest.raises(CorpusError, match="being worked on"):
        merge_corpora([one.folder], old.folder, force=True)
    assert files(old.folder) == before
    merge_corpora([one.folder, old.folder], old.folder, force=True)
    assert ids(Corpus.load(old.folder).rows) == ids([segment(1), segment(2)])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(CorpusError, match="photos exists and is not a corpus"):
        merge_corpora([one.folder], tmp_path / "photos", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old", "one", "photos"]
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_corpus_that_appears_meanwhile_is_not_replaced(make: Maker, tmp_path: Path) -> None:
    one = make("one", [segment(1)])

    def somebody_else(*_: Any) -> None:
        make("both", [segment(2)])

    with pytest.raises(OutputExistsError, match="both already exists"):
        merge_corpora([one.folder], tmp_path / "both", progress=somebody_else)
    assert ids(Corpus.load(tmp_path / "both").rows) == ids([segment(2)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["both", "one"]


def test_a_merge_is_whole_or_not_at_all(make: Maker, tmp_path: Path) -> None:
    one = make("one", [segment(1), segment(2)])

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_corpora([one.folder], tmp_path / "both", progress=stop)
    one.clip_path(segment(2)["id"]).unlink()
    with pytest.raises(CorpusError, match=r"000000020000-0\.safetensors is missing"):
        merge_corpora([one.folder], tmp_path / "both")
    assert [p.name for p in tmp_path.iterdir()] == ["one"]


KILLED = """
import os, signal, sys
from pathlib import Path
from lipwright.pipeline import merge_corpora

left, rename = int(sys.argv[1]), Path.rename

def then_end(path, to):
    global left
    rename(path, to)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

Path.rename = then_end
merge_corpora([sys.argv[2]], sys.argv[3], force=True)
"""


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_a_merge_that_is_killed_while_it_replaces_a_corpus_loses_none(make: Maker, tmp_path: Path, renames: int) -> None:
    one, old = make("one", [segment(1)]), make("old", [segment(2)])
    before, new = files(old.folder), files(make("new", [segment(1)]).folder)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(renames), one.folder, old.folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert old.folder.exists() == (renames > 1)
    assert len(list(tmp_path.glob(".old.*"))) == 2 - (renames > 1)
    with pytest.raises(OutputExistsError, match="old already exists"):
        merge_corpora([one.folder], old.folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old", "one"]
    now = files(old.folder)
    assert now == before if renames == 1 else now.keys() == new.keys()
    assert ids(Corpus.load(old.folder).rows) == ids([segment(2 if renames == 1 else 1)])
    merge_corpora([one.folder], old.folder, force=True)
    assert ids(Corpus.load(old.folder).rows) == ids([segment(1)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old", "one"]


def test_what_a_living_merge_moved_aside_is_left_to_it(make: Maker, tmp_path: Path) -> None:
    one, old = make("one", [segment(1)]), make("old", [segment(2)])
    aside = old.folder.rename(tmp_path / f".old.{os.getppid()}-1.old")
    merge_corpora([one.folder], old.folder)
    assert ids(Corpus.load(aside).rows) == ids([segment(2)])


def test_nobody_works_on_a_corpus_while_another_takes_its_place(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, old = make("one", [segment(1)]), make("old", [segment(2)])
    rename, seen = Path.rename, []

    def looked_at(path: Path, to: Path) -> Path:
        for moment in (lambda: None, lambda: rename(path, to)):
            moment()
            if old.folder.exists():
                seen.append(ids(Corpus.load(old.folder).rows))
                with pytest.raises(CorpusError, match="being worked on"), Corpus.load(old.folder).alone():
                    pass
        return to

    monkeypatch.setattr(Path, "rename", looked_at)
    merge_corpora([one.folder], old.folder, force=True)
    assert seen == [ids([segment(n)]) for n in (2, 1, 1, 1)]
    assert files(old.folder).keys() == files(one.folder).keys()


def test_a_corpus_is_back_when_none_can_take_its_place(make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, old = make("one", [segment(1)]), make("old", [segment(2)])
    before, rename = files(old.folder), Path.rename

    def stop(path: Path, to: Path) -> Path:
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        merge_corpora([one.folder], old.folder, force=True)
    assert files(old.folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old", "one"]


# Prune ----------------------------------------------------------------------------------------------------------------


def test_what_nobody_can_use_goes_and_nothing_else(make: Maker) -> None:
    corpus = make("corpus", [*MIXED, segment(5, settings_hash="earlier"), segment(6, None, None, "dark", settings_hash="old")])
    clean = make("clean", MIXED)
    folder = corpus.folder
    lost = [folder / "clips" / "ffffffffffff-0.safetensors", corpus.clip_path(segment(4)["id"])]
    for path in [*lost, folder / ".report.html.4711-1.partial"]:
        path.write_bytes(b"left")
    others = [folder / "notes.txt", folder / "clips" / "README"]
    for path in [*others, folder / "report.html"]:
        path.write_bytes(b"mine")
    stale_bytes = corpus.clip_path(segment(5)["id"]).stat().st_size
    (folder / "clips" / ".x-0.safetensors.4711-1.partial").write_bytes(b"half")
    before = files(folder)
    told = prune_corpus(folder, dry_run=True)
    assert files(folder) == before
    report = prune_corpus(folder)
    assert report == told | {"dry_run": False}
    assert (report["rows"], report["reasons"]) == (2, {"other settings": 2})
    assert (report["clips"], report["temporary"], report["bytes"]) == (3, 2, stale_bytes + 16)
    assert Corpus.load(folder).rows == clean.rows
    assert set(files(folder)) == {*files(clean.folder), "notes.txt", "clips/README"}
    assert prune_corpus(folder)["bytes"] == 0


def test_a_dry_run_touches_nothing(make: Maker) -> None:
    corpus = make("corpus", [*MIXED, segment(5, settings_hash="earlier")])
    folder = corpus.folder

    def everything() -> dict[Path, tuple[Any, ...]]:
        looks = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
        return {path: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in looks.items()}

    corpus._manifest.note([segment(6, speaker="cleo", settings_hash=corpus.hash)])  # of a run that was killed
    (folder / "clips" / ".x-0.safetensors.4711-1.partial").write_bytes(b"half")
    for lock in (True, False):
        before = everything()
        told = prune_corpus(folder, speakers=["cleo"], dry_run=True)
        assert everything() == before
        assert (told["reasons"], told["temporary"]) == ({"other settings": 1, "named speaker": 1}, 1)
        if lock:
            (folder / ".lock").unlink()
    assert prune_corpus(folder, speakers=["cleo"]) == told | {"dry_run": False}


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_dry_run_needs_no_right_to_write(make: Maker) -> None:
    folder = make("corpus", [*MIXED, segment(5, settings_hash="earlier")]).folder
    places = [folder, *folder.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert prune_corpus(folder, dry_run=True)["rows"] == 1
    finally:
        for path in places:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_person_is_taken_out(make: Maker) -> None:
    corpus = make("corpus", MIXED)
    (corpus.folder / "report.html").write_text("pictures of people")
    with pytest.raises(CorpusError, match=r"nobody in .* is called Bob; there are ann, bob"):
        prune_corpus(corpus.folder, speakers=["ann", "Bob"])
    assert len(Corpus.load(corpus.folder).rows) == len(MIXED)
    report = prune_corpus(corpus.folder, speakers=["bob"])
    assert (report["rows"], report["reasons"], report["clips"]) == (4, {"named speaker": 4}, 2)
    assert set(files(corpus.folder)) == {
        "corpus.json",
        "manifest.jsonl",
        *(f"clips/{r['id']}.safetensors" for r in MIXED[:3:2]),
    }
    assert not any("bob" in content.decode("latin-1") for content in files(corpus.folder).values())
    assert Corpus.load(corpus.folder).rows == make("ann", MIXED[:3]).rows


def test_a_report_stays_that_shows_nobody_who_went(make: Maker) -> None:
    corpus = make("corpus", MIXED)
    (corpus.folder / "report.html").write_text("pictures of people")
    (corpus.folder / "clips" / "ffffffffffff-0.safetensors").touch()
    assert prune_corpus(corpus.folder)["clips"] == 1
    assert (corpus.folder / "report.html").exists()


def test_what_came_from_videos_that_are_gone(make: Maker, tmp_path: Path) -> None:
    here = [segment(1, path=str(tmp_path / "1.mp4")), segment(2, path=str(tmp_path / "2.mp4"))]
    corpus = make("corpus", [*here, *MIXED[3:]])
    with pytest.raises(CorpusError, match=r"none of the 5 videos .* is on disk, and nothing was removed"):
        prune_corpus(corpus.folder, missing=True)
    (tmp_path / "1.mp4").touch()
    assert prune_corpus(corpus.folder)["rows"] == 0
    report = prune_corpus(corpus.folder, missing=True)
    assert ids(Corpus.load(corpus.folder).rows) == ids(here[:1])
    assert report["reasons"] == {"video is gone": report["rows"]}


def test_a_corpus_that_is_worked_on_is_not_pruned(make: Maker) -> None:
    corpus = make("corpus", MIXED)
    corpus.save_clip("ffffffffffff-0", clip())  # whose row is still to come
    before = files(corpus.folder)
    for dry_run in (False, True):
        with corpus.alone(), pytest.raises(CorpusError, match="being worked on"):
            prune_corpus(corpus.folder, dry_run=dry_run)
    assert files(corpus.folder) == before


def test_a_clip_that_another_corpus_holds_frees_nothing(make: Maker, tmp_path: Path) -> None:
    one = make("one", [segment(1), segment(2, speaker="bob")])
    merge_corpora([one.folder], tmp_path / "both")
    assert prune_corpus(tmp_path / "both", speakers=["bob"])["bytes"] == 0
    assert len(one.load_clip(segment(2)["id"]).times_s) == 25
    assert prune_corpus(one.folder, speakers=["bob"])["bytes"] > 0


# Export ---------------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet").read_table(path)


def test_a_row_of_the_manifest_is_a_row_of_the_table(make: Maker, tmp_path: Path) -> None:
    corpus = make("corpus", [*MIXED, segment(9, settings_hash="earlier")])
    pytest.importorskip("pyarrow")
    report = export_corpus(corpus.folder, tmp_path / "corpus.parquet")
    table = read_table(tmp_path / "corpus.parquet")
    assert report == {
        "out": str(tmp_path / "corpus.parquet"), "rows": len(MIXED), "stale": 1,
        "bytes": (tmp_path / "corpus.parquet").stat().st_size,
    }  # fmt: skip
    for told, row in zip(table.to_pylist(), [r for r in corpus.rows if r["settings_hash"] == corpus.hash], strict=True):
        split = row["split"] or {}
        for part in ("train", "validation"):
            assert [told.pop(f"{part}_{end}_s") for end in ("start", "end")] == (split.get(part) or [None, None])
        assert told == {key: value for key, value in row.items() if key != "split"}
    stated = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (stated["format"], stated["version"], stated["settings_hash"]) == ("lipwright-corpus", "1", corpus.hash)
    assert json.loads(stated["settings"]) == corpus.settings
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["id"], kinds["start_s"], kinds["frames"], kinds["lag_corrected"]) == ("string", "double", "int64", "bool")


def test_every_documented_key_and_array_has_its_column() -> None:
    chapter = FORMATS.read_text().split("## Corpus")[1].split("## Parquet")[0]
    names = {name for cell in re.findall(r"^\| (`.*?) \|", chapter, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}
    splits = {f"{part}_{end}_s" for part in ("train", "validation") for end in ("start", "end")}
    assert names | splits | {"split"} == {*parquet.COLUMNS, *parquet.ARRAYS, "split"}


def test_every_key_of_a_real_corpus_has_its_column(talk: Any, talk_track: FaceTrack, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert talk_track.found.all()
    preprocess_corpus([talk.path], tmp_path / "corpus", speaker="eileen")
    corpus = Corpus.load(tmp_path / "corpus")
    assert {key for row in corpus.rows for key in row} - {"split"} <= {*parquet.COLUMNS}
    export_corpus(corpus.folder, tmp_path / "corpus.parquet", arrays=True)
    assert_holds_arrays(tmp_path / "corpus.parquet", corpus)


def assert_holds_arrays(path: Path, corpus: Corpus) -> None:
    table = read_table(path)
    rows = [row for row in corpus.rows if row["settings_hash"] == corpus.hash]
    assert table["id"].to_pylist() == ids(rows)
    for name in parquet.ARRAYS:
        field = table.schema.field(name)
        stated = field.metadata[b"shape"].decode()
        shape = (-1, *(int(n) for n in re.findall(r"\d+", stated)))
        for k, row in enumerate(rows):
            if row["status"] != "ok":
                assert table[name][k].as_py() is None
                continue
            values = table[name][k].values
            while not hasattr(values, "to_numpy") or "list" in str(values.type):
                values = values.flatten()
            read, given = values.to_numpy(zero_copy_only=False).reshape(shape), getattr(corpus.load_clip(row["id"]), name)
            assert read.dtype == given.dtype == np.dtype(field.metadata[b"dtype"].decode())
            assert len(table[name][k]) == len(given)
            np.testing.assert_array_equal(read, given)


@pytest.mark.parametrize("group_bytes", [1, 150_000, 2**25])
def test_arrays_come_back_bit_for_bit(make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_bytes: int) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "GROUP_BYTES", group_bytes)
    corpus = make("corpus", MIXED)
    corpus.save_clip(corpus.usable[0]["id"], clip(2.0, seed=9))  # clips differ in length
    export_corpus(corpus.folder, tmp_path / "c.parquet", arrays=True)
    assert_holds_arrays(tmp_path / "c.parquet", corpus)
    groups = pq.ParquetFile(tmp_path / "c.parquet").num_row_groups
    assert groups >= 4 if group_bytes == 1 else groups > 1 if group_bytes == 150_000 else groups == 1


def test_features_of_another_size_have_that_size(make: Maker, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    corpus = make("corpus", [segment(1)], FeatureSettings(mfcc=20))
    with pytest.raises(CorpusError, match=r"safetensors is broken \(features: float32 \(100, 28\)\)"):
        export_corpus(corpus.folder, tmp_path / "c.parquet", arrays=True)
    corpus.save_clip(segment(1)["id"], Clip(**vars(clip()) | {"features": np.ones((100, 42), np.float32)}))
    export_corpus(corpus.folder, tmp_path / "c.parquet", arrays=True)
    assert_holds_arrays(tmp_path / "c.parquet", corpus)


@pytest.mark.parametrize("arrays", [False, True])
def test_an_empty_corpus_becomes_an_empty_table(make: Maker, tmp_path: Path, arrays: bool) -> None:
    pytest.importorskip("pyarrow")
    export_corpus(make("corpus", []).folder, tmp_path / "c.parquet", arrays=arrays)
    table = read_table(tmp_path / "c.parquet")
    assert (table.num_rows, table.num_columns) == (0, len(parquet.COLUMNS) + arrays * len(parquet.ARRAYS))


def test_an_export_is_whole_or_not_at_all(make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1)
    corpus, out = make("corpus", MIXED), tmp_path / "c.parquet"
    out.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match=r"c\.parquet already exists"):
        export_corpus(corpus.folder, out)
    corpus.clip_path(corpus.usable[-1]["id"]).write_bytes(b"broken")
    with pytest.raises(CorpusError, match="missing or broken"):
        export_corpus(corpus.folder, out, arrays=True, force=True)
    assert out.read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.parquet", "corpus"]
    export_corpus(corpus.folder, out, force=True)
    assert read_table(out).num_rows == len(MIXED)


def test_names_that_are_not_unicode_are_exported(make: Maker, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    corpus = make("corpus", [segment(1, path="/videos/a\udcff張.mp4", speaker="b\udce9n\ud800")])
    export_corpus(corpus.folder, tmp_path / "c.parquet")
    (row,) = read_table(tmp_path / "c.parquet").to_pylist()
    assert (row["path"], row["speaker"]) == ("/videos/a?張.mp4", "b?n?")


def test_what_a_killed_export_left_goes_with_the_next(make: Maker, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder, out = make("corpus", MIXED).folder, tmp_path / "c.parquet"
    script = f"""
import os, signal
from lipwright.pipeline import export_corpus
export_corpus({str(folder)!r}, {str(out)!r}, progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert len([p for p in tmp_path.iterdir() if p.name != "corpus"]) == 1
    export_corpus(folder, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.parquet", "corpus"]


def test_without_pyarrow_it_says_what_to_install(make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingPartError, match=r"pip install 'lipwright\[parquet\]'"):
        export_corpus(make("corpus", MIXED).folder, tmp_path / "c.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]


# The command line -----------------------------------------------------------------------------------------------------

OUT = {"merge": ["--out", "new"], "export": ["--out", "new"]}


@pytest.mark.parametrize("name", ["list", "stats", "merge", "prune", "export"])
def test_every_command_says_what_is_wrong_and_prints_one_document(
    name: str, make: Maker, run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    make("corpus", MIXED)
    done = run.invoke(cli.app, ["corpus", name, "gone", *OUT.get(name, [])])
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "lipwright: gone is not a corpus (no corpus.json); make one with lipwright preprocess\n"
    done = run.invoke(cli.app, ["corpus", name])
    assert (done.exit_code, done.stdout) == (2, "")
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]
    done = run.invoke(cli.app, ["corpus", name, "corpus", "--json", *OUT.get(name, [])])
    assert (done.exit_code, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), dict)
    if name in OUT:
        done = run.invoke(cli.app, ["corpus", name, "corpus", *OUT[name]])
        assert done.exit_code == InputError.exit_code
        assert "new already exists" in done.stderr


def test_words_say_what_was_done(make: Maker, run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make("one", [*MIXED, segment(8, settings_hash="earlier")])
    make("two", [*MIXED[3:], segment(9, speaker="cleo")])

    def words(*command: str) -> str:
        done = run.invoke(cli.app, ["corpus", *command])
        assert (done.exit_code, done.stderr) == (0, "")
        return done.stdout

    assert words("merge", "one", "two", "--out", "both") == (
        "both: 5 clips, 1 min 26 s of speech (5 videos, 3 speakers)\n"
        "in several of them, and taken from the first: 3 videos\n"
        "left out, as made with other settings: 1 row\n"
    )
    told = words("prune", "one", "--speaker", "bob", "--dry-run")
    assert told.startswith("one: would be removed: 5 rows (named speaker 4, other settings 1), 3 clips; ")
    assert words("prune", "one", "--speaker", "bob") == told.replace("would be removed", "removed")
    assert words("prune", "one") == "one: nothing to remove\n"
    assert "other settings" not in words("stats", "one")
