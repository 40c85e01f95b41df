"""The pages as a site: `make docs`. Sources are the Markdown files as they stand, read from the root of the repository."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for commands.py

CHAPTERS = {
    "Use": ["tutorial", "filming", "studio", "corpora", "training", "rendering", "streaming", "provenance", "limits"],
    "Understand": ["how_it_works", "recurrent", "base", "metrics", "numbers"],
    "Look up": ["commands", "python", "formats"],
}
"""Pages of `docs`, in reading order. One that is in no chapter is a warning, and so an error of the tests."""

PROJECT = {"Project": ["CONTRIBUTING", "CHANGELOG", "The base model's card <models/base/README>"]}

project = "Lipwright"
version = release = version_of("lipwright")
copyright = "the authors of Lipwright, Apache-2.0"
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "models/base/README.md"]
exclude_patterns = [".*", "*-out", "build", "tests", "data", "scripts", "shared"]  # not walked through
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "commands"]

myst_heading_anchors = 6
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False
nitpick_ignore_regex = [("py:.*", r"(?!lipwright\.).*")]  # of other packages nothing is fetched to link to

html_theme = "furo"
html_title = f"Lipwright {version}"
html_copy_source = False


def _add_chapters(app: Any, name: str, source: list[str]) -> None:
    """Hang the chapters below the first page; on a forge, its own links lead to them."""
    if name == root_doc:
        chapters = {c: [f"docs/{page}" for page in pages if (HERE / f"{page}.md").exists()] for c, pages in CHAPTERS.items()}
        for caption, pages in (chapters | PROJECT).items():
            source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def _open_at_first_page(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> None:
    """Register what is done here."""
    app.connect("source-read", _add_chapters)
    app.connect("build-finished", _open_at_first_page)
