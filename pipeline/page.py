"""Pages that fetch nothing: what they have in common, style and small parts.

A page is one file, with pictures, sound and video inside of it; its own template stands beside the module that fills it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from lipwright.pipeline.tally import in_time

STYLE = Path(__file__).with_suffix(".css")

MOST_ROWS = 200
"""Of any table: pages have a bounded size."""


def compose(template: Path, title: str, parts: Iterable[str]) -> bytes:
    """Put the parts of a page, those that are not empty, into its template."""
    page = Template(template.read_text("utf-8")).substitute(
        title=escape(title), style=STYLE.read_text("utf-8"), content="\n".join(filter(None, parts))
    )
    return page.encode("utf-8", "replace")  # names of files need not be Unicode


def live_page() -> bytes:
    """Return the page of a server that listens: microphone or file in, a mouth that moves out."""
    return compose(STYLE.with_name("stream.html"), "Lipwright, live", ())


def data_uri(kind: str, content: bytes) -> str:
    """Return bytes as the address of themselves."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def time_of(seconds: float) -> str:
    """Say how long something lasts; the exact number is the element's value."""
    return f'<data value="{seconds:.3f}">{in_time(seconds)}</data>'


def file_name(path: str) -> str:
    """Give a file's name; its folder's is told on hover, and no more of where it lies: the page may be passed on."""
    return f'<bdi title="{escape("/".join(Path(path).parts[-2:]))}">{escape(Path(path).name)}</bdi>'


def box(table: str) -> str:
    """Keep a long table low: it scrolls."""
    return f'<div class="box lines" tabindex="0">{table}</div>'


def section(title: str, note: str, content: str) -> str:
    """Give a part of the page its heading, and a line on how to read it."""
    return f'<section>\n<h2>{title}</h2>\n<p class="note">{note}</p>\n{content}\n</section>'


def head(kind: str, title: str, lede: str, numbers: Iterable[tuple[str, str, str]]) -> str:
    """Say the most important in a sentence or two, and in numbers: name, value, and what is to be said beneath it."""
    items = "".join(f"<div><dt>{n}</dt><dd>{v}{f'<small>{s}</small>' if s else ''}</dd></div>" for n, v, s in numbers)
    return (
        f'<header>\n<p class="kind">{kind}</p>\n<h1>{escape(title)}</h1>\n<p class="lede">{lede}</p>\n'
        f'<dl class="numbers">{items}</dl>\n</header>'
    )
