"""Corpora as things that one has: look at them, measure them, put them together, take out what is of no use."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.corpus import Corpus, require_idle
from lipwright.data.errors import CorpusError, require_new
from lipwright.data.files import left_behind, own_name, sweep
from lipwright.data.manifest import Row, source_of
from lipwright.data.sync import CONFIDENT
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.tally import by_reason, by_speaker, length_s, many, split_s

log = logging.getLogger(__name__)

MOST_SPEAKERS = 10
"""Of those with most time, so many are named."""

WITHDRAWN, STALE, MISSING = "named speaker", "other settings", "video is gone"
"""Why a row is taken out."""

TOLD_EVERY = 1000
"""Clips: a merge tells its progress so often."""


def list_corpus(folder: Path | str, *, speaker: str | None = None, rejected: bool = False) -> dict[str, Any]:
    """Read the rows of a corpus, one a segment or rejected source.

    Parameters
    ----------
    folder
        Of the corpus.
    speaker
        Only theirs.
    rejected
        Only what was left out.

    Returns
    -------
    dict
        ``corpus``, ``rows``: of the manifest (`docs/formats.md`).

    Raises
    ------
    CorpusError
        It cannot be read, or nobody in it has that name.
    """
    corpus = Corpus.load(Path(folder))
    if speaker is not None:
        _require_speakers(corpus, [speaker])
    rows = [
        row
        for row in corpus.rows
        if (speaker is None or row["speaker"] == speaker) and not (rejected and row["status"] == "ok")
    ]
    return {"corpus": str(folder), "rows": rows}


def measure_corpora(folders: Iterable[Path | str]) -> dict[str, Any]:
    """Say how much of what is in corpora, each and together.

    Parameters
    ----------
    folders
        Of the corpora.

    Returns
    -------
    dict
        ``corpora``: of each its numbers; ``all``: those of what `merge_corpora` would make of them, were their settings the
        same, and ``twice``, how many sources are in several. What was made with other settings is counted as ``stale`` rows
        and in ``bytes``, and nowhere else. The keys are in `docs/corpora.md`.

    Raises
    ------
    CorpusError
        One of them cannot be read.
    """
    corpora = [Corpus.load(Path(folder)) for folder in folders]
    each = [_sum_up(corpus.current) | _stored(corpus) for corpus in corpora]
    whole, twice = each[0], 0
    if len(corpora) > 1:
        taken, twice = _first_of(corpora)
        stored = {key: sum(numbers[key] for numbers in each) for key in ("stale", "missing_clips", "bytes")}
        whole = _sum_up([row for rows in taken for row in rows]) | stored
    for numbers in (*each, whole):
        hours = numbers["kept_s"] / 3600
        numbers["mb_per_hour"] = round(numbers["bytes"] / 1e6 / hours, 1) if hours else None
    named = [numbers | {"corpus": str(c.folder), "settings_hash": c.hash} for c, numbers in zip(corpora, each, strict=True)]
    return {"corpora": named, "all": whole | {"twice": twice}}


def merge_corpora(
    folders: Iterable[Path | str], out: Path | str, *, force: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Make one corpus of several. Clips are not copied where a file can have two names (hard links).

    Parameters
    ----------
    folders
        Of the corpora. A source that several of them hold is taken from the first that has a clip of it.
    out
        Folder to make, whole or not at all.
    force
        Replace `out` if it is a corpus.
    progress
        Called with ("merge", clips done, clips in all).

    Returns
    -------
    dict
        ``out``, ``sources``, ``speakers``, ``clips``, ``seconds`` of usable video; ``linked`` and ``copied`` clips; ``twice``:
        sources that several of them hold; ``stale``: rows that were made with other settings, and left out.

    Raises
    ------
    CorpusError
        One cannot be read, lacks a clip, or was made with other settings than the first; or `out` is something else than a
        corpus.
    OutputExistsError
        `out` exists and `force` is false.
    """
    out = Path(out).absolute()
    _clear_up(out)
    require_new(out, force)
    if out.exists() and not (out / "corpus.json").exists():
        raise CorpusError(f"{out} exists and is not a corpus; choose another --out")
    corpora = [Corpus.load(Path(folder)) for folder in folders]
    first = corpora[0]
    if other := next((c for c in corpora if c.hash != first.hash), None):
        raise CorpusError(
            f"{first.folder} and {other.folder} were made with different settings ({first.hash}, {other.hash}); "
            "run lipwright preprocess again on the videos of the older one"
        )
    taken, twice = _first_of(corpora)
    clips = [
        corpus.clip_path(row["id"])
        for corpus, rows in zip(corpora, taken, strict=True)
        for row in rows
        if row["status"] == "ok"
    ]
    partial = own_name(out)
    linked = 0
    try:
        (partial / "clips").mkdir(parents=True)
        shutil.copyfile(first.folder / "corpus.json", partial / "corpus.json")
        merged = Corpus.load(partial)
        for count, clip in enumerate(clips, 1):
            linked += _link(clip, partial / "clips" / clip.name)
            if progress and (count % TOLD_EVERY == 0 or count == len(clips)):
                progress("merge", count, len(clips))
        with merged.alone():
            merged.replace(row for rows in taken for row in rows)
            require_new(out, force)  # somebody else may have made it meanwhile
            _put(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {
        "out": str(out),
        "sources": len({source_of(row) for row in merged.rows}),
        "speakers": len({row["speaker"] for row in merged.usable}),
        "clips": len(clips),
        "seconds": round(length_s(merged.usable), 3),
        "linked": linked,
        "copied": len(clips) - linked,
        "twice": twice,
        "stale": sum(len(c.stale) for c in corpora),
    }


def prune_corpus(
    folder: Path | str, *, speakers: Collection[str] = (), missing: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Take out of a corpus what nobody can use: rows made with other settings, files that no row names.

    Splits are assigned anew. `report.html` is removed if rows are, as it shows people; the next preprocessing makes it again.

    Parameters
    ----------
    folder
        Of the corpus.
    speakers
        Also take these people out.
    missing
        Also take out what came from videos that are no longer where they were.
    dry_run
        Change nothing; a corpus that cannot be written to will do.

    Returns
    -------
    dict
        ``corpus``, ``dry_run``; ``rows`` taken out, and of these for which of the ``reasons`` how many; ``clips`` and
        ``temporary`` files; ``bytes`` that are free then: a clip that another corpus holds too frees none.

    Raises
    ------
    CorpusError
        It cannot be read, another run works on it, nobody in it has such a name, or all of its videos are missing.
    """
    from lipwright.pipeline.report import REPORT

    folder = Path(folder)
    require_idle(folder)
    corpus = Corpus.load(folder)
    temporary = [f for place in (folder, folder / "clips") for f in _files(place) if _is_temporary(f)]
    freed = _freed(temporary)  # now: who is alone sweeps
    with nullcontext() if dry_run else corpus.alone():
        _require_speakers(corpus, speakers)
        gone = _gone(corpus) if missing else set()
        own, people = corpus.hash, frozenset(speakers)
        kept: list[Row] = []
        reasons: Counter[str] = Counter()
        for row in corpus.rows:
            reason = (
                WITHDRAWN if row["speaker"] in people
                else MISSING if row["path"] in gone
                else STALE if row["settings_hash"] != own
                else None
            )  # fmt: skip
            if reason is None:
                kept.append(row)
            else:
                reasons[reason] += 1
                log.info("%s: %s", row["path"], reason)
        named = {f"{row['id']}.safetensors" for row in kept if row["status"] == "ok"}
        clips = [f for f in _files(folder / "clips") if f.name.endswith(".safetensors") and f.name not in named]
        freed += _freed(clips)
        if not dry_run:
            if reasons:
                (folder / REPORT).unlink(missing_ok=True)  # first: whatever happens then, nobody is shown any more
                corpus.replace(kept)
            for file in (*clips, *temporary):
                Path(file.path).unlink(missing_ok=True)
    return {
        "corpus": str(folder),
        "dry_run": dry_run,
        "rows": reasons.total(),
        "reasons": dict(reasons.most_common()),
        "clips": len(clips),
        "temporary": len(temporary),
        "bytes": freed,
    }


def _first_of(corpora: Sequence[Corpus]) -> tuple[list[list[Row]], int]:
    """Take each source from the first corpus that has a clip of it.

    Returns
    -------
    taken : list of lists of dict
        Of each corpus the rows that are taken from it.
    twice : int
        Sources that several of them hold.
    """
    home: dict[str, Corpus] = {}
    for rows_of in (lambda corpus: corpus.usable, lambda corpus: corpus.current):
        for corpus in corpora:
            for row in rows_of(corpus):
                home.setdefault(source_of(row), corpus)
    taken = [[row for row in corpus.current if home[source_of(row)] is corpus] for corpus in corpora]
    twice = {source_of(row) for corpus in corpora for row in corpus.current if home[source_of(row)] is not corpus}
    return taken, len(twice)


def _sum_up(rows: Sequence[Row]) -> dict[str, Any]:
    usable = [row for row in rows if row["status"] == "ok"]
    left = [row for row in rows if row["status"] != "ok" and row["start_s"] is not None]
    sources = {source_of(row): row for row in rows}
    speakers = by_speaker(usable)
    rates = Counter(row["rate"] for row in sources.values() if row.get("rate"))
    return {
        "sources": len(sources),
        "rejected": sum(row["start_s"] is None for row in rows),
        "clips": len(usable),
        "kept_s": round(length_s(usable), 3),
        "train_s": round(split_s(usable, "train"), 3),
        "validation_s": round(split_s(usable, "validation"), 3),
        "left_out_s": {reason: round(seconds, 3) for reason, seconds in by_reason(left)},
        "speakers": len(speakers),
        "most_heard_s": {speaker: round(length_s(own), 3) for speaker, own in speakers[:MOST_SPEAKERS]},
        "rates": dict(rates.most_common()),
        "lag": _lags([row for row in sources.values() if row.get("lag_ms") is not None]),
    }


def _lags(sources: Sequence[Row]) -> dict[str, Any]:
    """Sum up by how much pictures come after their sound; percentiles are of those that are sure."""
    sure = [row["lag_ms"] for row in sources if (row.get("lag_confidence") or 0) >= CONFIDENT]
    low, median, high = (round(float(ms), 1) for ms in np.percentile(sure, (5, 50, 95))) if sure else (None, None, None)
    return {
        "measured": len(sources),
        "sure": len(sure),
        "corrected": sum(bool(row.get("lag_corrected")) for row in sources),
        "p5_ms": low,
        "median_ms": median,
        "p95_ms": high,
    }


def _stored(corpus: Corpus) -> dict[str, int]:
    """Look at what stands on disk, once over."""
    clips = {file.name: file.stat().st_size for file in _files(corpus.folder / "clips")}
    return {
        "stale": len(corpus.stale),
        "missing_clips": sum(f"{row['id']}.safetensors" not in clips for row in corpus.usable),
        "bytes": sum(clips.values()) + sum(file.stat().st_size for file in _files(corpus.folder)),
    }


def _files(folder: Path) -> list[os.DirEntry[str]]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.is_file()]


def _is_temporary(file: os.DirEntry[str]) -> bool:
    return file.name.startswith(".") and file.name.endswith(".partial")


def _freed(files: Iterable[os.DirEntry[str]]) -> int:
    """Return how many bytes are free when files are gone: those that have another name stay."""
    return sum(file.stat().st_size for file in files if file.stat().st_nlink == 1)


def _link(clip: Path, to: Path) -> bool:
    """Give a clip a second name, or where that cannot be, copy it; return whether it was linked."""
    try:
        os.link(clip, to)
    except FileNotFoundError:
        raise CorpusError(f"{clip} is missing; run lipwright preprocess again") from None
    except OSError:
        shutil.copyfile(clip, to)
        return False
    return True


def _put(made: Path, out: Path) -> None:
    """Give a new corpus its name, if need be in place of another one, which then has that of `made`. We are alone in both."""
    if not out.exists():
        made.rename(out)
        return
    old = own_name(out, "old")
    with Corpus.load(out).alone():
        try:
            out.rename(old)
            made.rename(out)
        finally:
            if not out.exists():
                old.rename(out)
        old.rename(made)


def _clear_up(out: Path) -> None:
    """Put in order what merges that were killed left: a corpus that was to make way is back if nothing took its place."""
    for old in left_behind(out, "old"):
        if not out.exists():
            old.rename(out)
            log.warning("%s is back: a merge that was to replace it was killed", out)
        else:
            old.rename(own_name(out))
            sweep(out)
    sweep(out)


def _gone(corpus: Corpus) -> set[str]:
    """Return the paths of a corpus's videos that are no longer there."""
    paths = {row["path"] for row in corpus.rows}
    gone = {path for path in paths if not Path(path).exists()}
    if gone and gone == paths:
        raise CorpusError(
            f"none of the {many(len(gone), 'video')} of {corpus.folder} is on disk, and nothing was removed; "
            "is their drive mounted? To remove all of it, delete the folder"
        )
    return gone


def _require_speakers(corpus: Corpus, names: Iterable[str]) -> None:
    known = {row["speaker"] for row in corpus.rows}
    if unknown := [name for name in names if name not in known]:
        some = ", ".join(sorted(known)[:MOST_SPEAKERS]) + (" …" if len(known) > MOST_SPEAKERS else "")
        raise CorpusError(f"nobody in {corpus.folder} is called {', '.join(unknown)}; there are {some or 'no speakers'}")
