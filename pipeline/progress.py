"""How jobs tell what they have done: a callback, never a print."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lipwright.data.errors import Cancelled

Progress = Callable[[str, int, int], None]
"""Called with (what, done, in all); in all is 0 where it is not known."""


def told_as(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """Give the callback of one stage: (done, in all), told under the stage's name."""
    return (lambda done, of: progress(what, done, of)) if progress else None


def stoppable(progress: Progress | None, cancel: threading.Event | None) -> Progress | None:
    """Let a job end where it next tells its progress, once `cancel` is set, with `Cancelled`."""
    if cancel is None:
        return progress

    def tell(what: str, done: int, of: int) -> None:
        if cancel.is_set():
            raise Cancelled("the job was cancelled; nothing half-written was left")
        if progress:
            progress(what, done, of)

    return tell
