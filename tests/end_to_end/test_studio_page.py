"""The studio in a browser: from an upload to a video that plays, and the page after a reload, on a phone, by keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api

from lipwright.pipeline.studio.work import FIRST, FOOTAGE, RENDERS, RUNS, Project

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
PATIENCE_MS = 40_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tested")


@dataclass(frozen=True)
class Served:
    """The address of a studio, and its only project."""

    url: str
    project: Project


@pytest.fixture(scope="module")
def studio(installed: Any, trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a studio whose project has a corpus."""
    work = tmp_path_factory.mktemp("studio") / "work"
    project = Project(work / "projects" / FIRST)
    shutil.copytree(trained.corpus, project.corpus)
    process = subprocess.Popen(
        [installed.path, "studio", "--port", "0", "--work", work, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    told = "".join(iter(process.stdout.readline, "}\n")) + "}"
    try:
        yield Served(json.loads(told)["url"], project)
    finally:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert err.endswith("lipwright: stopped\n")
    assert "gradio" not in err


@pytest.fixture
def browse(studio: Served) -> Iterator[Callable[..., Any]]:
    """Return what opens the page in a browser; errors in its scripts, and what it asks of others, are errors here."""
    wrong: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        def open_page(**options: Any) -> Any:
            page = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | options)).new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda asked: asked.url.startswith((studio.url, "blob:", "data:")) or wrong.append(asked.url))
            page.goto(studio.url)
            page.locator("#tabs .panel p, #tabs .panel figure").first.wait_for()
            return page

        yield open_page
        browser.close()
    assert wrong == []


def _tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def _press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def _holds(page: Any, label: str, value: str) -> None:
    sync_api.expect(page.get_by_label(label, exact=True).locator("visible=true").first).to_have_value(
        value, timeout=PATIENCE_MS
    )


def _idle(page: Any) -> None:
    page.wait_for_selector("#running li", state="detached")


def _plays(page: Any, video: str) -> bool:
    """Play a video for a moment; say whether it moved."""
    moved = (
        "video => new Promise((yes, no) => { video.muted = true; video.onerror = () => no(video.error.message);"
        " video.play().catch(no); const look = () => video.currentTime > 0.3 ? yes(true) : setTimeout(look, 50); look(); })"
    )
    return bool(page.locator(video).evaluate(moved))


def test_from_an_upload_to_a_video_that_plays_and_is_edited(studio: Served, browse: Callable[..., Any], lesson: Path) -> None:
    page = browse()
    page.set_input_files("#bring-footage input[type=file]", lesson)
    page.get_by_text("Not checked yet.").wait_for()
    assert _plays(page, ".panel .beside video >> nth=0")

    _tab(page, "Train")
    epochs = page.get_by_label("number input for Epochs")
    epochs.fill("1")
    epochs.press("Tab")
    page.wait_for_timeout(500)
    _press(page, "Train")
    page.wait_for_selector("#running li.runs")
    page.reload()  # the job goes on, and the page knows of it
    page.get_by_text("Train run 1").first.wait_for()
    _idle(page)
    _tab(page, "Train")
    page.wait_for_selector(".plot polyline.val", state="attached")
    page.get_by_text("epoch 1 was best").or_(page.get_by_text("epoch 0 was best")).wait_for()
    assert studio.project.names(RUNS) == ["run 1"]

    _tab(page, "Render")
    page.set_input_files("#bring-sounds input[type=file]", lesson.with_suffix(".wav"))
    _holds(page, "Sound", "lesson.wav")
    _press(page, "Render")
    page.get_by_text("ask the person first").wait_for()
    assert page.locator("#running li").count() == 0
    page.get_by_label("has agreed to this").check()
    _press(page, "Render")
    page.wait_for_selector("#running progress[value]")
    page.wait_for_selector(".pair .result video")
    _idle(page)
    assert _plays(page, ".pair .result video")
    assert page.evaluate("document.querySelector('.pair .result video').videoWidth") == 256
    assert page.get_by_text("This video is synthetic").is_visible()
    assert page.get_by_text("made with Lipwright").is_visible()
    with page.expect_download() as downloading:
        page.click("a.take")
    (name,) = studio.project.names(RENDERS)
    assert downloading.value.suggested_filename == name
    assert Path(downloading.value.path()).read_bytes() == (studio.project.folder / RENDERS / name).read_bytes()

    _tab(page, "Edit")
    page.wait_for_selector("#curve polyline.measured", state="attached")
    assert page.locator("#curve .span").count() == 0
    page.get_by_label("held as it is").check()
    page.locator("#from input").fill("2")
    page.locator("#to input").fill("1")
    _press(page, "Add")
    page.get_by_text("its start must come before its end").wait_for()
    page.locator("#to input").fill("3")
    _press(page, "Add")
    page.wait_for_selector("#curve .span")
    page.get_by_label("2.00–3.00 s: held").wait_for()
    _press(page, "Render the change")
    words = page.get_by_text("frames were painted again").first
    words.wait_for()
    painted, of = (int(word) for word in words.inner_text().split() if word.isdigit())
    assert 0 < painted < of
    assert _plays(page, "#edited video")
    page.get_by_label("2.00–3.00 s: held").check()
    _press(page, "Remove what is ticked")
    page.wait_for_selector("#curve .span", state="detached")
    page.get_by_text("edits as they are now are not rendered").wait_for()


def test_what_cannot_be_used_is_said_in_words(browse: Callable[..., Any], studio: Served, tmp_path: Path) -> None:
    page = browse()
    before = studio.project.names(FOOTAGE)
    (tmp_path / "fake.mp4").write_text("no video")
    (tmp_path / "notes.odt").write_text("no video")
    for name, words in (("fake.mp4", "fake.mp4 cannot be read as video"), ("notes.odt", "Invalid file type")):
        page.set_input_files("#bring-footage input[type=file]", tmp_path / name)
        page.get_by_text(words).wait_for()
    assert studio.project.names(FOOTAGE) == before
    page.get_by_label("New project").fill("first")
    page.keyboard.press("Enter")
    page.get_by_text("there is a project first already").wait_for()
    page.get_by_label("New project").fill("Ann / Bob")
    page.keyboard.press("Enter")
    _holds(page, "Project", "Ann - Bob")
    page.get_by_text("Bring a video of someone who talks").wait_for()
    page.reload()  # the browser knows which project it was
    _holds(page, "Project", "Ann - Bob")
    _tab(page, "Train")
    _press(page, "Train")
    page.get_by_text("there is no corpus to learn from yet").wait_for()


def test_a_browser_that_goes_away_stops_no_job_and_another_can(browse: Callable[..., Any]) -> None:
    page = browse()
    _tab(page, "Train")
    page.get_by_label("number input for Epochs").fill("60")  # it must still run when the other page is there
    page.get_by_label("number input for Epochs").press("Tab")
    _press(page, "Train")
    name = page.locator("#running li.runs b").inner_text()
    page.context.close()
    page = browse(viewport={"width": 400, "height": 850}, color_scheme="dark")
    page.get_by_role("button", name=f"Cancel {name}").click()
    _idle(page)
    page.get_by_text("What was done").click()
    page.get_by_role("row").filter(has_text=name).get_by_text("stopped", exact=True).wait_for()


def test_a_phone_in_the_dark_and_the_keyboard(browse: Callable[..., Any]) -> None:
    page = browse(viewport={"width": 400, "height": 850}, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
    for name in ("Check", "Footage", "Train", "Render", "Edit"):
        _tab(page, name)
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    page.get_by_role("tab", name="Check").focus()
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(document.activeElement.innerText || document.activeElement.getAttribute('aria-label') || '').trim()"
            )
        )
    assert {"Check", "Video"} <= reached, reached
