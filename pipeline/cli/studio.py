"""The command that opens the studio."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from lipwright.pipeline.cli.command import Common, command, tell


@command
def studio(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of this machine alone; 0: one that is free.")] = 7860,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="DIR", help="Folder of the projects; by default ~/.local/share/lipwright/studio."),
    ] = None,
    upload_mb: Annotated[float, typer.Option("--upload-mb", min=1, help="Size of the largest file that is taken in.")] = 2000,
    *,
    common: Common,
) -> None:
    """Serve a page for this machine's browser: check, preprocess, train, render and edit by hand, until Ctrl-C."""
    from lipwright.pipeline import open_studio

    with open_studio(work, port=port, most_upload_mb=upload_mb) as studio:
        told = {"url": studio.url, "work": str(studio.work.folder)}
        tell(told, common.json, lambda: f"{studio.url}\nfiles: {studio.work.folder}")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped") from None
