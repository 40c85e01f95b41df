"""The command that moves a mouth while sound comes in: stream."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lipwright.pipeline.cli.command import EXIT_USAGE, MODEL_HELP, Common, Device, Failure, command, progress_bar, tell

if TYPE_CHECKING:
    from lipwright.data.pcm import PcmReader
    from lipwright.pipeline.osc import OscSender
    from lipwright.pipeline.stream import LiveMouth, LiveSteps
    from lipwright.pipeline.visemes import VisemeSet

READ_BYTES = 1 << 16
"""Taken from stdin at once, if there is so much."""

RATE_HZ, CHANNELS = 16_000, 1
"""Of stdin, where it is not said."""


class Form(StrEnum):
    """How a sample is written."""

    s16le = "s16le"
    f32le = "f32le"


class Visemes(StrEnum):
    """What is shown as one of a few mouths."""

    rhubarb = "rhubarb"
    oculus = "oculus"
    preston_blair = "preston-blair"
    none = "none"


@command
def stream(
    model: Annotated[Path | None, typer.Option("--model", help=MODEL_HELP)] = None,
    gain_db: Annotated[
        float | None,
        typer.Option("--gain-db", min=-60, max=60, help="Of the voice; without, found from the first two seconds of speech."),
    ] = None,
    visemes: Annotated[Visemes, typer.Option("--visemes", help="Which mouths are told, for 60 ms each at least.")] = (
        Visemes.rhubarb
    ),
    rate: Annotated[int | None, typer.Option("--rate", help=f"Of the sound on stdin, Hz; {RATE_HZ} if not said.")] = None,
    format_: Annotated[Form | None, typer.Option("--format", help=f"Of its samples; {Form.s16le} if not said.")] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", help=f"Interleaved, their mean is heard; {CHANNELS} if not said.")
    ] = None,
    points: Annotated[bool, typer.Option("--points", help="Tell the 40 points of the lips, too.")] = False,
    blendshapes: Annotated[
        bool, typer.Option("--blendshapes", help="Tell the ARKit blendshapes of mouth and jaw, too.")
    ] = False,
    osc: Annotated[str | None, typer.Option("--osc", metavar="HOST:PORT", help="Send each step there as OSC, too.")] = None,
    microphone: Annotated[bool, typer.Option("--microphone", help="Hear the microphone in place of stdin.")] = False,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="[HOST:]PORT", help="Serve a page and WebSocket clients in place of stdin."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", help="Clients must know it; made where others than this machine are served.", show_default=False
        ),
    ] = None,
    target: Annotated[Path | None, typer.Option("--target", help="Paint clients' mouths on this video, live.")] = None,
    bank: Annotated[
        Path | None, typer.Option("--bank", help="Other footage of the target's person, to take mouths from.")
    ] = None,
    *,
    common: Common,
) -> None:
    """Move a mouth while sound comes in: raw PCM on stdin, the microphone, or WebSocket clients; a JSON line every 10 ms.

    With --json, the lines are the rows of one document.
    """
    sound = {"--rate": rate, "--format": format_, "--channels": channels}
    shown = {"--points": points or None, "--blendshapes": blendshapes or None, "--osc": osc}
    served = {"--token": token, "--target": target, "--bank": bank}
    if listen is not None:
        _refuse(sound | shown | {"--microphone": microphone or None}, "--listen: each client says what it sends and wants")
    else:
        _refuse(served, "stdin or the microphone: only --listen takes it")
    if token == "":
        raise Failure(EXIT_USAGE, "--token is empty; without the option, one is made where it is needed")
    if bank is not None and target is None:
        raise Failure(EXIT_USAGE, "--bank goes with --target")
    if microphone:
        _refuse(sound, "--microphone, which has its own")
    # Auto is the CPU: a step is so small that bringing it to a GPU takes longer.
    options: dict[str, Any] = {
        "model": model,
        "gain_db": gain_db,
        "device": "cpu" if common.device == Device.auto else common.device.value,
    }
    if listen is not None:
        host, port = _address(listen, "--listen", "127.0.0.1")
        _serve(host, port, token, target, bank, options | {"visemes": _set(visemes)}, common)
        return
    if not microphone and (sys.stdin is None or sys.stdin.isatty()):
        raise Failure(
            EXIT_USAGE, "stream hears raw PCM on stdin, as of: ffmpeg -i FILE -f s16le -ar 16000 -ac 1 - | lipwright stream"
        )
    from lipwright.data.pcm import Form as Written
    from lipwright.data.pcm import PcmReader
    from lipwright.pipeline.osc import OscSender
    from lipwright.pipeline.stream import LiveMouth

    with ExitStack() as open_:
        try:
            reader = PcmReader(rate or RATE_HZ, Written(format_ or Form.s16le), channels or CHANNELS)
        except ValueError as error:
            raise Failure(EXIT_USAGE, str(error)) from None
        sender = None if osc is None else open_.enter_context(OscSender(*_address(osc, "--osc", None)))
        mouth = LiveMouth(**options, blendshapes=blendshapes, visemes=_set(visemes))
        blocks = _stdin()
        if microphone:
            from lipwright.pipeline.microphone import open_microphone

            reader, blocks = open_.enter_context(open_microphone())
        _print(_steps(mouth, reader, blocks), mouth, sender, points, common.json)


def _refuse(options: dict[str, Any], why: str) -> None:
    if given := [name for name, value in options.items() if value is not None]:
        raise Failure(EXIT_USAGE, f"{given[0]} does not go with {why}")


def _set(visemes: Visemes) -> VisemeSet | None:
    from lipwright.pipeline.visemes import SETS

    return None if visemes is Visemes.none else SETS[visemes]


def _address(text: str, option: str, usual: str | None) -> tuple[str, int]:
    """Read HOST:PORT; [HOST]:PORT where the host has colons of its own, and PORT alone where there is a usual host."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or usual or ""
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise Failure(EXIT_USAGE, f"{option} is {text!r}, not {'HOST:PORT' if usual is None else '[HOST:]PORT'}")
    return host, int(port)


def _stdin() -> Iterator[bytes]:
    """Yield what comes on stdin, as it comes."""
    while data := os.read(sys.stdin.fileno(), READ_BYTES):
        yield data


def _steps(mouth: LiveMouth, reader: PcmReader, blocks: Iterable[bytes]) -> Iterator[LiveSteps]:
    for block in blocks:
        yield mouth.push(reader.push(block))
    yield mouth.push(reader.finish())
    yield mouth.finish()


def _print(every: Iterable[LiveSteps], mouth: LiveMouth, sender: OscSender | None, points: bool, as_json: bool) -> None:
    """Print steps as they come; whoever reads may stop when they have seen enough."""
    from lipwright.data.features import STEP_HZ

    before, after = (",\n", "") if as_json else ("", "\n")
    try:
        if as_json:
            head = {"step_hz": STEP_HZ, "lookahead_ms": round(1000 * mouth.lookahead_s), "scale": mouth.speaker.scale}
            _write(f'{json.dumps(head)[:-1]}, "steps": [\n')
        try:
            separator = ""
            for steps in every:
                if sender:
                    sender.send(steps, mouth.speaker)
                # One by one: what fits into stdout's buffer stays there when Ctrl-C comes while the reader lets it wait.
                for row in steps.rows(mouth.speaker, points=points):
                    _write(separator + json.dumps(row) + after)
                    separator = before
        finally:  # what was interrupted is a document, too
            if as_json:
                _write("\n]}\n")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written when Python ends


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _serve(
    host: str, port: int, token: str | None, target: Path | None, bank: Path | None, options: dict[str, Any], common: Common
) -> None:
    """Serve until Ctrl-C."""
    import asyncio

    from lipwright.pipeline.server import LiveServer

    face = None
    if target is not None:
        from lipwright.pipeline.render.live import LiveFace

        with progress_bar(common.quiet) as progress:
            face = LiveFace(target, bank=bank, progress=progress)
    server = LiveServer(host, port, token=token, face=face, **options)

    async def serve() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):  # not between any two lines of the loop, as Python's own would
            loop.add_signal_handler(number, task.cancel)
        async with server.open() as url:
            tell({"url": url, "token": server.token}, common.json, lambda: url)
            sys.stdout.flush()
            await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except asyncio.CancelledError:
        raise KeyboardInterrupt("stopped") from None
