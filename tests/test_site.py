"""The docs as a site: built without a warning, whole, and without anything from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def _build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build as ``make docs`` does."""
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-W", "--keep-going", "-n", "-c", source / "docs"]
    command = [*map(str, sphinx), "-d", str(out / ".doctrees"), str(source), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"NO_COLOR": "1"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site."""
    out = tmp_path_factory.mktemp("site")
    built = _build(ROOT, out)
    assert built.stderr == ""
    assert built.returncode == 0
    return out


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.md"))
    (tmp_path / "README.md").write_text("# Lipwright\n\n[a](docs/metrics.md#no-such-heading), [b](docs/none.md)\n")
    (tmp_path / "docs" / "metrics.md").write_text("# Metrics\n")
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "models/base/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    built = _build(tmp_path, tmp_path / "out")
    assert built.returncode != 0
    problems = [line for line in built.stderr.splitlines() if "WARNING" in line]
    assert [re.findall("no-such-heading|none.md", line)[:1] for line in problems] == [["no-such-heading"], ["none.md"]]


def test_every_page_of_the_docs_is_there(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / "docs" / f"{page.stem}.html").is_file()
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"""<(?:script|img|link|iframe|source|video|audio)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^"']*""")
    for page in site.rglob("*.html"):
        assert fetched.findall(page.read_text()) == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", sheet.read_text()) == [], sheet


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path}-{name}")
        else:
            yield f"{path}-{name}", command


def test_every_option_of_every_command_is_told(site: Path) -> None:
    from typer.main import get_command

    from lipwright.pipeline.cli import app

    page = (site / "docs" / "commands.html").read_text()
    commands = dict(_commands(get_command(app), "lipwright"))
    assert len(commands) >= 16
    anchors = set(re.findall(r'id="cmdoption-([^"]+)"', page))
    for path, command in commands.items():
        for option in (name for each in command.params if each.param_type_name == "option" for name in each.opts):
            assert {f"{path}-{option.lstrip('-')}", f"lipwright-{option.lstrip('-')}"} & anchors, (path, option)


def test_every_function_that_users_import_is_told(site: Path) -> None:
    from lipwright import pipeline

    page = (site / "docs" / "python.html").read_text()
    for name in pipeline.__all__:
        assert f'id="lipwright.pipeline.{name}"' in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(site: Path, scheme: Any) -> None:
    from playwright import sync_api

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here")
    asked: list[str] = []
    hear: Callable[[Any], None] = lambda request: asked.append(request.url)  # noqa: E731
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme).new_page()
        page.on("request", hear)
        for name in ("index", "docs/training", "docs/commands", "docs/python"):
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
            red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")[:3]
            assert (red + green + blue < 3 * 128) == (scheme == "dark")
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
