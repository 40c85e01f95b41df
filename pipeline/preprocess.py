"""Videos → corpus: features, mouth, pose and blendshapes of every source, in a pool of processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from lipwright.data.corpus import Corpus
from lipwright.data.errors import InputError
from lipwright.data.features import FeatureSettings
from lipwright.data.landmarker import model_path
from lipwright.data.manifest import Row
from lipwright.pipeline.crew import work_off
from lipwright.pipeline.intake import Source, give_up, take_in
from lipwright.pipeline.plan import Item, State, make_plan
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.report import is_current, write_report

log = logging.getLogger(__name__)

MEDIA_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".ogv",
        ".3gp",
    ]
)
"""What counts as a video in a folder; a file that is named itself is always tried."""


def find_sources(inputs: Sequence[Path], speaker: str | None = None, face: str | None = None) -> list[Source]:
    """List the videos that files and folders stand for.

    The speaker is `speaker`, else the sub-folder under the given folder, else the file itself; `face` is for all.

    Raises
    ------
    InputError
        A path does not exist, or there is no video among them.
    """
    sources: dict[str, Source] = {}
    for given in inputs:
        if not given.exists():
            raise InputError(f"{given} does not exist; check the path")
        if not given.is_file() and not given.is_dir():
            raise InputError(f"{given} is neither a file nor a folder")
        found = (p for p in given.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES)
        paths = [given] if given.is_file() else sorted(p for p in found if p.is_file() or not p.exists())  # or a broken link
        for path in paths:
            inside = path.relative_to(given).parts if given.is_dir() else (path.name,)
            source = Source(path, speaker or inside[0], face)
            sources.setdefault(source.place, source)
    if not sources:
        raise InputError(f"no video in {', '.join(map(str, inputs))}; expected files such as .mp4, .mov, .mkv or .webm")
    return list(sources.values())


Job = tuple[Source, Path, FeatureSettings]
"""What `take_in` needs: the source, the corpus folder, and how to compute features."""


def preprocess_corpus(
    inputs: Iterable[Path | str],
    out: Path | str,
    *,
    speaker: str | None = None,
    face: str | None = None,
    workers: int | None = None,
    ray: str | None = None,
    features: FeatureSettings | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fill a corpus from videos; a second run does only what is missing or changed.

    A run may end at any moment: what is done of it stays.

    Parameters
    ----------
    inputs
        Videos, or folders of them (other files in a folder are passed over).
    out
        The corpus folder, made if it is not there.
    speaker
        Who speaks in all of them; by default each sub-folder of an input folder is one speaker, and each file another.
    face
        Which face to follow where there are several, out of `lipwright.data.faces.WHICH`; by default such stretches are left
        out.
    workers
        Processes; by default one a core. A single source is done in this one.
    ray
        Address of a Ray cluster to share the work out to; its machines see `inputs` and `out` under the same paths.
    features
        Feature settings; defaults to `FeatureSettings()`.
    force
        Do anew what the corpus already holds.
    dry_run
        Only say what would be done; nothing is written.
    progress
        Called with ("preprocess", sources done, sources in all).

    Returns
    -------
    dict
        ``clips``: the manifest rows of these inputs; ``seconds`` and ``frames`` of usable video; ``elapsed_s``.
        With `dry_run`, ``plan``: for each source ``path``, ``speaker``, ``state`` (`lipwright.pipeline.plan.State`),
        ``to_do`` and ``bytes``; ``elapsed_s``.

    Raises
    ------
    InputError
        An input does not exist, or there is no video among them. (A source that cannot be used is a rejected row.)
    CorpusError
        `out` is something else than a corpus, or another run is at work on it.
    """
    began = time.perf_counter()
    features, given, out = features or FeatureSettings(), [Path(p) for p in inputs], Path(out)
    if ray is not None:  # its machines work in folders of their own
        given, out = [path.absolute() for path in given], out.absolute()
    sources = find_sources(given, speaker, face)
    if dry_run:
        told = [_told(item) for item in make_plan(Corpus.planned(out, features), sources, force=force)]
        return {"plan": told, "elapsed_s": round(time.perf_counter() - began, 3)}
    model_path()  # say that the landmark model is missing before any work is done
    corpus = Corpus.create(out, features)
    with corpus.alone():
        plan = make_plan(corpus, sources, force=force)
        crew = partial(work_off, take_in, given_up=give_up, workers=workers, ray=ray)
        # Of one source, no others are lost with this process; one of its own would load all libraries again.
        done, unread = _carry_out(plan, corpus, features, crew if len(plan) > 1 or ray else _here, progress)
        corpus.fold()
        if not is_current(corpus):
            write_report(corpus, {row["path"]: row["sha256"] for row in done})
    names = {row["path"] for row in done}
    usable = [row for row in corpus.usable if row["path"] in names]
    return {
        "clips": [row for row in corpus.rows if row["path"] in names] + unread,
        "seconds": round(sum(row["end_s"] - row["start_s"] for row in usable), 3),
        "frames": sum(row["frames"] for row in usable),
        "elapsed_s": round(time.perf_counter() - began, 3),
    }


def _told(item: Item) -> dict[str, Any]:
    own = {"path": str(item.source.path), "speaker": item.source.speaker, "bytes": item.stamp["bytes"]}
    return own | {"state": item.state, "to_do": item.is_work}


def _here(jobs: Iterable[Job]) -> Generator[list[Row]]:
    """Do jobs in this process."""
    yield from (take_in(*job) for job in jobs)


def _carry_out(
    plan: Sequence[Item],
    corpus: Corpus,
    features: FeatureSettings,
    crew: Callable[[Iterable[Job]], Generator[list[Row]]],
    progress: Progress | None,
) -> tuple[list[Row], list[Row]]:
    """Do what is to be done.

    Returns
    -------
    done : list of dict
        The rows of all sources, as they are in the corpus now.
    unread : list of dict
        Rows of sources that nobody could read: the corpus keeps what it has of them.
    """
    for item in plan:
        if item.state is State.TWIN:
            log.warning("%s holds the same bytes as %s and is passed over", item.source.path, item.twin)
    done = [row for item in plan for row in item.rows]
    if renamed := [row for item in plan if item.state is State.RENAMED for row in item.rows]:
        corpus.add(renamed)  # at once: one may have the name now that another had
    unread: list[Row] = []
    jobs = [(item.source, corpus.folder, features) for item in plan if item.is_work]
    with closing(crew(jobs)) as taken:
        for count, rows in enumerate(taken, len(plan) - len(jobs) + 1):
            known = corpus.of_path(rows[0]["path"])
            if known and known[0]["sha256"] and rows[0]["sha256"] is None:
                log.warning("%s; what the corpus has of it stays", rows[0]["reason"])
                unread += rows
            elif rows != known:
                corpus.add(rows)
            done += rows
            for row in rows:
                span = "" if row["start_s"] is None else f" {row['start_s']:.2f}-{row['end_s']:.2f} s"
                log.info("%s%s: %s", row["path"], span, row["reason"] or "ok")
            if progress:
                progress("preprocess", count, len(plan))
    return done, unread
