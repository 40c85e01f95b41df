"""The page of ``lipwright stream --listen`` in a browser: a microphone or a file in, a mouth and a face out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright import sync_api

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def server(installed: Any) -> Iterator[Callable[..., Any]]:
    """Return what runs the server: `with server("--target", video) as (url, process)`."""

    @contextmanager
    def run(*words: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
        process = subprocess.Popen(
            [installed.path, "stream", "--listen", "0", "-q", *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdout
        try:
            url = process.stdout.readline().strip()
            assert url, "it ended before it listened"
            yield url, process
        finally:
            process.terminate()
            process.communicate(timeout=60)

    return run


@pytest.fixture(scope="module")
def speech(lesson: Path) -> Path:
    """Return speech of 5 s, WAV at 48 kHz."""
    import soundfile
    import soxr

    samples, rate_hz = soundfile.read(lesson.with_suffix(".wav"), stop=22_050 * 5)
    path = lesson.with_name("spoken.wav")
    soundfile.write(path, soxr.resample(samples, rate_hz, 48_000), 48_000, subtype="PCM_16")
    return path


@pytest.fixture
def browse(speech: Path) -> Iterator[Callable[..., Any]]:
    """Return what opens a page in a browser whose microphone hears the speech; errors in its scripts are errors here."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: the page is not tested")
    wrong: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, f"--use-file-for-fake-audio-capture={speech}"]
        )

        def open_page(url: str, **options: Any) -> Any:
            page = browser.new_context(**({"permissions": ["microphone"]} | options)).new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda asked: asked.url.startswith((url, "blob:", "data:")) or wrong.append(asked.url))
            page.goto(url)
            return page

        yield open_page
        browser.close()
    assert wrong == []


def _state(page: Any, state: str) -> None:
    page.wait_for_selector(f"body[data-state={state}]")


def _colours(page: Any, canvas: str) -> np.ndarray:
    """Return what is seen of a canvas, (H, W, 3) uint8."""
    import cv2

    seen = cv2.imdecode(np.frombuffer(page.locator(canvas).screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert seen is not None
    return seen


def test_a_microphone_moves_the_mouth(server: Callable[..., Any], browse: Callable[..., Any]) -> None:
    with server() as (url, _):
        page = browse(url)
        _state(page, "idle")
        at_rest = _colours(page, "#mouth")
        assert page.is_hidden("#face")
        page.focus("#go")
        page.keyboard.press("Enter")
        _state(page, "live")
        apart, levels, openings = 0.0, set(), set()
        for _ in range(40):
            page.wait_for_timeout(100)
            levels.add(page.get_attribute("#meter", "aria-valuenow"))
            openings.add(page.inner_text("#opening"))
            apart = max(apart, float(np.abs(_colours(page, "#mouth").astype(float) - at_rest).mean()))
        assert len(levels) > 5
        assert len(openings) > 5
        assert apart > 2
        assert 400 <= int(page.inner_text("#late").removesuffix(" ms")) < 5000
        assert page.inner_text("#viseme") in set("ABCDEFGHX")
        page.click("#go")
        _state(page, "idle")
        assert page.inner_text("#said").startswith("That was all")


def test_a_file_is_shown_with_the_face_to_its_end(
    server: Callable[..., Any], browse: Callable[..., Any], lesson: Path, speech: Path
) -> None:
    with server("--target", lesson) as (url, _):
        page = browse(url, viewport={"width": 390, "height": 844}, color_scheme="dark")
        assert page.is_disabled("#sources") is False
        page.get_by_text("File", exact=True).click()
        assert page.is_disabled("#go")
        page.set_input_files("#file", speech)
        page.click("#go")
        _state(page, "live")
        shown: dict[float, np.ndarray] = {}
        while page.get_attribute("body", "data-state") != "idle":
            time_s = page.get_attribute("#face", "data-t")
            if time_s is not None:
                shown[float(time_s)] = _colours(page, "#face")
            page.wait_for_timeout(80)
        assert page.inner_text("#said").startswith("That was all")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert max(shown) > 4.5  # seconds: it was shown to its end
        lower = [picture[len(picture) // 2 :].astype(float) for picture in shown.values()]
        assert max(np.abs(picture - lower[0]).mean() for picture in lower) > 0.5


def test_what_goes_wrong_is_said_in_words(
    server: Callable[..., Any], browse: Callable[..., Any], speech: Path, tmp_path: Path
) -> None:
    with server() as (url, process):
        page = browse(url)
        page.get_by_text("File", exact=True).click()
        (tmp_path / "notes.wav").write_text("no sound")
        page.set_input_files("#file", tmp_path / "notes.wav")
        page.click("#go")
        page.wait_for_selector("#said.wrong")
        assert page.inner_text("#said") == "notes.wav holds no sound that this browser can decode; try WAV, MP3 or M4A."
        _state(page, "idle")
        page.set_input_files("#file", speech)
        page.click("#go")
        _state(page, "live")
        process.kill()
        page.wait_for_selector("#said.wrong")
        assert page.inner_text("#said").startswith("The connection to the server was lost")
        page.click("#go")
        page.wait_for_selector("#said.wrong:has-text('does not answer')")
        _state(page, "idle")


def test_a_microphone_that_is_not_allowed_is_asked_for(server: Callable[..., Any], browse: Callable[..., Any]) -> None:
    with server() as (url, _):
        page = browse(url)
        page.evaluate(
            "() => { navigator.mediaDevices.getUserMedia ="
            " () => Promise.reject(new DOMException('denied', 'NotAllowedError')) }"
        )
        page.click("#go")
        page.wait_for_selector("#said.wrong")
        assert "does not let this page use the microphone" in page.inner_text("#said")
        _state(page, "idle")


def test_the_token_is_passed_on_and_a_full_server_says_so(server: Callable[..., Any], browse: Callable[..., Any]) -> None:
    from websockets.sync.client import connect

    from lipwright.pipeline.server import MOST_CLIENTS

    with server("--token", "let me in") as (url, _):
        root = url.split("?")[0]
        live = root.replace("http", "ws", 1) + "live?token=let+me+in"
        page = browse(root + "?token=let+me+in")
        with ExitStack() as others:
            for _ in range(MOST_CLIENTS):
                other = others.enter_context(connect(live))
                other.send("{}")
                assert '"ready"' in other.recv(timeout=60)
            page.click("#go")
            page.wait_for_selector("#said.wrong")
            assert "served already" in page.inner_text("#said")
        page.click("#go")
        _state(page, "live")


def test_a_page_that_is_not_seen_keeps_the_latest_alone(server: Callable[..., Any], browse: Callable[..., Any]) -> None:
    """Browsers draw nothing of it, and an hour of steps with their points would fill the memory."""
    with server() as (url, _):
        first, last, count = browse(url).evaluate(
            """() => {
                const heard = Object.assign(new Run(null), { audio: { currentTime: 0 }, began: 0 });
                for (let k = 0; k < 9000; k += 3) heard.stepped([0, 1, 2].map(more => ({ t: (k + more) / 100 })));
                return [heard.steps[0].t, heard.steps.at(-1).t, heard.steps.length];
            }"""
        )
    assert (first, last, count) == (60.0, 89.99, 3000)
