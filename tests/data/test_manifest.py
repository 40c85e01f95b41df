"""A manifest survives whatever ends a run: a source is in it whole or not at all."""

from __future__ import annotations

import errno
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lipwright.data import manifest as manifest_module
from lipwright.data.errors import CorpusError
from lipwright.data.manifest import Manifest


def row(name: str, start_s: float | None = 0.0, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-{round(1000 * (start_s or 0))}", "path": f"/videos/{name}.mp4", "sha256": name * 4, "speaker": "ann",
        "start_s": start_s, "end_s": None if start_s is None else start_s + 20, "split": None,
        "status": "rejected" if start_s is None else "ok", "settings_hash": "today",
    } | more  # fmt: skip


def ids(manifest: Manifest) -> list[str]:
    return [r["id"] for r in manifest.rows]


def noted(folder: Path, *sources: list[dict[str, Any]]) -> Manifest:
    """Rows of sources as a run adds them."""
    manifest = Manifest.read(folder)
    for rows in sources:
        manifest.note(rows)
        manifest.put(rows)
    return manifest


def test_what_is_noted_is_there_before_the_manifest_is_written(tmp_path: Path) -> None:
    noted(tmp_path, [row("a")]).write()
    before = (tmp_path / "manifest.jsonl").read_bytes()
    manifest = noted(tmp_path, [row("c"), row("c", 30.0)], [row("b", None)])
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    assert ids(Manifest.read(tmp_path)) == ids(manifest) == ["a-0", "b-0", "c-0", "c-30000"]
    assert not manifest.is_written
    manifest.write()
    assert manifest.is_written
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.jsonl"]
    assert Manifest.read(tmp_path).rows == manifest.rows
    assert [bool(r["split"]) for r in manifest.rows] == [True, False, True, True]


def test_a_source_costs_a_line_however_many_there_are(tmp_path: Path) -> None:
    sizes = []
    for k in range(200):
        noted(tmp_path, [row(f"n{k:03}")])
        sizes.append((tmp_path / "journal.jsonl").stat().st_size)
    assert len({b - a for a, b in pairwise(sizes)}) == 1


@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_line_that_was_cut_off_is_a_source_that_is_not_done(tmp_path: Path, left: float) -> None:
    noted(tmp_path, [row("a")], [row("b"), row("b", 30.0)])
    journal = tmp_path / "journal.jsonl"
    first, last = journal.read_bytes().splitlines(keepends=True)
    kept = round(left * len(last))
    journal.write_bytes(first + last[:kept])
    assert ids(Manifest.read(tmp_path)) == (["a-0", "b-0", "b-30000"] if kept == len(last) else ["a-0"])


def test_a_line_before_the_last_is_not_cut_off_but_broken(tmp_path: Path) -> None:
    noted(tmp_path, [row("a")], [row("b")])
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[1:])
    with pytest.raises(CorpusError, match=r"journal\.jsonl is broken in line 1 "):
        Manifest.read(tmp_path)


def test_a_run_that_ends_between_manifest_and_journal_changes_nothing(tmp_path: Path) -> None:
    manifest = noted(tmp_path, [row("a")], [row("b", speaker="bob")], [row("a", 5.0)])
    journal = (tmp_path / "journal.jsonl").read_bytes()
    manifest.write()
    (tmp_path / "journal.jsonl").write_bytes(journal)  # it was written, and the journal is still there
    assert Manifest.read(tmp_path).rows == manifest.rows
    assert ids(manifest) == ["a-5000", "b-0"]


def test_who_reads_while_a_run_ends_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(tmp_path, [row("a")]).write()
    run = noted(tmp_path, [row("b")])
    lines = manifest_module._lines
    read: list[str] = []

    def then_the_run_ends(path: Path, **how: bool) -> list[Any]:
        found = lines(path, **how)
        read.append(path.name)
        if len(read) == 1:
            run.write()
        return found

    monkeypatch.setattr(manifest_module, "_lines", then_the_run_ends)
    assert ids(Manifest.read(tmp_path)) == ["a-0", "b-0"]
    assert len(read) == 2


def test_a_source_takes_the_place_of_itself_by_path_and_by_content(tmp_path: Path) -> None:
    manifest = noted(tmp_path, [row("a"), row("a", 30.0)], [row("b")])
    assert [r["id"] for r in manifest.put([row("a", sha256="new")])] == ["a-0", "a-30000"]
    assert manifest.of_content("aaaa") == []
    assert [r["id"] for r in manifest.put([row("c", sha256="bbbb")])] == ["b-0"]
    assert manifest.of_path("/videos/b.mp4") == []
    assert ids(manifest) == ["a-0", "c-0"]
    assert [r["sha256"] for r in manifest.of_path("/videos/c.mp4")] == ["bbbb"]


def test_a_source_that_nobody_could_read_is_known_by_its_path(tmp_path: Path) -> None:
    manifest = noted(tmp_path, [row("a", None, sha256=None)], [row("b", None, sha256=None)])
    assert len(manifest.rows) == 2
    assert len(manifest.put([row("a")])) == 1
    assert [r["sha256"] for r in manifest.rows] == ["aaaa", None]


def test_what_two_machines_call_alike_stays_two_sources(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row("a", sha256=sha)) + "\n" for sha in ("one", "other"))
    (tmp_path / "manifest.jsonl").write_text(lines)
    assert len(Manifest.read(tmp_path).rows) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path: Path) -> None:
    manifest = noted(tmp_path, [row("a")])
    manifest.write()
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        manifest.note([row("b")])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "journal.jsonl"))
    (tmp_path / "journal.jsonl").unlink()
    assert ids(Manifest.read(tmp_path)) == ["a-0"]
