"""Corpus → model."""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError, InputError, require_new
from lipwright.models.device import choose_device
from lipwright.models.lipsync import BASE, CONFIG, Config, LipSync
from lipwright.pipeline.course import FIT_FILE, Course
from lipwright.pipeline.processes import team
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.record import METRICS_FILE, Record
from lipwright.pipeline.settings import TrainSettings

log = logging.getLogger(__name__)

FROM_BASE, FROM_NOTHING = "base", "none"
"""What a training starts from, if not from another run."""

ALIKE = ("cell", "direction", "hidden", "layers", "layer_norm")
"""What must be as asked for, if the base model is to be started from."""

INHERITED = (*ALIKE, "members")
"""Settings that a training takes over from the run that it starts from."""

ARCHITECTURE = (
    "cell", "direction", "lookahead_ms", "hidden", "layers", "layer_norm", "members", "components", "blendshapes", "features"
)  # fmt: skip
"""What a training that is resumed must have in common with its beginning."""


def starting_point(init: str, settings: TrainSettings, corpus: Corpus) -> tuple[TrainSettings, LipSync | None]:
    """Return the settings of a training, and the model that it starts from, if any."""
    if init == FROM_NOTHING:
        return settings, None
    base = LipSync.load(BASE if init == FROM_BASE else Path(init))
    same = base.config.features == corpus.settings["features"]
    if init == FROM_BASE:
        # It hears as far ahead as it is let: in training, to the end of each second.
        asked = replace(settings, direction="both" if settings.direction == "whole" else settings.direction)
        others = [name for name in ALIKE if getattr(base.config, name) != getattr(asked, name)]
        if others or not same:
            log.info("the base model has another %s than asked for: started from nothing", (others or ["features"])[0])
            return settings, None
        return settings, base
    if not same:
        raise CorpusError(f"{corpus.folder} has other features than the model of --init; preprocess anew")
    settings = replace(settings, delay_ms=base.config.lookahead_ms, **{k: getattr(base.config, k) for k in INHERITED})
    return replace(settings, direction="whole") if base.config.lookahead_ms is None else settings, base


def _require_same(run: Path, config: Config, settings: TrainSettings, init: str) -> None:
    """Raise `InputError` if a run cannot be gone on with as asked."""
    begun = LipSync.load(run).config
    for name in ARCHITECTURE:
        was, asked = getattr(begun, name), getattr(config, name)
        if was != asked:
            words = [f"{name} {was}", str(asked)]
            if name == "lookahead_ms":
                words = ["--direction whole" if ms is None else f"--delay-ms {ms:g}" for ms in (was, asked)]
            raise InputError(f"{run} was trained with {words[0]}, not {words[1]}; resume it so, or train anew to another --out")
    if (was := begun.training.get("init", FROM_NOTHING)) != init:
        raise InputError(f"{run} was started with --init {was}, not {init}; resume it so, or train anew to another --out")
    if sorted(s["sha256"] for s in begun.sources) != sorted(s["sha256"] for s in config.sources):
        raise InputError(
            f"{run} was trained on another corpus ({begun.corpus}); resume with that, or train anew to another --out"
        )
    if (planned := begun.training["settings"]["epochs"]) != settings.epochs:
        raise InputError(
            f"{run} planned its learning rate for {planned} epochs; resume with --epochs {planned} or use --init {run}"
        )


def train_model(
    corpus: Path | str,
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
    """Train a model on a corpus; in several processes if `torchrun` started them.

    The number of epochs is searched for on the validation part; then a model is trained so long on all of the corpus.

    Parameters
    ----------
    corpus
        Folder made by `preprocess_corpus`.
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
        The corpus is missing, broken, or holds nothing to train on.
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
    opened = Corpus.load(Path(corpus))
    if resume and not (out / FIT_FILE).is_file():
        raise InputError(f"{out} holds no training to resume; train without --resume first")
    require_new(out, force or resume)
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file():
        raise InputError(f"{out} holds other files than a model's; choose another --out")
    where = choose_device(device)
    settings, base = starting_point(str(init), settings, opened)
    init = str(init) if base is not None else FROM_NOTHING
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with team(where) as ours:
        if ours.size > settings.streams:
            raise InputError(f"{settings.streams} streams cannot be shared by {ours.size} processes; start fewer")
        course = Course(opened, settings, seed, init, base, where, ours)
        if resume:
            _require_same(out, course.build(course.train).config, settings, init)
        record = None
        try:
            if ours.rank == 0:
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
    return {"run": str(out), "init": init, **report, "elapsed_s": round(time.perf_counter() - began, 3)}


def _keep(course: Course, record: Record | None, partial: Path, out: Path) -> None:
    """Let the run appear, in process 0."""
    if record is None:
        return
    record.close()
    course.save(partial)
    if out.exists():
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    partial.rename(out)
