"""The manifest of a corpus: what was made of each source, kept so that a run may end at any moment.

::

    manifest.jsonl  one row per segment, or per rejected source, in order
    journal.jsonl   what was finished since it was written: a line has all rows of a source

A source that is finished costs one line, however many there are already; the manifest is written at the end of a run, or by
the next one. The journal's last line is passed over if it was cut off: its source is not finished.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lipwright.data.errors import CorpusError
from lipwright.data.files import whole_file
from lipwright.data.splits import assign_splits

Row = dict[str, Any]
"""A line of the manifest; its keys are in `docs/formats.md`."""

ROW_KEYS = {"id", "path", "sha256", "speaker", "start_s", "end_s", "split", "status", "settings_hash"}
"""Those of them that corpora and training cannot do without."""

AGAIN = "run lipwright preprocess again into a new folder"


def source_of(row: Row) -> str:
    """Return what tells the source of a row from others: its bytes, or where it lies if nobody could read it."""
    return row["sha256"] or row["path"]


class Manifest:
    """The rows of a corpus, by their sources.

    Parameters
    ----------
    folder
        Of the corpus.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._journal = folder / "manifest.jsonl", folder / "journal.jsonl"
        self._sources: dict[str, list[Row]] = {}
        self._content_at: dict[str, str] = {}
        self._in_order: list[Row] | None = None

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read what stands on disk.

        Raises
        ------
        CorpusError
            It is broken.
        OSError
            It cannot be read.
        """
        manifest = cls(folder)
        path, journal = manifest._path, manifest._journal
        with _uncollected():
            noted = _lines(journal, cut_off=True)  # first: a run that ends now moves it to the manifest
            rows = [_check(row, path, number) for number, row in enumerate(_lines(path), 1)]
            manifest.hold(rows)
            manifest._in_order = rows  # as they were written
            for number, rows in enumerate(noted, 1):
                manifest.put([_check(row, journal, number) for row in (rows if isinstance(rows, list) else [rows])])
        return manifest

    @property
    def rows(self) -> list[Row]:
        """All rows, by speaker, path and time, each with its split."""
        if self._in_order is None:
            rows = [row for rows in self._sources.values() for row in rows]
            rows.sort(key=lambda r: (r["speaker"], r["path"], r["start_s"] or 0, r["id"]))
            assign_splits(rows)
            self._in_order = rows
        return self._in_order

    def of_content(self, sha256: str) -> list[Row]:
        """Return the rows of the source that holds these bytes."""
        return self._sources.get(sha256, [])

    def of_path(self, path: str) -> list[Row]:
        """Return the rows of the source that lies there."""
        return self._sources.get(self._content_at.get(path, ""), [])

    def hold(self, rows: Iterable[Row]) -> None:
        """Take rows of sources that are not there yet."""
        for row in rows:
            content = source_of(row)
            self._sources.setdefault(content, []).append(row)
            self._content_at[row["path"]] = content
        self._in_order = None

    def put(self, rows: Sequence[Row]) -> list[Row]:
        """Put rows in place of those of the same sources, by path or by content; return what they take the place of."""
        contents = {source_of(row) for row in rows} | {self._content_at.get(row["path"], "") for row in rows}
        replaced = [row for content in contents for row in self._sources.pop(content, [])]
        for row in replaced:
            self._content_at.pop(row["path"], None)
        self.hold(rows)
        return replaced

    def note(self, rows: Iterable[Row]) -> None:
        """Write rows to the end of the journal: all of them, or none."""
        try:
            with self._journal.open("a") as journal:
                journal.write(json.dumps([*rows]) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._journal)) from error

    def write(self) -> None:
        """Write the manifest, whole or not at all; the journal is then in it."""
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        with whole_file(self._path) as partial:
            partial.write_text(lines)
        self._journal.unlink(missing_ok=True)

    @property
    def is_written(self) -> bool:
        """Whether there is no journal."""
        return not self._journal.exists()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make many objects that all stay: the garbage collector would go through them over and over, for half of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _lines(path: Path, *, cut_off: bool = False) -> list[Any]:
    """Read JSON lines; the last may be cut off."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    if not (last := lines.pop()) or cut_off:
        last = b""
    lines = [*filter(None, [*lines, last])]
    try:
        return json.loads(b"[%s]" % b",".join(lines))  # at once: twice as fast as one by one
    except ValueError:
        return [_parsed(path, number, line) for number, line in enumerate(lines, 1)]


def _parsed(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{path} is broken in line {number} ({error}); {AGAIN}") from None


def _check(row: Any, path: Path, number: int) -> Row:
    if not isinstance(row, dict) or not row.keys() >= ROW_KEYS:
        raise CorpusError(f"{path} is broken in line {number}; {AGAIN}")
    return row
