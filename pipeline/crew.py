"""The processes that work many jobs off, each on one core, and what becomes of a job whose process dies.

Each process is at one job, through a pipe of its own. So it is known what a process was at that the kernel killed for its
memory, or that a decoder brought down, and nothing else is lost with it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from lipwright.data.errors import LipwrightError
from lipwright.data.threads import one_heap

log = logging.getLogger(__name__)

R = TypeVar("R")
Job = tuple[Any, ...]

PATIENCE_S = 30.0
"""So long a process that is told to end may take to clean up."""


def work_off(
    work: Callable[..., R],
    jobs: Iterable[Job],
    *,
    given_up: Callable[..., R],
    workers: int | None = None,
    ray: str | None = None,
) -> Generator[R]:
    """Do `work(*job)` for all jobs, in processes of their own, and yield what it returns, as it comes.

    A job whose process dies is done again at the end, alone: of several, the one that is killed for want of memory is not
    always the one that wants it.

    Parameters
    ----------
    work
        A function of a module. What it raises ends the run, or, on a cluster, the part of a machine in it.
    jobs
        Its arguments, read as they are needed: one a worker.
    given_up
        Called with the arguments of a job that always ends its process, and how (the signal, say); gives a result in its place.
    workers
        Processes at once; by default one a core, of all machines.
    ray
        Address of the Ray cluster to work on; by default the processes are this machine's.

    Raises
    ------
    LipwrightError
        Processes end before they are at a job.
    """
    if ray is not None:
        from lipwright.pipeline.cluster import work_off_on_cluster

        yield from work_off_on_cluster(work, jobs, given_up=given_up, workers=workers, address=ray)
        return
    died: list[tuple[Job, str]] = []
    yield from _work_off(work, jobs, workers or os.cpu_count() or 1, died)
    if died:
        log.warning("what they were at is tried again, one at a time: %d", len(died))
    for job, _ in died:
        again: list[tuple[Job, str]] = []
        yield from _work_off(work, [job], 1, again)
        yield from (given_up(*job, how) for job, how in again)


def _work_off(work: Callable[..., R], jobs: Iterable[Job], workers: int, died: list[tuple[Job, str]]) -> Generator[R]:
    """Yield the results of jobs; those whose process dies go to `died`, with how it ended."""
    # Oversubscribed cores cost far more than they bring; numerical libraries read this when they are imported.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    jobs = iter(jobs)
    ahead = deque(islice(jobs, workers))
    crew: dict[Any, _Worker] = {}
    try:
        for _ in range(len(ahead)):
            _Worker(work).join(crew)
        while crew:
            for pipe in wait(list(crew)):
                worker = crew[pipe]
                try:
                    said = worker.pipe.recv()
                except (EOFError, OSError):
                    how = crew.pop(pipe).end()
                    if worker.job is not None:
                        log.warning("a process ended at its work (%s)", how)
                        died.append((worker.job, how))
                        if ahead:
                            _Worker(work).join(crew)
                    elif ahead and not crew:
                        raise LipwrightError(f"no process can be started ({how}); is there memory for it?") from None
                    continue
                if isinstance(said, Exception):
                    raise said
                worker.job = ahead.popleft() if ahead else None
                ahead.extend(islice(jobs, 1))
                if worker.job is not None:
                    with suppress(OSError):  # it has just died, and will be heard of
                        worker.pipe.send(worker.job)
                else:
                    crew.pop(pipe).end()
                yield from said
    finally:
        for worker in crew.values():
            worker.process.terminate()
        for worker in crew.values():
            worker.end()


class _Worker:
    """A process: it says that it is ready, with an empty tuple, and then the result of each job, in one; or what went wrong."""

    def __init__(self, work: Callable[..., Any]) -> None:
        context = get_context("spawn")
        self.job: Job | None = None
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, work, logging.getLogger().getEffectiveLevel())
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with without_ctrl_c():
            self.process.start()
        theirs.close()  # so that ours is told when the process ends

    def join(self, crew: dict[Any, _Worker]) -> None:
        """Become one of those that are listened to."""
        crew[self.pipe] = self

    def end(self) -> str:
        """End, if it has not, and say how it did."""
        self.process.terminate()
        self.process.join(PATIENCE_S)
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return how_it_ended(self.process)


def how_it_ended(process: BaseProcess) -> str:
    """Say how a process that is over ended: the signal, or its exit code."""
    code = process.exitcode or 0
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def _serve(pipe: Connection, work: Callable[..., Any], log_level: int) -> None:
    """Do the jobs that come through a pipe, until it is closed."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    logging.basicConfig(level=log_level, format="%(message)s")
    keep_to_one_core()
    signal.signal(signal.SIGTERM, _leave)
    said: Any = ()
    with suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(said)
            job = pipe.recv()
            try:
                said = (work(*job),)
            except Exception as error:
                error.add_note(f"in a worker:\n{traceback.format_exc()}")
                said = error


def end_with_parent() -> None:
    """End this process, whatever it is at, once its parent has ended: that one was killed, and its lock is gone with it."""
    if (parent := parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def keep_to_one_core() -> None:
    """Let the libraries of this process use one thread, and one heap."""
    import cv2

    cv2.setNumThreads(1)
    one_heap()


def _leave(*_: object) -> None:
    raise SystemExit(1)  # what is half-written goes


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Start workers inside: a terminal sends Ctrl-C to them too, but to end them, cleanly, is up to their parent."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
