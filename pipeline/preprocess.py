"""Videos → corpus: features, mouth, pose and blendshapes of every source, in a pool of processes."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.corpus import Clip, Corpus, Row, save_clip, settings_hash, settings_of
from lipwright.data.errors import FaceError, InputError, MediaError
from lipwright.data.face_space import fit_pose
from lipwright.data.features import FeatureSettings, compute_features, frame_energy_db
from lipwright.data.landmarks import face_track, model_path
from lipwright.data.media import file_sha256, probe, rate_of
from lipwright.data.mouth import measure_mouth
from lipwright.pipeline.progress import Progress

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

QUIETEST_DB = -60.0
"""A source whose loud moments stay under this has no speech to learn from."""

LEAST_FACE_RATE = 0.05
"""A source with a face in fewer of its frames is rejected."""


@dataclass(frozen=True)
class Source:
    """A video to take in, and who speaks in it."""

    path: Path
    speaker: str


def find_sources(inputs: Sequence[Path], speaker: str | None = None) -> list[Source]:
    """List the videos that files and folders stand for.

    The speaker is `speaker`, else the sub-folder under the given folder, else the file itself.

    Raises
    ------
    InputError
        A path does not exist, or there is no video among them.
    """
    sources: dict[Path, Source] = {}
    for given in inputs:
        if not given.exists():
            raise InputError(f"{given} does not exist; check the path")
        paths = [given] if given.is_file() else sorted(p for p in given.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES)
        for path in paths:
            inside = path.relative_to(given).parts if given.is_dir() else (path.name,)
            sources.setdefault(path.resolve(), Source(path, speaker or inside[0]))
    if not sources:
        raise InputError(f"no video in {', '.join(map(str, inputs))}; expected files such as .mp4, .mov, .mkv or .webm")
    return list(sources.values())


Job = tuple[Source, str, Path, FeatureSettings]
"""What `take_in` needs: the source, its sha256, the corpus folder, and how to compute features."""


def take_in(source: Source, sha256: str, folder: Path, features: FeatureSettings, threads: int = 1) -> Row:
    """Process one source into one clip file, and return its manifest row (ok or rejected)."""
    row: Row = {
        "id": f"{sha256[:12]}-0",
        "path": str(source.path.resolve()),
        "sha256": sha256,
        "speaker": source.speaker,
        "start_s": None,
        "end_s": None,
        "rate": None,
        "frames": None,
        "face_rate": None,
        "lag_ms": None,
        "split": None,
        "status": "rejected",
        "reason": None,
        "settings_hash": settings_hash(settings_of(features)),
    }
    try:
        media = probe(source.path)
        media.need_video()
        samples = read_speech(media)
        loud_db = float(np.percentile(frame_energy_db(samples, features), 95))
        if loud_db < QUIETEST_DB:
            raise MediaError(f"{source.path} is silent (loud moments at {loud_db:.0f} dB); nothing to learn from")
        track = face_track(media, sha256=sha256, threads=threads)
        face_rate = float(track.found.mean())
        row |= {"frames": len(track.pts), "face_rate": round(face_rate, 4)}
        rate = rate_of(track.times_s)
        row["rate"] = "variable" if rate is None else str(rate)
        if face_rate < LEAST_FACE_RATE:
            raise FaceError(f"{source.path} shows a face in {face_rate:.1%} of its frames; nothing to learn from")
    except InputError as error:
        return row | {"reason": str(error)}
    pose = fit_pose(track.points)
    clip = Clip(
        features=compute_features(samples, features),
        audio=np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16),
        times_s=track.times_s,
        mouth=np.nan_to_num(measure_mouth(track)),
        rotation=np.nan_to_num(pose.rotation),
        scale=np.nan_to_num(pose.scale),
        shift=np.nan_to_num(pose.shift),
        blendshapes=np.nan_to_num(track.blendshapes),
        valid=track.found,
    )
    save_clip(folder / "clips" / f"{row['id']}.safetensors", clip)
    end_s = min(len(samples) / SAMPLE_RATE_HZ, float(track.times_s[-1]))
    return row | {"status": "ok", "start_s": 0.0, "end_s": round(end_s, 3)}


def _start_worker(log_level: int) -> None:
    """Keep a worker to one core (oversubscribed cores cost far more than they bring), and end it by SIGTERM, cleanly."""
    import cv2

    logging.basicConfig(level=log_level, format="%(message)s")
    cv2.setNumThreads(1)
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    raise SystemExit(1)


def _work(*job: Any) -> Row:
    try:
        return take_in(*job)
    except SystemExit:
        os._exit(1)  # the pool would take it for a failed job, and go on with the next


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start workers inside: a terminal sends Ctrl-C to them too, but to end them, cleanly, is up to their parent."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(jobs: Sequence[Job], workers: int) -> Iterator[Row]:
    if workers == 1 or len(jobs) <= 1:
        yield from (take_in(*job, threads=0) for job in jobs)
        return
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    others = set(active_children())  # of the program that calls us
    with ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(logging.getLogger().getEffectiveLevel(),),
    ) as pool:
        try:
            with _without_ctrl_c():
                futures = [pool.submit(_work, *job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.terminate()
            raise


def preprocess_corpus(
    inputs: Iterable[Path | str],
    out: Path | str,
    *,
    speaker: str | None = None,
    workers: int | None = None,
    features: FeatureSettings | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fill a corpus from videos; a second run does only what is missing or changed.

    Parameters
    ----------
    inputs
        Videos, or folders of them (other files in a folder are passed over).
    out
        The corpus folder, made if it is not there.
    speaker
        Who speaks in all of them; by default each sub-folder of an input folder is one speaker, and each file another.
    workers
        Processes; by default one a core.
    features
        Feature settings; defaults to `FeatureSettings()`.
    force
        Do anew what the corpus already holds.
    progress
        Called with ("preprocess", sources done, sources in all).

    Returns
    -------
    dict
        ``clips``: the manifest rows of these inputs; ``seconds`` and ``frames`` of usable video; ``elapsed_s``.

    Raises
    ------
    InputError
        An input does not exist, or there is no video among them. (A source that cannot be used is a rejected row.)
    CorpusError
        `out` is something else than a corpus.
    """
    began = time.perf_counter()
    features = features or FeatureSettings()
    sources = find_sources([Path(p) for p in inputs], speaker)
    model_path()  # say that the landmark model is missing before any work is done
    corpus = Corpus.create(Path(out), features)
    hashes = {source.path: file_sha256(source.path) for source in sources}
    jobs: list[Job] = []
    rows: list[Row] = []
    first: dict[str, Path] = {}
    for source in sources:
        if (twin := first.setdefault(hashes[source.path], source.path)) != source.path:
            log.warning("%s holds the same bytes as %s and is passed over", source.path, twin)
            continue
        known = [r for r in corpus.find(hashes[source.path]) if r["speaker"] == source.speaker and not force]
        rows += known
        if not known:
            jobs.append((source, hashes[source.path], corpus.folder, features))
    for row in _run(jobs, workers or os.cpu_count() or 1):
        rows.append(row)
        corpus.add([row])
        log.info("%s: %s", row["path"], row["reason"] or "ok")
        if progress:
            progress("preprocess", len(rows), len(sources))
    names = {row["path"] for row in rows}
    usable = [row for row in corpus.usable if row["path"] in names]
    return {
        "clips": [row for row in corpus.rows if row["path"] in names],
        "seconds": round(sum(row["end_s"] - row["start_s"] for row in usable), 3),
        "frames": sum(row["frames"] for row in usable),
        "elapsed_s": round(time.perf_counter() - began, 3),
    }
