"""Corpora → model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lipwright.data.errors import InputError, require_new
from lipwright.data.files import own_name, sweep
from lipwright.models.device import choose_device
from lipwright.models.lipsync import CONFIG, Config, LipSync
from lipwright.pipeline.course import FIT_FILE, Course
from lipwright.pipeline.pool import open_corpora
from lipwright.pipeline.processes import team
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.record import METRICS_FILE, Record
from lipwright.pipeline.settings import TrainSettings
from lipwright.pipeline.start import FROM_BASE, FROM_NOTHING, Start, starting_point

ARCHITECTURE = (
    "cell", "direction", "lookahead_ms", "hidden", "layers", "layer_norm", "members", "components", "blendshapes", "features"
)  # fmt: skip
"""What a training that is resumed must have in common with its beginning."""


def _require_same(run: Path, config: Config, settings: TrainSettings, start: Start, hashes: list[str]) -> None:
    """Raise `InputError` if a run cannot be gone on with as asked."""
    begun = LipSync.load(run).config
    for name in ARCHITECTURE:
        was, asked = getattr(begun, name), getattr(config, name)
        if was != asked:
            words = [f"{name} {was}", str(asked)]
            if name == "lookahead_ms":
                words = ["--direction whole" if ms is None else f"--delay-ms {ms:g}" for ms in (was, asked)]
            raise InputError(f"{run} was trained with {words[0]}, not {words[1]}; resume it so, or train anew to another --out")
    if (was := begun.training.get("init", FROM_NOTHING)) != start.name:
        raise InputError(f"{run} was started with --init {was}, not {start.name}; resume it so, or train anew to another --out")
    if begun.training.get("init_sha256") != start.sha256:
        raise InputError(f"the model that {run} was started from has changed ({was}); train anew to another --out")
    if [s["sha256"] for s in begun.sources] != [s["sha256"] for s in config.sources]:  # their order, too, is that of learning
        if begun.corpora == config.corpora:
            changed = ", ".join(begun.corpora)
            raise InputError(
                f"{changed} has changed since {run} was begun (videos added, taken out, or moved); train anew to another --out"
            )
        one, all_of_it = ("another corpus", "that") if len(begun.corpora) == 1 else ("other corpora", "those, in this order")
        was = ", ".join(begun.corpora)
        raise InputError(f"{run} was trained on {one} ({was}); resume with {all_of_it}, or train anew to another --out")
    hashes_then = begun.training.get("corpus_settings", hashes)
    hashes_then = [hashes_then] if isinstance(hashes_then, str) else hashes_then
    for folder, was, now in zip(config.corpora, hashes_then, hashes, strict=False):
        if was != now:
            raise InputError(f"{folder} has been preprocessed otherwise since {run} was begun; train anew to another --out")
    if (planned := begun.training["settings"]["epochs"]) != settings.epochs:
        raise InputError(
            f"{run} planned its learning rate for {planned} epochs; resume with --epochs {planned} or use --init {run}"
        )


def train_model(
    corpus: Path | str | Sequence[Path | str],
    out: Path | str,
    settings: TrainSettings | None = None,
    *,
    init: Path | str = FROM_BASE,
    device: str = "auto",
    seed: int = 0,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model on a corpus, or on several as one; in several processes if `torchrun` started them.

    The number of epochs is searched for on the validation part; then a model is trained so long on all of the corpus.

    Parameters
    ----------
    corpus
        Folder made by `preprocess_corpus`, or several: they are only read, and a video that is in two counts once.
    out
        Model folder to make. It appears when training is done, or interrupted.
    settings
        Defaults to `TrainSettings()`.
    init
        ``"base"``: the model that Lipwright ships, which knows speech, if `settings` ask for a network like its (`ALIKE`).
        A model folder: that one, of many speakers, say, to learn one more; what the network is made of (`INHERITED`) is
        then its, whatever `settings` say. ``"none"``: random weights.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    seed
        The same seed gives the same model on the same CPU.
    force
        Replace `out` if it exists.
    resume
        Go on with the training that was interrupted and left `out`, as if it had not been.
    progress
        Called with (what, epochs done, most epochs).

    Returns
    -------
    dict
        ``run``, ``init`` (what it started from), ``epochs``, ``steps``, ``val_loss`` and ``val_aperture_r`` of the best
        epoch (None without validation; epoch 0 is what it started from, with a new read-out), ``elapsed_s``.

    Raises
    ------
    CorpusError
        A corpus is missing, broken, or holds nothing to train on; or they have different features.
    InputError
        A setting or device cannot be used, or the training diverged.
    ModelError
        `init` cannot be used.
    OutputExistsError
        `out` exists and `force` is false.
    KeyboardInterrupt
        Stopped by the user; `out` then holds the best model so far, to go on with.
    """
    began = time.perf_counter()
    settings, out = settings or TrainSettings(), Path(out)
    corpora = open_corpora(corpus)
    if resume and not (out / FIT_FILE).is_file():
        raise InputError(f"{out} holds no training to resume; train without --resume first")
    require_new(out, force or resume)
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file():
        raise InputError(f"{out} holds other files than a model's; choose another --out")
    where = choose_device(device)
    settings, start = starting_point(init, settings, corpora[0])
    partial = own_name(out)
    with team(where) as ours:
        if ours.size > settings.streams:
            raise InputError(f"{settings.streams} streams cannot be shared by {ours.size} processes; start fewer")
        course = Course(corpora, settings, seed, start, where, ours)
        if resume:
            _require_same(out, course.build(course.train).config, settings, start, [corpus.hash for corpus in corpora])
        record = None
        try:
            if ours.rank == 0:
                sweep(out)
                partial.mkdir()
                for kept in [*out.glob(METRICS_FILE), *out.glob("events.out.tfevents*")] if resume else []:
                    shutil.copy(kept, partial)
                record = Record(partial)
            report = asdict(course.run(record, progress, out / FIT_FILE if resume else None))
            _keep(course, record, partial, out)
            ours.wait()
        except KeyboardInterrupt:
            if not course.worth_keeping:
                raise
            _keep(course, record, partial, out)
            raise KeyboardInterrupt(f"interrupted; {out} holds the best so far: go on with --resume") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {"run": str(out), "init": start.name, **report, "elapsed_s": round(time.perf_counter() - began, 3)}


def _keep(course: Course, record: Record | None, partial: Path, out: Path) -> None:
    """Let the run appear, in process 0."""
    if record is None:
        return
    record.close()
    course.save(partial)
    if out.exists():
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    partial.rename(out)
