"""The command line: parse, call, translate errors to words and exit codes. Heavy imports stand where they are used."""

from __future__ import annotations

from lipwright.data.threads import one_heap
from lipwright.pipeline.cli import corpora, doctor, footage, models, stream, studio, verify, video  # noqa: F401
from lipwright.pipeline.cli.command import app


def main() -> None:
    """Run the command line."""
    one_heap()
    app()
