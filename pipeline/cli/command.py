"""What every command has: common options, errors that are words and exit codes, a progress bar, one result."""

from __future__ import annotations

import time

BEGAN = time.perf_counter()  # `elapsed_s` counts the imports too

import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Collection, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from enum import StrEnum  # noqa: E402
from inspect import Signature, signature  # noqa: E402
from typing import Annotated, Any  # noqa: E402

import typer  # noqa: E402

from lipwright.data.errors import LipwrightError, MissingPartError  # noqa: E402
from lipwright.models.errors import ModelError  # noqa: E402
from lipwright.pipeline.errors import in_words  # noqa: E402
from lipwright.pipeline.progress import Progress  # noqa: E402

EXIT_UNEXPECTED, EXIT_USAGE, EXIT_INPUT, EXIT_MISSING, EXIT_SOME_FAILED, EXIT_REQUIRED, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 6, 130
DEBUG_VARIABLE = "LIPWRIGHT_DEBUG"
MODEL_HELP = "Model folder made by train; without, the base model, which has heard synthesized speech alone."

app = typer.Typer(
    name="lipwright",
    help="Lip-sync real video to speech. Ask the person in the video for consent; rendered files say that they are synthetic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Face(StrEnum):
    """Which of several faces is followed."""

    largest = "largest"
    left = "left"
    right = "right"
    track = "track"


@dataclass(frozen=True)
class Common:
    """The options that every command has."""

    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")] = False
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same result on the same machine.")] = 0
    device: Annotated[Device, typer.Option("--device", help="Where the network runs.")] = Device.auto
    force: Annotated[bool, typer.Option("--force", help="Replace what is already there.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False


class Failure(Exception):
    """Ends a command that has printed its result with an exit code other than 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def explain(error: BaseException) -> tuple[int, str]:
    """Translate an exception to an exit code and a line for people."""
    if isinstance(error, Failure):
        return error.code, str(error)
    if isinstance(error, LipwrightError):
        return error.exit_code, str(error)
    if isinstance(error, ModelError):
        return EXIT_INPUT, str(error)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, str(error) or "interrupted; nothing half-written was left"
    if isinstance(error, ImportError):
        hint = "on Debian: apt install libgl1 libglib2.0-0 libxcb1" if ".so" in str(error) else "pip install lipwright again"
        return MissingPartError.exit_code, f"{error}; {hint}"
    if isinstance(error, OSError) and error.filename:
        return EXIT_INPUT, in_words(error)
    return EXIT_UNEXPECTED, f"{in_words(error)}; set {DEBUG_VARIABLE}=1 to see where"


_stopped = False


def stop(*_: object) -> None:
    """Interrupt what runs, and remember it: numba's callbacks from C lose the exception that is raised in them."""
    global _stopped
    _stopped = True
    raise KeyboardInterrupt


def command(run: Callable[..., None], group: typer.Typer = app) -> Callable[..., None]:
    """Make a function a command: with the common options, given to it as one, and errors that are words and exit codes.

    Its name is the function's, without the underscore that keeps it apart from Python's own (``list_``).
    """
    own = list(signature(run, eval_str=True).parameters.values())
    shared = [p.replace(kind=p.KEYWORD_ONLY) for p in signature(Common, eval_str=True).parameters.values()]
    names = {p.name for p in shared}

    def guarded(**options: Any) -> None:
        common = Common(**{name: options.pop(name) for name in names})
        level = logging.ERROR if common.quiet else logging.INFO if common.verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)  # clean up as after Ctrl-C
        try:
            run(**options, common=common)
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get(DEBUG_VARIABLE) == "1":
                raise
            code, message = explain(error)
            typer.echo(f"lipwright: {plain(message)}", err=True)
            raise typer.Exit(code) from None

    parameters = [*(p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != "common"), *shared]
    guarded.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    guarded.__annotations__ = {p.name: p.annotation for p in parameters}
    group.command(name=run.__name__.rstrip("_"), help=run.__doc__)(guarded)
    return guarded


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """Show a bar on stderr while something runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Where there is no terminal, rich would still end the bar's line: an empty one in people's logs.
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, of: int) -> None:
            if _stopped:
                raise KeyboardInterrupt
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of or None)
            bars.update(tasks[what], completed=done, total=of or None)

        yield show


def tell(result: dict[str, Any], as_json: bool, words: Callable[[], str]) -> None:
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks
        say(json.dumps(result, indent=2) if as_json else words())


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(words: str) -> str:
    """Return a text without what a terminal would take for more than text: names of files may hold anything."""
    return _CONTROLS.sub("?", words)


def say(words: str) -> None:
    """Print a result; whoever reads may stop, as `head` does, when they have seen enough."""
    try:
        typer.echo(plain(words))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written when Python ends


def size(count: float) -> str:
    """Say how much room bytes take."""
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= of:
            return f"{count / of:,.1f} {unit}"
    return f"{count:.0f} bytes"


def columns(rows: list[list[str]], left: Collection[int] = (0,)) -> str:
    """Lay cells out in columns, those of `left` to the left, the others to the right."""
    widths = [max(map(_width, cells)) for cells in zip(*rows, strict=True)]
    places = [str.ljust if k in left else str.rjust for k in range(len(widths))]

    def line(row: list[str]) -> str:
        cells = [place(cell, w + len(cell) - _width(cell)) for cell, w, place in zip(row, widths, places, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, rows))


_PERHAPS_WIDE = re.compile("[\u0300-\u1fff\u2c00-\U0010ffff]")


def _width(text: str) -> int:
    """Return how many cells of a terminal a text takes: Chinese characters take two."""
    if text.isascii() or not _PERHAPS_WIDE.search(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
