"""The process of a job: it calls what the command line calls, and says through a pipe how far it is and what came of it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lipwright.data.edits import Edit
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.studio.work import CONSENTS, FOOTAGE, RENDERS, RUNS, SOUNDS, Project

PROGRESS, WARNING, DONE, FAILED, STOPPED = "progress", "warning", "done", "failed", "stopped"
"""What is said: how far it is, something on the way, and one of three ends."""

SAID_EVERY_S = 0.1

BASE, NOTHING = "base", "none"

DEVICE = "auto"
"""As on the command line."""

MOST_EDITED_S = 300.0
"""Longer mouths are not laid out for editing: a track is read as a whole, at 7 kB a step."""


def check(project: Project, progress: Progress, *, video: str) -> dict[str, Any]:
    """Look at a video; return its clip."""
    from lipwright.pipeline import check_videos

    (clip,) = check_videos([project.path(FOOTAGE, video)], progress=progress)["clips"]
    return clip | {"path": video}


def preprocess(project: Project, progress: Progress, *, videos: list[str], face: str | None) -> dict[str, Any]:
    """Add videos to the project's corpus, all as one person's."""
    from lipwright.pipeline import preprocess_corpus

    paths = [project.path(FOOTAGE, video) for video in videos]
    done = preprocess_corpus(paths, project.corpus, speaker=project.name, face=face, progress=progress)
    return {name: done[name] for name in ("seconds", "frames", "elapsed_s")} | {"clips": [_clip(row) for row in done["clips"]]}


def _clip(row: dict[str, Any]) -> dict[str, Any]:
    names = ("start_s", "end_s", "status", "reason")
    return {name: row[name] for name in names} | {"path": Path(row["path"]).name}


def train(project: Project, progress: Progress, *, run: str, init: str, epochs: int, resume: bool) -> dict[str, Any]:
    """Train a run on the project's corpus."""
    from lipwright.pipeline import train_model
    from lipwright.pipeline.settings import TrainSettings

    start = init if init in (BASE, NOTHING) else project.path(RUNS, init)
    out = project.path(RUNS, run) if resume else project.place(RUNS, run)
    settings = TrainSettings(epochs=epochs)
    return train_model(project.corpus, out, settings, init=start, resume=resume, progress=progress) | {"run": run}


def render(
    project: Project, progress: Progress, *, out: str, target: str, sound: str, model: str, consent: str | None,
    settings: dict[str, Any], face: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Render a sound onto a video, and lay the mouth out for editing."""
    from lipwright.data.audio import SAMPLE_RATE_HZ, StoredSpeech
    from lipwright.data.media import probe
    from lipwright.pipeline import export_mouth

    given = {"target": target, "sound": sound, "consent": consent, "settings": settings, "face": face}
    run = None if model == BASE else project.path(RUNS, model)
    result = _rendered(project, progress, out, given, (), model=run)
    audio = project.path(SOUNDS, sound)
    if len(StoredSpeech(probe(audio))) <= MOST_EDITED_S * SAMPLE_RATE_HZ:
        export_mouth(project.mouth(out), model=run, audio=audio, device=DEVICE, force=True)
    return result


def paint(project: Project, progress: Progress, *, out: str) -> dict[str, Any]:
    """Render again with the mouth as it was edited: what the edits do not reach is kept."""
    from lipwright.data.mouth import load_track

    mouth = project.mouth(out)
    edits = load_track(mouth).edits  # before it is rendered: those that come meanwhile are then known not to be
    return _rendered(project, progress, out, project.made(out)["given"], edits, mouth=mouth)


def _rendered(
    project: Project, progress: Progress, out: str, given: dict[str, Any], edits: Sequence[Edit], **mouth: Path | None
) -> dict[str, Any]:
    from lipwright.pipeline import render_video, verify_file
    from lipwright.pipeline.settings import Credentials, RenderSettings
    from lipwright.pipeline.verify import in_words

    consent = given["consent"]
    path = project.place(RENDERS, out)
    result = render_video(
        project.path(FOOTAGE, given["target"]),
        project.path(SOUNDS, given["sound"]),
        path,
        settings=RenderSettings(**given["settings"]),
        face=given["face"],
        credentials=Credentials(consent=None if consent is None else project.path(CONSENTS, consent)),
        device=DEVICE,
        force=True,
        progress=progress,
        **mouth,
    ) | {"out": out}
    try:
        words = in_words(verify_file(path))
    except Exception as error:  # without the extra, say: it is rendered all the same
        words = [str(error)]
    words = [line.replace(str(path), out) for line in words]
    project.keep(out, {"given": given, "result": result, "words": words, "edits": [asdict(edit) for edit in edits]})
    return result


KINDS: dict[str, Callable[..., dict[str, Any]]] = {work.__name__: work for work in (check, preprocess, train, render, paint)}
"""What a job can be."""


def _kept(project: Project, kind: str, given: dict[str, Any]) -> str:
    """Say what is left of a job that was stopped."""
    if kind == "preprocess":
        return "stopped; the videos that were finished are kept"
    if kind == "train" and given["run"] in project.names(RUNS):
        return f"stopped; {given['run']} holds the best so far: go on with it under Start from"
    if kind in ("render", "paint"):
        return "stopped; what was painted is kept: the same render goes on from there"
    return "stopped; nothing half-written was left"


class _Said(logging.Handler):
    """Passes warnings on."""

    def __init__(self, say: Callable[..., None], folder: Path) -> None:
        super().__init__(logging.WARNING)
        self._say, self._folder = say, folder

    def emit(self, record: logging.LogRecord) -> None:
        self._say(WARNING, _inside(self._folder, record.getMessage()))


def _inside(folder: Path, words: str) -> str:
    """Name files by where they are in the project."""
    return words.replace(f"{folder}{os.sep}", "")


def carry_out(pipe: Connection, folder: Path, kind: str, given: dict[str, Any]) -> None:
    """Do a job, in the process that was started for it with Ctrl-C blocked: from here on it stops the job, once."""
    from lipwright.data.threads import one_heap
    from lipwright.pipeline.cli.command import explain
    from lipwright.pipeline.crew import end_with_parent

    os.setsid()  # a terminal's Ctrl-C is for the studio, which passes it on
    threading.Thread(target=end_with_parent, daemon=True).start()
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    def say(*words: Any) -> None:
        with suppress(BrokenPipeError):
            pipe.send(words)

    said_s = 0.0

    def progress(what: str, done: int, of: int) -> None:
        nonlocal said_s
        if stopped.is_set():  # callbacks from C lose what is raised in them
            raise KeyboardInterrupt
        if (now := time.monotonic()) - said_s > SAID_EVERY_S or done == of:
            said_s = now
            say(PROGRESS, (what, done, of))

    logging.basicConfig(level=logging.WARNING, handlers=[_Said(say, folder)])
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        one_heap()
        end = partial(say, DONE, KINDS[kind](Project(folder), progress, **given))
    except KeyboardInterrupt:
        end = partial(say, STOPPED, _kept(Project(folder), kind, given))
    except Exception as error:
        end = partial(say, FAILED, _inside(folder, explain(error)[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end()
