"""The report says what the manifest says, in one whole page that fetches nothing, whatever the corpus."""

from __future__ import annotations

import base64
import io
import wave
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lipwright.data.corpus import Corpus, settings_hash, settings_of
from lipwright.data.features import FeatureSettings
from lipwright.data.landmarks import FaceTrack
from lipwright.data.manifest import Row
from lipwright.data.media import file_sha256
from lipwright.data.segments import FLAWS, NO_SOUND, OTHER_SOUND, SHORT, SPARSE
from lipwright.pipeline import report
from lipwright.pipeline.excerpts import spread, take_stills
from lipwright.pipeline.intake import ENDED
from lipwright.pipeline.preprocess import preprocess_corpus
from lipwright.pipeline.report import MOST_ROWS, write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}
HASH = settings_hash(settings_of(FeatureSettings()))
NAME = "a <script>alert(1)</script> & \"b\" 'c' $d.mp4"


class Page(HTMLParser):
    """A page taken apart; one that is not well-formed fails."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), tag
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def numbers(self, part: str) -> list[float]:
        """The times, in seconds, told after the text `part`, up to the next heading."""
        after = self.html.split(part, 1)[1].split("<h2>", 1)[0]
        return [float(attributes["value"] or "nan") for attributes in Page(f"<p>{_inner(after)}</p>").all("data")]


def _inner(html: str) -> str:
    """Keep the times of a piece of a page."""
    return "".join(f"<data {piece.split('>', 1)[0]}></data>" for piece in html.split("<data ")[1:])


def read(corpus: Corpus) -> Page:
    path = write_report(corpus)
    assert path == corpus.folder / "report.html"
    return Page(path.read_text("utf-8"))


def row(path: str, start_s: float | None = 0.0, end_s: float | None = 4.0, reason: str | None = None, **other: Any) -> Row:
    name = zlib.crc32(path.encode("utf-8", "replace"))
    return {
        "id": f"{name:012x}-{start_s}", "path": path, "sha256": "0" * 64, "speaker": "somebody", "face": None,
        "start_s": start_s, "end_s": end_s, "rate": "30000/1001", "frames": 120, "face_rate": 1.0, "lag_ms": None,
        "lag_confidence": None, "lag_corrected": False, "split": None, "status": "rejected" if reason else "ok",
        "reason": reason, "settings_hash": HASH,
    } | other  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.create(tmp_path / "corpus", FeatureSettings())


# Numbers --------------------------------------------------------------------------------------------------------------


def test_the_numbers_are_the_manifests(corpus: Corpus) -> None:
    corpus.add(
        [
            row("/a/1.mp4", 0, 30.25, speaker="ann", lag_ms=-90.0, lag_confidence=5.5, lag_corrected=True),
            row("/a/1.mp4", 30.3, 41.0, "no face", face_rate=0.0),
            row("/a/1.mp4", 41.5, 42.0, "too short"),
            row("/b/2.mp4", 1.5, 3700.0, speaker="bob", lag_ms=12.0, lag_confidence=3.0),
            row("/b/2.mp4", 3700.04, 3702.0, "no face", face_rate=0.0),
            row("/c/3.mp4", None, None, "/c/3.mp4 has no audio stream; give a file with speech", face_rate=None, frames=None),
        ]
    )
    page = read(corpus)
    assert "1 h 02 min" in page.html
    kept, left = 30.25 + 3698.5, 10.7 + 0.5 + 1.96
    spans = [r["split"][part] for r in corpus.usable for part in ("train", "validation") if r["split"][part]]
    train = sum(r["split"]["train"][1] - r["split"]["train"][0] for r in corpus.usable)
    validation = sum(b - a for a, b in spans) - train
    assert page.numbers('<dl class="numbers">') == pytest.approx([kept, left, train, validation], abs=1e-3)
    assert page.numbers("<h2>Kept and left out</h2>") == pytest.approx([kept, 12.66, 0.5], abs=1e-3)
    by_speaker = np.reshape(page.numbers("<h2>Speakers</h2>"), (2, 3))
    assert by_speaker[:, 0] == pytest.approx([3698.5, 30.25])
    assert by_speaker[:, 1:].sum(0) == pytest.approx([train, validation], abs=1e-3)
    assert page.numbers("<h2>Videos</h2>")[:2] == pytest.approx([30.25, 11.2])  # 1.mp4 lost most
    for words in ("from 2 of 3 videos", "1 video cannot be used at all", "has no audio stream; give a file with speech",
                  "29.97", "−90 ms", "(5.5)", "corrected", "+12 ms"):  # fmt: skip
        assert words in page.html


def test_a_strip_shows_where_a_video_was_kept(corpus: Corpus) -> None:
    corpus.add([row("/a/1.mp4", 0, 6), row("/a/1.mp4", 6, 10, "head turned away")])
    page = read(corpus)
    rects = [(a["class"], a["x"], a["width"]) for a in page.all("rect") if a["y"] in ("0", "5") and a["height"] in ("16", "6")]
    assert rects == [("kept", "0.0", "600.0"), ("r1", "600.0", "400.0")]
    assert [text for tag, text in page.texts if tag == "title"][1:] == ["0:00.0–0:06.0 kept", "0:06.0–0:10.0 head turned away"]


@pytest.mark.parametrize("rows", [[], [row("/x.mp4", None, None, "/x.mp4 is silent", frames=None, face_rate=None)]])
def test_nothing_to_show_is_said(corpus: Corpus, rows: list[Row]) -> None:
    if rows:
        corpus.add(rows)
    page = read(corpus)
    assert "Nothing that can be learned from" in page.html
    assert ("is silent" in page.html) == bool(rows)
    assert page.all("img") == page.all("audio") == []


def test_any_name_is_shown_as_it_is(corpus: Corpus) -> None:
    path = f"/films/{NAME}"
    corpus.add(
        [
            row(path, 0, 6, speaker=NAME),
            row(path, 6, 10, f"reason {NAME}"),
            row(path + "x.mp4", None, None, f"{path}x.mp4 & <i>is silent</i>", frames=None),
            row("/films/\udcff.mp4"),  # bytes that are no Unicode
        ]
    )
    page = read(corpus)
    assert len(page.all("script")) == 1
    names = [text for tag, text in page.texts if tag == "bdi"]
    assert names.count(NAME) >= 2
    assert any(attributes.get("title") == "/".join(Path(path).parts[-2:]) for attributes in page.all("bdi"))
    assert ("td", "& <i>is silent</i>") in page.texts
    assert "?.mp4" in names


def test_a_page_of_many_rows_is_bounded(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    rows = [
        row(f"/{k}.mp4", 3.0 * n, 3.0 * n + 2.5, (None, "no face", "too short")[rng.integers(3)], speaker=str(k % 999))
        for k in range(600)
        for n in range(40 if k else 6000)
    ]
    rows += [row(f"/no/{k}.mp4", None, None, f"/no/{k}.mp4 is silent " + "because " * 20) for k in range(500)]
    corpus.add(rows)
    page = read(corpus)
    assert len(page.html) < 3e6
    assert f"{600 - MOST_ROWS} more videos" in page.html
    assert f"{500 - MOST_ROWS} more videos" in page.html
    kept = sum(r["end_s"] - r["start_s"] for r in corpus.usable)
    assert page.numbers('<dl class="numbers">')[0] == pytest.approx(kept)


# Footage --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taken(talk: Any, talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The talking photograph, taken into a corpus."""
    folder = tmp_path_factory.mktemp("report")
    preprocess_corpus([talk.path], folder / "corpus")
    return folder / "corpus"


def test_the_page_fetches_nothing(taken: Path) -> None:
    page = Page((taken / "report.html").read_text("utf-8"))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert "http://" not in page.html
    assert "https://" not in page.html
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_a_still_is_the_middle_of_its_stretch(talk: Any, talk_pictures: Any) -> None:
    sha256 = file_sha256(talk.path)
    kept = row(str(talk.path), 1.0, 3.0, sha256=sha256)
    late = row(str(talk.path), 1.0, 3.0, sha256=sha256, lag_ms=1000.0, lag_corrected=True)
    for still, second in zip((*take_stills([kept], 5), *take_stills([late], 5)), (2, 3), strict=True):
        jpeg = base64.b64decode(still.uri.removeprefix("data:image/jpeg;base64,"))
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image.shape == (still.height, still.width) == (160, 160)
        apart = [
            np.abs(cv2.resize(p.y, (160, 160), interpolation=cv2.INTER_AREA)[90:140, 40:120].astype(float) * 255 / 219 - 19
                   - image[90:140, 40:120]).mean()
            for p in talk_pictures
        ]  # fmt: skip
        assert talk.times_s[int(np.argmin(apart))] == pytest.approx(second, abs=0.05)


def test_a_source_that_is_gone_or_changed_is_passed_over(talk: Any, tmp_path: Path) -> None:
    sha256 = file_sha256(talk.path)
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(talk.path.read_bytes() + b"\0")
    rows = [row(str(path), sha256=sha256) for path in (tmp_path / "gone.mp4", changed, tmp_path, talk.path)]
    assert [still.row for still in take_stills(rows, 4)] == [rows[-1]]
    assert [still.row["path"] for still in take_stills([row(str(talk.path), 90.0, 99.0, sha256=sha256)], 4)] == []


def test_what_ended_a_process_is_not_read_again_for_its_picture(corpus: Corpus, talk: Any) -> None:
    path, sha256 = str(talk.path.resolve()), file_sha256(talk.path)
    for reason, pictures in ((f"{path} is silent", 1), (f"{path} {ENDED} (SIGSEGV)", 0)):
        corpus.add([row(path, None, None, reason, frames=None, face_rate=None, sha256=sha256)])
        assert len(read(corpus).all("img")) == pictures


def test_stills_are_spread_over_reasons_and_sources() -> None:
    rows = [row("/a.mp4", 10 * k, 10 * k + 9, "no face") for k in range(20)]
    rows += [row("/b.mp4", 0, 2, "no face"), row("/b.mp4", 2, 3, "too short"), row("/c.mp4", None, None, "/c.mp4 is silent")]
    first = spread(rows)[:4]
    assert {r["path"] for r in first} == {"/a.mp4", "/b.mp4", "/c.mp4"}
    assert {r["reason"] for r in first} == {"no face", "too short", "/c.mp4 is silent"}


def test_a_sample_is_the_clips_own_sound_and_opening(toy_corpus: Callable[..., Path], tmp_path: Path) -> None:
    corpus = Corpus.load(toy_corpus(tmp_path / "corpus", (10.0, 3.0)))
    clip = corpus.load_clip(corpus.usable[0]["id"])
    clip.valid[100:150] = False
    corpus.save_clip(corpus.usable[0]["id"], clip)
    page = read(corpus)
    assert [
        attributes["data-seconds"] for tag, attributes in page.tags if tag == "figure" and "data-seconds" in attributes
    ] == [
        "7.0",
        "3.0",
    ]
    source = page.all("audio")[0]["src"] or ""
    with wave.open(io.BytesIO(base64.b64decode(source.removeprefix("data:audio/wav;base64,")))) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (16000, 1, 7 * 16000)
        samples = np.frombuffer(sound.readframes(7 * 16000), np.int16)
    (start,) = (s for s in range(0, 3 * 16000 + 1, 160) if np.array_equal(clip.audio[s : s + len(samples)], samples))
    hole = [4.0 - start / 16000, 6.0 - start / 16000]
    lines = [a["points"] or "" for a in page.all("polyline")]
    xs = [np.array([float(p.split(",")[0]) for p in line.split()]) * 7 / 1000 for line in lines]
    inside = [(x > hole[0] + 0.05) & (x < hole[1] - 0.05) for x in xs[:-1]]
    assert len(xs) >= 2
    assert not any(part.any() for part in inside)


def test_a_lost_clip_is_passed_over(toy_corpus: Callable[..., Path], tmp_path: Path) -> None:
    corpus = Corpus.load(toy_corpus(tmp_path / "corpus", (3.0, 3.0)))
    corpus.clip_path(corpus.usable[0]["id"]).unlink()
    corpus.clip_path(corpus.usable[1]["id"]).write_bytes(b"broken")
    page = read(corpus)
    assert page.all("audio") == []
    assert page.numbers('<dl class="numbers">')[0] == 6


# When -----------------------------------------------------------------------------------------------------------------


def test_the_report_is_made_when_rows_change_or_it_is_missing(talk: Any, taken: Path) -> None:
    report = taken / "report.html"
    page = Page(report.read_text("utf-8"))
    assert len(page.all("audio")) == 1
    assert len(page.all("img")) == 1
    before = report.stat().st_ino, report.stat().st_mtime_ns
    preprocess_corpus([talk.path], taken)
    assert (report.stat().st_ino, report.stat().st_mtime_ns) == before
    preprocess_corpus([talk.path], taken, speaker="Eileen")
    assert "Eileen" in report.read_text("utf-8")
    report.unlink()
    preprocess_corpus([talk.path], taken, speaker="Eileen")
    assert report.exists()
    assert sorted(p.name for p in taken.iterdir()) == [".lock", "clips", "corpus.json", "manifest.jsonl", "report.html"]


@pytest.mark.parametrize("reason", [*FLAWS, SHORT, SPARSE, NO_SOUND, OTHER_SOUND, "something new", None])
def test_every_reason_has_a_colour_by_day_and_by_night(reason: str | None) -> None:
    beside = Path(report.__file__).parent
    page, style = (beside / "page.css").read_text() + (beside / "report.html").read_text(), report._style(reason)
    assert page.count(f"--{style}: #") == 2
    assert f".{style} {{ color: var(--{style}); }}" in page
