"""Code that the docs quote is code that runs: every quoted line stands in the file that it is said to be from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = [
    pytest.param(path, *block, id=f"{path.name}-{k}")
    for path in sorted((ROOT / "docs").glob("*.md"))
    for k, block in enumerate(re.findall(r"```python\n# (\S+)\n(.*?)```", path.read_text(), re.DOTALL))
]


def test_something_is_quoted() -> None:
    assert len(BLOCKS) > 5


@pytest.mark.parametrize(("doc", "source", "code"), BLOCKS)
def test_quoted_lines_stand_in_their_file_in_order(doc: Path, source: str, code: str) -> None:
    lines = iter((ROOT / source).read_text().splitlines())
    for quoted in code.splitlines():
        assert quoted in lines, f"{doc.name} quotes a line that {source} does not have, or not there: {quoted}"


@pytest.mark.parametrize("doc", sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]), ids=lambda p: p.name)
def test_links_lead_somewhere(doc: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", doc.read_text()):
        if not target.startswith("http"):
            assert (doc.parent / target).exists(), f"{doc.name} links to {target}"
