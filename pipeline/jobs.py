"""Many renders, one after another, from a file that lists them.

What one target needs is made once, and is in the cache for the next.
"""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipwright.data.errors import Cancelled, InputError
from lipwright.pipeline.errors import in_words
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.settings import Credentials, RenderSettings

NEEDED = ("target", "audio", "out")
POSSIBLE = ("model", "mouth", "bank", "face")


@dataclass(frozen=True)
class Job:
    """A render: its inputs and its output, by the names that `render_video` has for them."""

    line: int
    given: dict[str, str]


def read_jobs(file: Path) -> list[Job]:
    """Read a list of renders: a CSV file with a head, or JSON lines.

    Each has `target`, `audio` and `out`, and may have `model`, `mouth`, `bank` and `face`. Relative paths are relative to the
    folder that the program runs in, as on the command line.

    Raises
    ------
    InputError
        The file cannot be read, a line does not hold what it should, or two have the same output.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before CSV
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; give a list of renders, as CSV or as JSON lines") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as text ({error})") from None
    rows = (_csv if file.suffix.lower() == ".csv" else _json)(file, text)
    jobs = [Job(line, _checked(file, line, row)) for line, row in rows]
    if not jobs:
        raise InputError(f"{file} lists no render; each line needs {', '.join(NEEDED)}")
    outs: dict[Path, int] = {}
    for job in jobs:
        before = outs.setdefault(Path(job.given["out"]).resolve(), job.line)
        if before != job.line:
            raise InputError(f"{file}: lines {before} and {job.line} both write {job.given['out']}")
    return jobs


def _csv(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    for row in rows:
        if None in row:
            raise InputError(f"{file}, line {rows.line_num}: more cells than its head has columns")
        yield rows.line_num, {key: value for key, value in row.items() if value}


def _json(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    for line, words in enumerate(text.split("\n"), 1):
        if words.strip():
            try:
                yield line, json.loads(words)
            except ValueError as error:
                raise InputError(f"{file}, line {line}: not JSON ({error}); write one object on each line") from None


def _checked(file: Path, line: int, row: Any) -> dict[str, str]:
    if not isinstance(row, dict):
        raise InputError(f'{file}, line {line}: not an object; write {{"target": …, "audio": …, "out": …}}')
    row = {key: value for key, value in row.items() if value is not None}
    if missing := [key for key in NEEDED if not row.get(key)]:
        raise InputError(f"{file}, line {line}: lacks {', '.join(missing)}")
    for key, value in row.items():
        if key not in NEEDED + POSSIBLE:
            raise InputError(f"{file}, line {line}: {key!r} is not known; use {', '.join(NEEDED + POSSIBLE)}")
        if not isinstance(value, str):
            raise InputError(f"{file}, line {line}: {key} is {value!r}, not text")
    return row


def render_jobs(
    file: Path | str,
    settings: RenderSettings | None = None,
    *,
    credentials: Credentials | None = Credentials(),
    device: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    finished: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Carry out the renders that a file lists; one that fails does not keep the others from being done.

    Parameters
    ----------
    file
        As `read_jobs` reads it.
    settings, credentials, device, force, progress, cancel
        As in `render_video`; for all of them.
    finished
        Called with each result.

    Returns
    -------
    dict
        ``jobs``: for each what `render_video` returns, or ``out`` and ``error``; ``elapsed_s``.

    Raises
    ------
    InputError
        The file cannot be used; nothing was done.
    Cancelled
        `cancel` was set.
    """
    from lipwright.pipeline.render import render_video

    began, results = time.perf_counter(), []
    for job in read_jobs(Path(file)):
        given = dict(job.given)
        paths = [given.pop(key) for key in NEEDED]
        try:
            result = render_video(
                *paths,
                **given,
                settings=settings,
                credentials=credentials,
                device=device,
                force=force,
                progress=progress,
                cancel=cancel,
            )
        except Cancelled:
            raise
        except Exception as error:  # whatever it is, the others are done
            result = {"out": job.given["out"], "error": in_words(error)}
        results.append(result)
        if finished:
            finished(result)
    return {"jobs": results, "elapsed_s": round(time.perf_counter() - began, 3)}
