"""Live mouths for others: a page, and WebSocket clients that send sound and are sent steps and pictures."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data.audio import SAMPLE_RATE_HZ
from lipwright.data.errors import InputError, MissingPartError
from lipwright.pipeline.errors import in_words
from lipwright.pipeline.live_client import MOST_BYTES, BadRequest, Inbox, Outbox, Session, Wish
from lipwright.pipeline.page import live_page
from lipwright.pipeline.stream import LiveMouth
from lipwright.pipeline.visemes import RHUBARB, VisemeSet

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from lipwright.pipeline.render.live import LiveFace

log = logging.getLogger(__name__)

MOST_CLIENTS = 8

FIRST_S = 10.0
"""A client says what it wants within so much."""

SILENT_S = 20.0
"""A client of whom nothing came for so long is asked whether it is still there, and has as long to answer."""

PATIENCE_S = 40.0
"""A client who takes nothing of what it is sent for so long is gone: its place is for others."""

FAREWELL_S = 2.0
"""Clients have so long to say goodbye when the server ends."""

BAD_REQUEST, UNEXPECTED, TOO_MANY = 1008, 1011, 1013
"""Codes that a WebSocket is closed with, RFC 6455 and IANA's registry."""

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # its address may hold the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LiveServer:
    """Serves live mouths over WebSocket, and a page that shows one (`docs/streaming.md`).

    Each client has a mouth of its own, and a thread that moves it.

    Parameters
    ----------
    host, port
        Where to listen. Port 0: any that is free.
    token
        What clients must know; None: nothing on this machine, elsewhere one is made.
    model, gain_db, visemes, device
        As `LiveMouth`'s.
    face
        Paints the mouth of clients that wish it.

    Attributes
    ----------
    token : str or None

    Raises
    ------
    ModelError
        The model cannot be used, or hears the whole clip.
    MissingPartError
        websockets is not installed.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8765,
        *,
        token: str | None = None,
        model: Path | str | None = None,
        gain_db: float | None = None,
        visemes: VisemeSet | None = RHUBARB,
        device: str = "cpu",
        face: LiveFace | None = None,
    ) -> None:
        try:
            import websockets  # noqa: F401
        except ImportError:
            raise MissingPartError("--listen needs websockets: pip install 'lipwright[stream]'") from None
        self._host, self._port, self._face = host, port, face
        self.token = token or (None if _is_loopback(host) else secrets.token_urlsafe(16))
        mouth = LiveMouth(model, visemes=visemes, device=device)
        # What is compiled at its first use is compiled before a client waits.
        mouth.push(np.zeros(SAMPLE_RATE_HZ // 2, np.float32))
        self._new_mouth = partial(LiveMouth, mouth.lipsync, gain_db=gain_db, speaker=face.speaker if face else None)
        self._visemes = visemes
        self._clients = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Serve as long as the context lasts.

        Yields
        ------
        str
            The page's address, with the token.

        Raises
        ------
        InputError
            The port is taken, or may not be listened on; there is no such host.
        """
        from websockets.asyncio.server import serve

        try:
            server = await serve(
                self._live,
                self._host,
                self._port,
                process_request=self._admit,
                compression=None,  # pictures are compressed, steps are small
                max_size=MOST_BYTES,
                max_queue=1,  # an inbox holds what waits
                open_timeout=FIRST_S,
                ping_interval=None,  # `_receive` asks: an answer may stand behind much sound
                server_header=None,
                logger=_quiet(),
            )
        except (OSError, UnicodeError) as error:  # no name has such letters, or so many
            raise InputError(f"cannot listen on {self._host}:{self._port}: {_why(error)}") from None
        port = next(iter(server.sockets)).getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        with threadpool_limits(1):  # clients have a thread each
            try:
                yield f"http://{host}:{port}/" + (f"?token={quote(self.token, safe='')}" if self.token else "")
            finally:
                server.close()
                with suppress(TimeoutError):
                    await asyncio.wait_for(server.wait_closed(), FAREWELL_S)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is asked over HTTP; let WebSocket clients in that may come."""
        from websockets.datastructures import Headers
        from websockets.http11 import Response

        def answer(status: HTTPStatus, body: bytes | None = None, **headers: str) -> Response:
            body = f"{status.value} {status.phrase}\n".encode() if body is None else body
            all_of_them = {"Content-Type": "text/plain; charset=utf-8"} | headers
            all_of_them |= {"Content-Length": str(len(body)), "Connection": "close"}
            return Response(status.value, status.phrase, Headers(all_of_them), body)

        path, _, query = request.path.partition("?")
        if path not in ("/", "/live"):
            return answer(HTTPStatus.NOT_FOUND)
        if getattr(request, "method", "GET") != "GET":  # which an older websockets lets through alone
            return answer(HTTPStatus.METHOD_NOT_ALLOWED, b"", Allow="GET")
        if self.token is not None:
            given = parse_qs(query).get("token", [""])[0]
            if not secrets.compare_digest(given.encode(), self.token.encode()):
                return answer(HTTPStatus.UNAUTHORIZED)
        elif not _is_loopback(_host_of("//" + _only(request, "Host"))):  # some page's own name, made to lead to this machine
            return answer(HTTPStatus.FORBIDDEN)
        if path == "/live":
            origin = _only(request, "Origin")
            same = not origin or origin.partition("://")[2] == _only(request, "Host")
            return None if same else answer(HTTPStatus.FORBIDDEN)
        return answer(HTTPStatus.OK, live_page(), **PAGE_HEADERS)

    async def _live(self, connection: ServerConnection) -> None:
        """Serve one client, from its first message to its last."""
        from websockets.exceptions import ConnectionClosed

        if self._clients >= MOST_CLIENTS:
            await _refuse(connection, TOO_MANY, f"{MOST_CLIENTS} clients are served already; try again later")
            return
        self._clients += 1
        thread = ThreadPoolExecutor(1, "live")
        try:
            await self._talk(connection, thread)
        except BadRequest as error:
            await _refuse(connection, BAD_REQUEST, str(error))
        except ConnectionClosed:
            log.info("a client went away")
        except Exception as error:
            log.exception("a client's work ended")
            await _refuse(connection, UNEXPECTED, in_words(error))
        finally:
            self._clients -= 1
            thread.shutdown(wait=False, cancel_futures=True)

    async def _talk(self, connection: ServerConnection, thread: ThreadPoolExecutor) -> None:
        try:
            first = await asyncio.wait_for(connection.recv(), FIRST_S)
        except TimeoutError:
            raise BadRequest(
                f"nothing was said within {FIRST_S:.0f} s: the first message says what is sent and wanted"
            ) from None
        wish, run = Wish.read(first), partial(asyncio.get_running_loop().run_in_executor, thread)
        inbox, outbox = Inbox(wish.bytes_a_second), Outbox()
        session = await run(self._session, wish, inbox)
        receiver, sender = asyncio.create_task(_receive(connection, inbox)), asyncio.create_task(_send(connection, outbox))
        try:
            await connection.send(json.dumps(session.ready()))
            async for message in inbox:
                if isinstance(message, str):
                    _must_be_end(message)
                    await self._work(connection, run, session.finish(), outbox)
                    break
                await self._work(connection, run, session.hear(message), outbox)
            else:
                log.info("a client went away")
                return
            outbox.end(session.missed_frames)
            await sender
            await connection.close()
        finally:
            receiver.cancel()
            sender.cancel()
            await asyncio.gather(receiver, sender, return_exceptions=True)
            await run(session.close)

    def _session(self, wish: Wish, inbox: Inbox) -> Session:
        visemes = self._visemes if wish.visemes else None
        mouth = self._new_mouth(blendshapes=wish.blendshapes, visemes=visemes)
        return Session(wish, mouth, self._face, inbox.is_late)

    async def _work(self, connection: ServerConnection, run: Any, said: Iterator[Any], outbox: Outbox) -> None:
        """Put what a session says into the outbox, as long as the client is there."""
        from websockets.protocol import State

        while connection.state is State.OPEN and (item := await run(next, said, None)) is not None:
            outbox.put(item)


async def _receive(connection: ServerConnection, inbox: Inbox) -> None:
    """Take what comes, until the client goes away, or cannot be heard of any more."""
    from websockets.exceptions import ConnectionClosed

    answer: asyncio.Future[float] | None = None  # to the question whether it is still there
    with suppress(ConnectionClosed):
        while True:
            try:
                async with asyncio.timeout(SILENT_S):  # `wait_for` of Python 3.11 may miss that it is cancelled
                    message = await connection.recv()
            except TimeoutError:
                if answer and not answer.done():
                    await connection.close(UNEXPECTED, f"nothing came for {2 * SILENT_S:.0f} s")
                    break
                answer = asyncio.ensure_future(await connection.ping())
            else:
                answer = None
                await inbox.put(message)
    inbox.end()


async def _send(connection: ServerConnection, outbox: Outbox) -> None:
    async for message in outbox:
        await _put(connection, message)


async def _put(connection: ServerConnection, message: str | bytes) -> None:
    """Send a message; give up a client who does not read."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await connection.send(message)
    except TimeoutError:
        connection.transport.abort()  # words would have to wait as well


async def _refuse(connection: ServerConnection, code: int, words: str) -> None:
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):
        await _put(connection, json.dumps({"error": words}))
        await connection.close(code)


def _must_be_end(message: str) -> None:
    try:
        asked = json.loads(message)
    except (ValueError, RecursionError):
        asked = None
    if asked != {"end": True}:
        raise BadRequest('after the first message come sound, as binary messages, and {"end": true} alone')


def _only(request: Request, name: str) -> str:
    """Return a header; of one that comes twice, what nobody is."""
    values = request.headers.get_all(name)
    return values[0] if len(values) == 1 else "?" * len(values)


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError | socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.EADDRINUSE:
        return "the port is taken; choose another"
    if error.errno == errno.EACCES:
        return "only the system's administrator may; choose a port from 1024 on"
    return error.strerror or str(error)


def _quiet() -> logging.Logger:
    """Return a logger that does not tell of each client who comes, goes, or talks no HTTP."""
    quiet = log.getChild("websockets")
    quiet.setLevel(logging.CRITICAL)
    return quiet
