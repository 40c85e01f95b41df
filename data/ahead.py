"""Work done ahead: one thread makes things while another uses them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Queue
from typing import TypeVar

T = TypeVar("T")


def ahead(things: Iterable[T], depth: int = 2) -> Generator[T]:
    """Make things in a thread of their own, at most `depth` before they are asked for.

    What making them raises is raised here; when the iterator is closed, the thread ends at the next thing.
    """
    ready: Queue[tuple[bool, T | BaseException | None]] = Queue(depth)
    unwanted = threading.Event()

    def make() -> None:
        try:
            for thing in things:
                if unwanted.is_set():
                    return
                ready.put((True, thing))
            ready.put((False, None))
        except BaseException as error:
            ready.put((False, error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            more, thing = ready.get()
            if more:
                yield thing  # type: ignore[misc]
            elif isinstance(thing, BaseException):
                raise thing
            else:
                return
    finally:
        unwanted.set()
        while thread.is_alive():  # it may be waiting for room
            while not ready.empty():
                ready.get_nowait()
            thread.join(0.01)
