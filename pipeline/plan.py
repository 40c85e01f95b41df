"""Sources and a corpus → a plan: what is in it already, as it is wanted, and what is to be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from lipwright.data.corpus import Corpus
from lipwright.data.manifest import Row
from lipwright.data.media import file_sha256
from lipwright.pipeline.intake import Source, stamp_of

Stamp = Mapping[str, int | None]
NO_STAMP: Stamp = {"bytes": None, "modified_ns": None}
"""Of a file that cannot be seen."""


class State(StrEnum):
    """How a source stands to a corpus."""

    NEW = "new"
    CHANGED = "changed"
    OTHER_SETTINGS = "made with other settings"
    OTHER_FACE = "another face asked for"
    LOST = "clip missing"
    FORCED = "done, to be made anew"
    DONE = "done"
    RENAMED = "done, under another name"
    TWIN = "same bytes as another"


@dataclass(frozen=True)
class Item:
    """A source in a plan.

    Attributes
    ----------
    source
    stamp
        Its size and time of change, `stamp_of`; None where it cannot be read.
    state
    rows
        Of a source that is done: the manifest's, as they are to be; of one of a twin, the other's, if there are any yet.
    twin
        Which other source holds the same bytes.
    """

    source: Source
    stamp: Stamp
    state: State
    rows: list[Row] = field(default_factory=list)
    twin: str | None = None

    @property
    def is_work(self) -> bool:
        """Whether the source has to be processed."""
        return self.state not in (State.DONE, State.RENAMED, State.TWIN)


def make_plan(corpus: Corpus, sources: Sequence[Source], *, force: bool = False) -> list[Item]:
    """Find out what is to be done for each source.

    A source whose size and time of change are those that the manifest has is taken for the same. Otherwise it is read only
    where it may be known already, or be there twice: where something else has its size.

    Parameters
    ----------
    corpus
        Its settings are those wanted.
    sources
    force
        Do anew what is done.
    """
    stamps = {source.place: _stamp(source.path) for source in sources}
    sizes = Counter(stamp["bytes"] for stamp in stamps.values())
    sizes.update({row["bytes"] for row in corpus.rows if row.get("bytes") is not None})
    hashes = {source.place: _content(corpus, source, stamps[source.place], sizes) for source in sources}
    chosen: dict[str, Source] = {}  # of those with the same bytes, the one that the corpus knows, or the first
    for source in sources:
        if (sha256 := hashes[source.place]) and (
            sha256 not in chosen or any(row["path"] == source.place for row in corpus.of_content(sha256))
        ):
            chosen[sha256] = source
    items: list[Item] = []
    for source in sources:
        stamp, sha256 = stamps[source.place], hashes[source.place]
        twin = chosen[sha256] if sha256 else source
        if twin != source:
            items.append(Item(source, stamp, State.TWIN, twin=str(twin.path)))
        else:
            items.append(_judge(corpus, source, stamp, sha256, force))
    return items


def _judge(corpus: Corpus, source: Source, stamp: Stamp, sha256: str | None, force: bool) -> Item:
    have = corpus.of_content(sha256) if sha256 else []
    if not have:
        was_read = any(row["sha256"] for row in corpus.of_path(source.place))
        return Item(source, stamp, State.CHANGED if was_read else State.NEW)
    if force:
        return Item(source, stamp, State.FORCED)
    if any(row["settings_hash"] != corpus.hash for row in have):
        return Item(source, stamp, State.OTHER_SETTINGS)
    if have[0]["face"] != source.face:
        return Item(source, stamp, State.OTHER_FACE)
    if not corpus.find(have[0]["sha256"]):
        return Item(source, stamp, State.LOST)
    path, is_elsewhere = have[0]["path"], have[0]["path"] != source.place
    if is_elsewhere and _stamp(Path(path)) == _stamp_in(have):
        return Item(source, stamp, State.TWIN, have, path)
    if is_elsewhere and have[0]["start_s"] is None:  # why it was rejected tells its name
        return Item(source, stamp, State.NEW)
    rows = [row | {"path": source.place, "speaker": source.speaker, **stamp} for row in have]
    return Item(source, stamp, State.DONE if rows == have else State.RENAMED, rows)


def _content(corpus: Corpus, source: Source, stamp: Stamp, sizes: Mapping[int | None, int]) -> str | None:
    """Return the hash of a source's bytes, if it is known or needed."""
    there = corpus.of_path(source.place)
    stamped = _stamp_in(there)
    if stamped == stamp:
        return there[0]["sha256"]
    if stamp["bytes"] and (sizes[stamp["bytes"]] > 1 or (there and stamped["bytes"] is None)):
        with suppress(OSError):  # whoever processes it says why
            return file_sha256(source.path)
    return None


def _stamp_in(rows: Sequence[Row]) -> Stamp:
    return {name: rows[0].get(name) for name in NO_STAMP} if rows else {}


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path)
    except OSError:  # the same
        return NO_STAMP
