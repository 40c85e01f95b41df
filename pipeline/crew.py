"""The processes that work many jobs off, each on one core."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

from lipwright.data.threads import one_heap

R = TypeVar("R")


def work_off(work: Callable[..., R], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[R]:
    """Do `work(*job)` for all jobs, in so many processes; yield what it returns, as it comes."""
    if workers == 1 or len(jobs) <= 1:
        yield from (work(*job) for job in jobs)
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
                futures = [pool.submit(_work, work, *job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.terminate()
            raise


def _start_worker(log_level: int) -> None:
    """Keep a worker to one core (oversubscribed cores cost far more than they bring), and end it by SIGTERM, cleanly."""
    import cv2

    logging.basicConfig(level=log_level, format="%(message)s")
    cv2.setNumThreads(1)
    one_heap()
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    raise SystemExit(1)


def _work(work: Callable[..., R], *job: Any) -> R:
    try:
        return work(*job)
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
