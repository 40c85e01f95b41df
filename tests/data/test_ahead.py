"""Things made ahead come in order, no more of them than are asked for, and errors come with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from lipwright.data.ahead import ahead


def test_things_come_in_order() -> None:
    assert list(ahead(range(100))) == list(range(100))
    assert list(ahead([])) == []


def test_they_are_made_in_another_thread_and_not_too_far_ahead() -> None:
    made: list[tuple[int, int]] = []

    def things() -> Iterator[int]:
        for k in range(50):
            made.append((k, threading.get_ident()))
            yield k

    with closing(ahead(things(), depth=2)) as ready:
        for k in ready:
            assert len(made) <= k + 1 + 2 + 1 + 1  # used, waiting, waiting for room, being made
    assert {where for _, where in made}.isdisjoint({threading.get_ident()})


def test_an_error_is_raised_where_the_things_are_used() -> None:
    def things() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    ready = ahead(things())
    assert next(ready) == 1
    with pytest.raises(ValueError, match="no more"):
        next(ready)


@pytest.mark.parametrize("taken", [1, 3])
def test_closing_ends_the_thread(taken: int) -> None:
    before = threading.active_count()
    with closing(ahead(iter(int, 1))) as ready:  # endless zeros
        for _ in range(taken):
            next(ready)
    assert threading.active_count() == before
