"""How jobs tell what they have done: a callback, never a print."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what, done, in all); in all is 0 where it is not known."""


def told_as(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """Give the callback of one stage: (done, in all), told under the stage's name."""
    return (lambda done, of: progress(what, done, of)) if progress else None
