"""An evaluation's page says what the JSON says, shows what was judged, fetches nothing, and is there whole or not at all."""

from __future__ import annotations

import base64
import io
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from lipwright.data.errors import InputError, OutputExistsError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import Yuv, file_sha256
from lipwright.models.lipsync import WEIGHTS
from lipwright.pipeline import scorecard
from lipwright.pipeline.evaluate import Take, _take, evaluate_model
from lipwright.pipeline.moments import MOMENT_S, PANEL_PX, STRIP_PX, moments_of
from lipwright.pipeline.predict import load_model
from lipwright.pipeline.result import Footage
from lipwright.pipeline.scorecard import BEST, MOST_DRAWN, REPORT, Scorecard

NAME = "a <script>alert(1)<b> & 'c' $d.mp4"
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """A page taken apart; one that is not well-formed fails."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.open = html, list[str]()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def row(self, name: str) -> list[float]:
        """The numbers of a metric in the first table that has it."""
        cells = self.html.split(f"<code>{name}</code></td>", 1)[1].split("</tr>", 1)[0]
        return [float(piece.split('"', 1)[0]) for piece in cells.split('<data value="')[1:]]

    def films(self) -> list[bytes]:
        return [base64.b64decode((a["src"] or "").removeprefix("data:video/mp4;base64,")) for a in self.all("video")]


@pytest.fixture(scope="module")
def named(talk: Any, talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The talking photograph, under a name that is no fun to write into a page."""
    path = tmp_path_factory.mktemp("named") / NAME
    shutil.copy(talk.path, path)
    return path


@pytest.fixture(scope="module")
def judged(toy_run: Path, named: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Page]:
    folder = tmp_path_factory.mktemp("judged") / "report"
    result = evaluate_model(toy_run, [named], report=folder, require={"lmd": 9.0, "aperture_r": 0.999, "closure_f1": 0.0})
    assert result["report"] == str(folder / REPORT)
    assert [path.name for path in folder.iterdir()] == [REPORT]
    return result, Page((folder / REPORT).read_text("utf-8"))


def test_the_page_fetches_nothing_and_shows_any_name(judged: tuple[dict[str, Any], Page]) -> None:
    _, page = judged
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not {"script", "base", "iframe"} & {tag for tag, _ in page.tags}
    for word in ("url(", "@import", "http://", "https://"):
        assert word not in page.html
    assert any((a["content"] or "").startswith("default-src 'none';") for a in page.all("meta") if "http-equiv" in a)
    assert NAME in page.text


def test_the_numbers_are_the_jsons(judged: tuple[dict[str, Any], Page], toy_run: Path) -> None:
    result, page = judged
    mean = result["mean"]
    columns = [mean, mean["baselines"]["ridge"], mean["baselines"]["mean_mouth"]]
    for name in ("aperture_r", "aperture_gain", "width_r", "lmd", "lmd_ratio", "lag_ms", "closure_f1", "jitter_ratio"):
        assert page.row(name) == [column[name] for column in columns if column[name] is not None]
    assert file_sha256(toy_run / WEIGHTS) in page.text


def test_what_was_required_is_shown(judged: tuple[dict[str, Any], Page]) -> None:
    result, page = judged
    met = [each["pass"] for each in result["require"]]
    assert met[:2] == [True, False]
    assert f"{sum(met)} of 3 met" in page.text
    assert "required at least 0.999" in page.text
    assert [a["class"] for a in page.all("td") if a.get("class") in ("pass", "miss")] == ["pass" if m else "miss" for m in met]


def test_the_curves_are_what_was_judged(judged: tuple[dict[str, Any], Page]) -> None:
    _, page = judged
    styles = [a["class"] for a in page.all("polyline")]
    assert styles.count("measured") >= 1
    assert {*styles} == {"measured", "model", "ridge", "mean_mouth"}
    # Of two curves on one scale the highest points tell which opens wider.
    top = {
        style: min(
            float(p.split(",")[1]) for a in page.all("polyline") if a["class"] == style for p in (a["points"] or "").split()
        )
        for style in ("measured", "model")
    }
    assert top["measured"] != top["model"]


def test_a_film_has_source_result_and_lips_with_sound(judged: tuple[dict[str, Any], Page], talk_pictures: list[Yuv]) -> None:
    _, page = judged
    data, _ = page.films()  # six seconds have two moments
    with av.open(io.BytesIO(data)) as film:
        assert "synthetic" in film.metadata["comment"].lower()
        assert film.streams.video[0].codec_context.name == "h264"
        samples = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
        assert np.abs(samples).max() > 0.01
    with av.open(io.BytesIO(data)) as film:
        frames = list(film.decode(video=0))
    assert len(frames) == 25 * MOMENT_S
    assert [float(frame.time) for frame in frames[:3]] == pytest.approx([0, 0.04, 0.08])
    luma = np.stack([frame.to_ndarray()[: PANEL_PX + STRIP_PX, : 3 * PANEL_PX] for frame in frames]).astype(int)
    assert luma.shape[1:] == (PANEL_PX + STRIP_PX, 3 * PANEL_PX)
    source, result, lips = np.split(luma[:, STRIP_PX:], 3, axis=2)
    words = luma[0, :STRIP_PX]
    assert all((part > 200).any() and np.median(part) < 30 for part in np.split(words, 3, axis=1))  # white on black
    mouth, eyes = np.s_[:, 190:, 80:210], np.s_[:, 20:110, 60:230]
    assert np.abs(source[eyes] - result[eyes]).mean() < 2.5  # encoded anew
    assert np.abs(source[mouth] - result[mouth]).mean() > 1.5 * np.abs(source[eyes] - result[eyes]).mean()
    drawn = [(np.abs(lips[part] - result[part]) > 25).mean() for part in (mouth, eyes)]  # thin lines
    assert drawn[0] > 0.004 > 10 * drawn[1]
    # The first panel is the talk itself, of its first moment, face upright and whole.
    own = cv2.resize(talk_pictures[0].y, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = cv2.resize(source[0].astype(np.uint8), (120, 120), interpolation=cv2.INTER_AREA)
    scores = [
        cv2.matchTemplate(own, cv2.resize(small, (size, size)), cv2.TM_CCOEFF_NORMED).max() for size in range(60, 140, 4)
    ]  # fmt: skip
    assert max(scores) > 0.95


@pytest.mark.parametrize(
    ("footage", "words"),
    [
        (Footage(None, False), "of each video itself"),
        (Footage(None, True), "of the first 75 % of each video"),
        (Footage(Path("/films/<other>.mp4"), True), "&lt;other&gt;.mp4"),
    ],
)
def test_the_page_says_where_its_mouths_come_from(footage: Footage, words: str) -> None:
    assert words in scorecard._film_note(footage)


# Folders --------------------------------------------------------------------------------------------------------------


def test_a_report_is_replaced_only_by_force_and_nothing_else_is(toy_run: Path, talk: Any, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    with pytest.raises(OutputExistsError, match=r"report already exists; choose another --report or pass --force"):
        evaluate_model(toy_run, [talk.path], report=folder)
    Scorecard(folder, force=True)  # an empty one
    (folder / REPORT).write_text("<p>mine</p>")
    with pytest.raises(InputError, match=r"report holds other files \(report\.html\) than an evaluation's report"):
        Scorecard(folder, force=True)
    (folder / REPORT).write_text(scorecard.PAGE.read_text())
    Scorecard(folder, force=True)
    (folder / ".report.html.999999999-1.partial").touch()  # of a process that was killed
    Scorecard(folder, force=True)
    assert [path.name for path in folder.iterdir()] == [REPORT]
    (folder / "manifest.jsonl").touch()
    with pytest.raises(InputError, match=r"other files \(manifest\.jsonl\)"):
        Scorecard(folder, force=True)
    with pytest.raises(InputError, match=r"manifest\.jsonl is a file, not the folder of a report"):
        Scorecard(folder / "manifest.jsonl", force=True)
    with pytest.raises(InputError, match=r"none is not a folder; create it first, or choose another --report"):
        Scorecard(tmp_path / "none" / "report", force=False)


def test_an_interruption_leaves_no_folder(toy_run: Path, named: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, of: int) -> None:
        if what == "film moments":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_model(toy_run, [named], report=tmp_path / "report", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_before_the_work(toy_run: Path, named: Path, tmp_path: Path) -> None:
    def work(*_: object) -> None:
        raise AssertionError("it worked before it knew")

    (tmp_path / "report").symlink_to(tmp_path / "gone" / "gone")
    with pytest.raises(OSError, match="report"):
        evaluate_model(toy_run, [named], report=tmp_path / "report", progress=work)


def test_a_video_that_cannot_be_judged_is_on_the_page(toy_run: Path, named: Path, tmp_path: Path) -> None:
    result = evaluate_model(toy_run, [tmp_path / "no & where.mp4", named], report=tmp_path / "report")
    page = Page(Path(result["report"]).read_text("utf-8"))
    assert "no & where.mp4 does not exist" in page.text
    assert "1 more video could not be judged" in page.text


# Many -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def take(toy_run: Path, talk: Any, talk_track: FaceTrack) -> Take:
    from lipwright.models.baselines import Ridge

    return _take(talk.path, load_model(toy_run), Ridge.load(toy_run), None)


def test_a_page_of_many_videos_is_bounded(
    take: Take, judged: tuple[dict[str, Any], Page], toy_run: Path, tmp_path: Path
) -> None:
    card, (result, _) = Scorecard(tmp_path / "report", force=False), judged
    for k in range(40):
        mouths = take.mouths | {"model": take.mouths["model"] + np.float32(0.001 * (k * 7 % 40))}
        card.add(replace(take, mouths=mouths))
    clip = result["clips"][0] | {"path": str(take.media.path)}
    clips = [clip] * 39 + [clip | {"seen": True}]
    with card:
        made = card.write({"clips": clips, "mean": result["mean"]}, toy_run, Footage(None, False))
    page = Page(made.read_text("utf-8"))
    assert len(page.films()) == 2 * BEST
    assert len(page.all("h3")) == MOST_DRAWN
    assert f"{40 - MOST_DRAWN} are not drawn" in page.text
    assert "1 of them was trained on: that flatters the model." in page.text
    best, worst = page.html.split("<h2>Best moments</h2>")[1].split("<h2>Worst moments</h2>")
    lmd = [[float(part.split('"', 1)[0]) for part in half.split('<data value="')[1 : BEST + 1]] for half in (best, worst)]
    assert lmd[0] == sorted(lmd[0])
    assert lmd[1] == sorted(lmd[1], reverse=True)
    assert lmd[0][-1] < lmd[1][-1]
    assert len(page.html) < 8e6


def test_moments_are_seen_and_spoken(take: Take) -> None:
    distance, valid = np.ones(len(take.measured.valid)), take.measured.valid.copy()

    def starts(samples: np.ndarray, valid: np.ndarray) -> list[float]:
        return [m.start_s for m in moments_of(take.media, take.sha256, take.track, samples, distance, valid, take.said)]

    assert starts(take.samples, valid) == [0.0, 3.0]
    assert starts(take.samples[:16000], valid) == []  # then silence
    valid[100:180] = False
    assert starts(take.samples, valid) == [3.0]
