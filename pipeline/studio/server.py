"""The server of a studio: this machine's browsers alone are served, pages of other sites are refused, nothing is fetched."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipwright.data.errors import InputError, LipwrightError, MissingPartError
from lipwright.pipeline.studio.jobs import JobQueue
from lipwright.pipeline.studio.work import WorkFolder, usual_folder

HOST, PORT = "127.0.0.1", 7860

MOST_UPLOAD_MB = 2000.0
SPARE_BYTES = 50_000_000
"""Room that uploads leave on the disk."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'none'"
)
"""What a browser may fetch for our pages: nothing from elsewhere."""

API = "/gradio_api/"
NEEDED = ("queue/", "upload", "heartbeat/", "startup-events", "run/", "reset", "cancel", "theme.css", "app_id")
"""Of Gradio's own interface; the rest fetches from elsewhere, serves other files, or is of no use here."""

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_SHARE": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Set before Gradio is imported, so that it asks nobody anything."""

START_S = 60.0
LAST_WORDS_S = 2
"""So long open connections may take when the server ends."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


@dataclass(frozen=True)
class Studio:
    """A studio that is open.

    Attributes
    ----------
    url
        Its page.
    work
        Where it works.
    jobs
        Its jobs.
    """

    url: str
    work: WorkFolder
    jobs: JobQueue


@contextmanager
def open_studio(
    work: Path | str | None = None, *, port: int = PORT, most_upload_mb: float = MOST_UPLOAD_MB
) -> Iterator[Studio]:
    """Serve a page on this machine, from which videos are checked, learned from, rendered and edited.

    Parameters
    ----------
    work
        Folder that all files are kept in; by default `usual_folder`.
    port
        Of 127.0.0.1; 0: one that is free.
    most_upload_mb
        Size of the largest file that is taken in.

    Yields
    ------
    Studio
        It is open until the block is left; a job that runs then is stopped as by Ctrl-C, and those that wait are kept.

    Raises
    ------
    InputError
        The port is taken, or the folder cannot be worked in, or is open in another studio.
    MissingPartError
        Gradio is not installed.
    """
    os.environ.update(QUIET)
    listener = _listener(port)
    with closing(listener), closing(WorkFolder(Path(work) if work is not None else usual_folder())) as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder.uploads)
        with closing(JobQueue(folder)) as jobs, _served(listener, folder, jobs, most_upload_mb):
            yield Studio(f"http://{HOST}:{listener.getsockname()[1]}/", folder, jobs)


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    if sys.platform != "win32":  # there, it would let two have the same port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        why = "is taken, by another studio perhaps" if isinstance(error, OSError) and error.errno in _TAKEN else str(error)
        raise InputError(f"port {port} {why}; choose another --port, or 0 for any that is free") from None
    return listener


_TAKEN = (48, 98, 10048)
"""EADDRINUSE on macOS, Linux and Windows."""


@contextmanager
def _served(listener: socket.socket, work: WorkFolder, jobs: JobQueue, most_upload_mb: float) -> Iterator[None]:
    try:
        import uvicorn

        app = _app(work, jobs, round(most_upload_mb * 1e6))
    except ImportError as error:
        raise MissingPartError(f"the studio needs Gradio ({error}); pip install 'lipwright[studio]'") from None
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=LAST_WORDS_S, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="studio")
    thread.start()
    try:
        until = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > until:
                raise LipwrightError("the studio's server does not start")
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()


def _app(work: WorkFolder, jobs: JobQueue, most_bytes: int) -> Any:
    import gradio
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, PlainTextResponse

    from lipwright.pipeline.studio.look import HEAD, theme
    from lipwright.pipeline.studio.page import build

    undocumented: dict[str, Any] = {"openapi_url": None, "docs_url": None, "redoc_url": None}
    app = FastAPI(**undocumented)

    @app.get("/work/{project}/{kind}/{name}")
    def file(project: str, kind: str, name: str, download: bool = False) -> Any:
        path = work.served(project, kind, name)
        if path is None:
            return PlainTextResponse("there is no such file", 404)
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, headers=headers, filename=name if download else None)

    gradio.mount_gradio_app(  # which refuses files that are too large, each by itself
        app, build(work, jobs), "/", server_name=HOST, footer_links=[], run_history=False, show_error=True,
        max_file_size=most_bytes, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=theme(),
        head=HEAD, app_kwargs=undocumented,
    )  # fmt: skip
    return Guard(app, work)


class Guard:
    """What every request passes: only this machine's browsers, only our own pages, only what is needed and there is room for.

    A page elsewhere may send a browser here (by a name that leads to 127.0.0.1, by a form, or by a player that shows our
    file): its ``Host``, its ``Origin`` or its ``Sec-Fetch-Site`` tell it. A link may lead here.
    """

    def __init__(self, app: Any, work: WorkFolder) -> None:
        self._app, self._work = app, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope["method"], scope["path"], headers)
        if refused is not None:
            from starlette.responses import PlainTextResponse

            code, words = refused
            while (await receive()).get("more_body"):  # browsers hear an answer only once they have sent what they have
                pass
            await PlainTextResponse(words, code)(scope, receive, send)
            return

        async def told(message: Scope) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self._app(scope, receive, told)

    def _refused(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return code and words for what is not let through."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host.rpartition(":")[0] not in (HOST, "localhost") and host not in (HOST, "localhost"):
            return 403, f"this studio is at {HOST}, for this machine alone"
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"
        if elsewhere or (origin is not None and origin.partition("://")[2] != host):
            return 403, "pages of other sites are not served"
        if path.startswith(API) and not path.removeprefix(API).startswith(NEEDED):
            return 404, "there is no such thing here"
        if method == "POST" and path.rstrip("/") == f"{API}upload":
            return self._no_room(headers.get("content-length", ""))
        return None

    def _no_room(self, length: str) -> tuple[int, str] | None:
        with suppress(OSError):
            self._work.sweep()
        if not (length.isascii() and length.isdigit()):
            return 411, "the size of an upload must be told"
        size, free = int(length), self._work.free_bytes() - SPARE_BYTES
        if size > free:
            return (
                507,
                f"the disk has room for {max(free, 0) / 1e6:.0f} MB, not for {size / 1e6:.0f}; make room, and bring it again",
            )
        return None
