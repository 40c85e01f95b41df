"""The jobs of a studio: one at a time, each in a process of its own, known from when they are asked for to long after."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lipwright.data.errors import InputError
from lipwright.data.files import sweep_all, whole_file
from lipwright.pipeline.crew import PATIENCE_S, how_it_ended, without_ctrl_c
from lipwright.pipeline.errors import in_words
from lipwright.pipeline.studio.work import Project, WorkFolder
from lipwright.pipeline.studio.worker import DONE, FAILED, PROGRESS, STOPPED, WARNING, carry_out

log = logging.getLogger(__name__)

QUEUED, RUNNING = "queued", "running"
ENDED = (DONE, FAILED, STOPPED)

MOST_KEPT = 300
"""Of older jobs no record is kept."""

CUT_OFF = "the studio was ended meanwhile; ask for it again: videos and spans that were finished are kept"

LOOK_S = 0.5
"""So often it is looked whether one that was told to stop has."""


@dataclass
class Job:
    """What was asked for.

    Attributes
    ----------
    number
        From 1; the later, the higher.
    kind, given
        Which of `lipwright.pipeline.studio.worker.KINDS`, and its arguments.
    project
        The project's name.
    state
        `QUEUED`, `RUNNING`, or one of `ENDED`.
    began_s, ended_s
        Seconds since 1970.
    result
        Of one that is done.
    words
        Of one that is not: why.
    warnings
        What was said on the way.
    progress
        What is being done, so many steps of it, of so many (0: not known).
    """

    number: int
    kind: str
    project: str
    given: dict[str, Any]
    state: str = QUEUED
    began_s: float | None = None
    ended_s: float | None = None
    result: dict[str, Any] | None = None
    words: str = ""
    warnings: list[str] = field(default_factory=list)
    progress: tuple[str, int, int] | None = None


class JobQueue:
    """The jobs in a work folder, those that wait and those that are over, and the thread that has them done.

    Parameters
    ----------
    work
        Jobs that were waiting in it still wait; those that ran when a studio ended have stopped.
    """

    def __init__(self, work: WorkFolder) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._open = True
        self._stops: dict[int, float] = {}
        self._pid: int | None = None
        self._jobs = {job.number: job for job in _read(work.jobs)}
        with self._changed:
            for job in [job for job in self._jobs.values() if job.state == RUNNING]:
                self._end(job, STOPPED, CUT_OFF)
        self._thread = threading.Thread(target=self._work_off, name="jobs")
        self._thread.start()

    def close(self) -> None:
        """Stop what runs, as cancelling does, and wait for it; what is queued stays so."""
        with self._changed:
            self._open = False
            for job in self._jobs.values():
                if job.state == RUNNING:
                    self._stop(job)
            self._changed.notify_all()
        self._thread.join()

    def every(self, project: str | None = None) -> list[Job]:
        """Return the jobs, of one project or all, the newest first."""
        with self._changed:
            jobs = sorted(self._jobs.values(), key=lambda job: -job.number)
        return [job for job in jobs if project in (None, job.project)]

    def last(self, project: str, kind: str, **given: Any) -> Job | None:
        """Return the newest job of a kind that was given certain arguments."""
        return next((job for job in self.every(project) if job.kind == kind and given.items() <= job.given.items()), None)

    def ask(self, project: str, kind: str, given: dict[str, Any]) -> Job:
        """Queue a job. In arguments that are text, ``{number}`` becomes the job's.

        Raises
        ------
        InputError
            The very same waits already.
        OSError
            It cannot be written down.
        """
        with self._changed:
            for other in self._jobs.values():
                same = (other.state, other.project, other.kind) == (QUEUED, project, kind)
                if same and other.given == _numbered(given, other.number):
                    raise InputError("the very same is waiting already")
            number = max(self._jobs, default=0) + 1
            job = Job(number, kind, project, _numbered(given, number))
            self._keep(job)
            self._jobs[number] = job
            self._forget()
            self._changed.notify_all()
        return job

    def cancel(self, number: int) -> None:
        """Stop a job, as Ctrl-C does; one that has not begun never will."""
        with self._changed:
            job = self._jobs.get(number)
            if job is None or job.state in ENDED:
                return
            if job.state == QUEUED:
                self._end(job, STOPPED, "cancelled before it began")
            else:
                self._stop(job)

    def stopping(self, job: Job) -> bool:
        """Say whether a job was told to stop, and has not yet."""
        return job.number in self._stops and job.state == RUNNING

    def _stop(self, job: Job) -> None:
        if job.number not in self._stops:
            self._stops[job.number] = time.monotonic()
            self._interrupt()

    def _interrupt(self) -> None:
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGINT)

    def _work_off(self) -> None:
        while True:
            with self._changed:
                while self._open and not any(job.state == QUEUED for job in self._jobs.values()):
                    self._changed.wait()
                if not self._open:
                    return
                job = min((job for job in self._jobs.values() if job.state == QUEUED), key=lambda job: job.number)
                job.state, job.began_s = RUNNING, time.time()
                self._note(job)
            try:
                state, words, result = self._done(job)
            except Exception as error:  # no memory for a process, say: the next may have some
                log.exception("job %d", job.number)
                state, words, result = FAILED, in_words(error), None
            with self._changed:
                job.result = result
                self._end(job, state, words)

    def _done(self, job: Job) -> tuple[str, str, dict[str, Any] | None]:
        """Have a job done; return how it ended, in words if it is not done, and its result."""
        with self._process(job, self._work.project(job.project)) as (process, pipe):
            while True:
                began = self._stops.get(job.number)
                if began is not None and time.monotonic() - began > PATIENCE_S:
                    process.kill()
                if not pipe.poll(LOOK_S):
                    continue
                try:
                    what, *said = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    if began is not None:
                        return STOPPED, "cancelled", None
                    return FAILED, f"its process was ended ({how_it_ended(process)}); is there memory for it?", None
                if what == PROGRESS:
                    job.progress = said[0]
                elif what == WARNING:
                    job.warnings.append(said[0])
                elif what == DONE:
                    return DONE, "", said[0]
                else:
                    return what, said[0], None

    @contextmanager
    def _process(self, job: Job, project: Project) -> Iterator[tuple[Any, Any]]:
        context = get_context("spawn")
        pipe, theirs = context.Pipe()
        process = context.Process(target=carry_out, args=(theirs, project.folder, job.kind, job.given))  # no daemon
        try:
            with without_ctrl_c():
                process.start()
            theirs.close()  # so that ours is told when the process ends
            with self._changed:
                self._pid = process.pid
                if job.number in self._stops:
                    self._interrupt()
            yield process, pipe
            process.join(PATIENCE_S)
        finally:
            with self._changed:
                self._pid = None
            if process.pid is not None:
                process.kill()
                process.join()
            pipe.close()
            project.sweep()

    def _end(self, job: Job, state: str, words: str) -> None:
        job.state, job.words, job.ended_s, job.progress = state, words, time.time(), None
        self._stops.pop(job.number, None)
        self._note(job)
        self._changed.notify_all()

    def _forget(self) -> None:
        """Keep no record of the oldest jobs that are over."""
        for number in sorted(self._jobs)[:-MOST_KEPT]:
            if self._jobs[number].state in ENDED:
                del self._jobs[number]
                with suppress(OSError):
                    _file(self._work.jobs, number).unlink()

    def _note(self, job: Job) -> None:
        """Write a job down, if there is room; if not, it is known while the studio is open."""
        try:
            self._keep(job)
        except OSError as error:
            job.warnings.append(f"it is not written down: {in_words(error)}")

    def _keep(self, job: Job) -> None:
        with whole_file(_file(self._work.jobs, job.number)) as partial:
            partial.write_text(json.dumps(asdict(job)))

    def wait(self, job: Job, timeout_s: float | None = None) -> Job:
        """Wait until a job is over, or for some time."""
        with self._changed:
            self._changed.wait_for(lambda: job.state in ENDED, timeout_s)
        return job


def _numbered(given: dict[str, Any], number: int) -> dict[str, Any]:
    return {name: value.replace("{number}", str(number)) if isinstance(value, str) else value for name, value in given.items()}


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.json"


def _read(folder: Path) -> list[Job]:
    """Read the jobs that were written down; what is broken is passed over."""
    names = {each.name for each in fields(Job)}
    jobs = []
    sweep_all(folder)
    for file in sorted(folder.glob("*.json")):
        try:
            job = Job(**{name: value for name, value in json.loads(file.read_text()).items() if name in names})
        except (OSError, ValueError, TypeError, AttributeError):
            log.warning("%s cannot be read, and is passed over", file)
            continue
        jobs.append(job)
    return jobs
