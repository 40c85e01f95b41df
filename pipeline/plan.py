"""Sources and a corpus → a plan: what is in it already, as it is wanted, and what is to be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from lipwright.data.corpus import Corpus
from lipwright.data.manifest import Row
from lipwright.data.media import file_sha256
from lipwright.pipeline.intake import Source, stamp_of


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
    sha256
        If it had to be read for that.
    rows
        Of a source that is done: the manifest's, as they are to be; of one of a twin, the other's, if there are any yet.
    twin
        Which other source holds the same bytes.
    """

    source: Source
    stamp: dict[str, int | None]
    state: State
    sha256: str | None = None
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
    stamps = {source.path: _stamp(source.path) for source in sources}
    sizes = Counter(stamp["bytes"] for stamp in stamps.values())
    sizes.update({row["bytes"] for row in corpus.rows if row.get("bytes") is not None})
    items: list[Item] = []
    first: dict[str, Source] = {}
    for source in sources:
        stamp, there = stamps[source.path], corpus.of_path(source.place)
        stamped = {name: there[0].get(name) for name in stamp} if there else {}
        sha256 = None
        if stamped == stamp:
            sha256 = there[0]["sha256"]
        elif stamp["bytes"] and (sizes[stamp["bytes"]] > 1 or (there and stamped["bytes"] is None)):
            sha256 = _hash(source.path)
        if sha256 and (twin := first.setdefault(sha256, source)) != source:
            items.append(Item(source, stamp, State.TWIN, sha256, twin=str(twin.path)))
        else:
            items.append(_judge(corpus, source, stamp, sha256, bool(there and there[0]["sha256"]), force))
    return items


def _judge(
    corpus: Corpus, source: Source, stamp: dict[str, int | None], sha256: str | None, was_read: bool, force: bool
) -> Item:
    have = corpus.of_content(sha256) if sha256 else []
    if not have:
        return Item(source, stamp, State.CHANGED if was_read else State.NEW, sha256)
    path = source.place
    if have[0]["path"] != path and Path(have[0]["path"]).exists() and not force:
        return Item(source, stamp, State.TWIN, sha256, have, have[0]["path"])
    if have[0]["path"] != path and have[0]["start_s"] is None:  # why it was rejected tells its name
        return Item(source, stamp, State.NEW, sha256)
    if force:
        return Item(source, stamp, State.FORCED, sha256)
    if any(row["settings_hash"] != corpus.hash for row in have):
        return Item(source, stamp, State.OTHER_SETTINGS, sha256)
    if have[0]["face"] != source.face:
        return Item(source, stamp, State.OTHER_FACE, sha256)
    if not corpus.find(have[0]["sha256"]):
        return Item(source, stamp, State.LOST, sha256)
    wanted = {"path": path, "speaker": source.speaker, **stamp}
    rows = [row | wanted for row in have]
    return Item(source, stamp, State.DONE if rows == have else State.RENAMED, sha256, rows)


def _stamp(path: Path) -> dict[str, int | None]:
    try:
        return stamp_of(path)
    except OSError:  # whoever processes it says why
        return {"bytes": None, "modified_ns": None}


def _hash(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None
