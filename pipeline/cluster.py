"""Many machines that work jobs off, joined by Ray: neither a process that dies nor a machine that is lost takes a job along."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from lipwright.data.errors import InputError, MissingPartError

log = logging.getLogger(__name__)

R = TypeVar("R")
Job = tuple[Any, ...]

RETRIES = 3
"""So often a job is done again whose process died or whose machine was lost."""

ANSWER_S = 5.0
"""So long an address may take to answer; Ray itself waits for minutes."""

LOOK_S = 1.0
"""How often to look whether machines have come or gone."""

PATIENCE_S = 10.0
"""So long tasks that are told to end may take to clean up."""


def work_off_on_cluster(
    work: Callable[..., R], jobs: Iterable[Job], *, given_up: Callable[..., R], workers: int | None, address: str
) -> Generator[R]:
    """Do what `lipwright.pipeline.crew.work_off` does on a Ray cluster; with Ray as it is, if the program has started it.

    What `work` raises is the fault of the machine that it ran on: that one gets no more jobs, and others do what it was at.

    Raises
    ------
    MissingPartError
        Ray is not installed.
    InputError
        Nobody answers at the address, or no machine is left.
    Exception
        What `work` raised on the last machine, after all others.
    """
    with _connected(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_task())
        release, jobs = version("lipwright"), iter(jobs)
        at: dict[Any, Job] = {}
        again: deque[Job] = deque()
        unfit: dict[str, Exception] = {}
        try:
            while True:
                cores = _cores(ray, unfit)
                if not cores:
                    raise next(reversed(unfit.values()), InputError(f"the cluster at {address} has no machine left"))
                while len(at) < min(workers or cores, cores):
                    job = again.popleft() if again else next(jobs, None)
                    if job is None:
                        break
                    elsewhere = {"ray.io/node-id": f"!in({','.join(unfit)})"} if unfit else {}
                    packed = pickle.dumps((release, work, job))
                    at[task.options(label_selector=elsewhere).remote(packed)] = job
                if not at:
                    return
                for done in ray.wait(list(at), timeout=LOOK_S)[0]:
                    job = at.pop(done)
                    try:
                        machine, name, result, error = ray.get(done)
                    except ray.exceptions.RayTaskError:
                        raise
                    except ray.exceptions.RayError as died:
                        log.warning("a process ended at its work, and again (%s)", type(died).__name__)
                        yield given_up(*job, type(died).__name__)
                        continue
                    if error is None:
                        yield result
                        continue
                    again.append(job)
                    if machine not in unfit:
                        log.warning("%s gets no more work: %s", name, error)
                    unfit[machine] = error
        finally:
            _cancel(ray, list(at))


def _task() -> Callable[[bytes], tuple[str, str, Any, Exception | None]]:
    """Return what runs on the machines. A function in a function travels by value: a machine may lack Lipwright, and say so."""

    def run(packed: bytes) -> tuple[str, str, Any, Exception | None]:
        import importlib.metadata
        import pickle
        import socket
        import traceback

        import ray

        machine, name = ray.get_runtime_context().get_node_id(), socket.gethostname()
        try:
            from lipwright.data.errors import MissingPartError
            from lipwright.pipeline.crew import keep_to_one_core

            release, work, job = pickle.loads(packed)
            if (own := importlib.metadata.version("lipwright")) != release:
                raise MissingPartError(f"{name} has Lipwright {own}, not {release}; install the same on all machines")
            keep_to_one_core()
            return machine, name, work(*job), None
        except Exception as error:
            error.add_note(f"on {name}:\n{traceback.format_exc()}")
            return machine, name, None, error

    return run


def _cores(ray: Any, unfit: Iterable[str]) -> int:
    """Count the cores of the machines that are there and fit."""
    there = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in unfit]
    return int(sum(node["Resources"].get("CPU", 0) for node in there))


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """Interrupt tasks, and give them the time to leave nothing half-written."""
    for task in tasks:
        ray.cancel(task)
    if tasks:
        ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE_S)


def import_ray() -> Any:
    """Import Ray, and keep it from telling on stdout what it does about processes that die: a result stands there.

    Raises
    ------
    MissingPartError
        It is not installed.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError as error:
        raise MissingPartError("to work on a cluster, Lipwright needs Ray; pip install 'lipwright[cluster]'") from error
    return ray


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, quietly."""
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    _knock(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the Ray cluster at {address} cannot be used from here ({error}); "
            "has this machine joined it (ray start --address), with the same Ray and the same RAY_AUTH_MODE?"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has set its own
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Find out whether anybody answers at an address."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise InputError(f"{address!r} is no address of a Ray cluster; give HOST:PORT, as ray start --head prints it")
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address} ({error}); start one with ray start --head") from error
