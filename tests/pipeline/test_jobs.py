"""Lists of renders: read whole before any work, done one by one, and one that fails keeps no other from being done."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from lipwright.data.errors import Cancelled, InputError
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import probe
from lipwright.data.mouth import track_of
from lipwright.pipeline.jobs import read_jobs, render_jobs
from lipwright.pipeline.settings import RenderSettings

TWO = [
    {"target": "a.mp4", "audio": "a.wav", "out": "x.mp4"},
    {"target": "b, 2.mp4", "audio": "b.wav", "out": "y.mp4", "face": "left"},
]


def _written(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".csv":
        import csv

        with path.open("w", newline="") as out:
            sheet = csv.DictWriter(out, sorted({key for row in rows for key in row}))
            sheet.writeheader()
            sheet.writerows(rows)
    else:
        path.write_text("\n\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.jsonl", "jobs"])
def test_jobs_are_read_from_sheets_and_from_json_lines(tmp_path: Path, name: str) -> None:
    assert [job.given for job in read_jobs(_written(tmp_path / name, TWO))] == TWO


def test_a_spreadsheets_mark_is_no_part_of_its_head(tmp_path: Path) -> None:
    file = tmp_path / "jobs.csv"
    file.write_bytes(b"\xef\xbb\xbftarget,audio,out\r\na.mp4,a.wav,x.mp4\r\n")
    assert read_jobs(file)[0].given["target"] == "a.mp4"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("j.jsonl", "", "lists no render"),
        ("j.csv", "target,audio,out\n", "lists no render"),
        ("j.jsonl", '{"target": "a", "audio": "b"}', "line 1: lacks out"),
        ("j.jsonl", '{"target": "a", "audio": "b", "out": ""}', "line 1: lacks out"),
        ("j.jsonl", '\n{"target": ', "line 2: not JSON"),
        ("j.jsonl", "[1]", "line 1: not an object"),
        ("j.jsonl", '{"target": "a", "audio": 3, "out": "c"}', "line 1: audio is 3"),
        ("j.jsonl", '{"target": "a", "audio": "b", "out": "c", "voice": "d"}', "line 1: 'voice' is not known"),
        ("j.csv", "target,audio,out\na,b,c,d\n", "line 2: more cells"),
        ("j.csv", "target,audio,out\na,b,c\nd,e,./c\n", "lines 2 and 3 both write"),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words) as told:
        read_jobs(tmp_path / name)
    assert name in str(told.value)


def test_a_list_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.csv").write_bytes(b"\xff\xfe\x00\xd8")
    for name in ("gone.csv", "j.csv"):
        with pytest.raises(InputError, match=name):
            read_jobs(tmp_path / name)


@pytest.fixture
def three(tmp_path: Path, talk: Any, talk_track: FaceTrack) -> Path:
    """A list of three renders of which the second cannot be done."""
    track_of(talk_track).save(tmp_path / "mouth.json")
    common = {"target": str(talk.path), "audio": str(talk.path), "mouth": str(tmp_path / "mouth.json")}
    rows = [common | {"out": str(tmp_path / f"{k}.mp4")} for k in range(3)]
    rows[1]["audio"] = str(tmp_path / "gone.wav")
    return _written(tmp_path / "jobs.jsonl", rows)


def test_one_that_fails_keeps_no_other_from_being_done(tmp_path: Path, three: Path) -> None:
    told: list[dict[str, Any]] = []
    done = render_jobs(three, RenderSettings(end_s=1.0), finished=told.append)
    assert done["jobs"] == told
    assert ["error" in result for result in told] == [False, True, False]
    assert "gone.wav" in told[1]["error"]
    assert [(tmp_path / f"{k}.mp4").exists() for k in range(3)] == [True, False, True]
    assert probe(tmp_path / "2.mp4").need_video().frames == 25


def test_not_even_what_nobody_foresaw(tmp_path: Path, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lipwright.pipeline import render

    def render_video(target: str, audio: str, out: str, **options: Any) -> dict[str, Any]:
        if out.endswith("0.mp4"):
            return {"frames": 1 // 0}
        raise PermissionError(13, "Permission denied", out)

    monkeypatch.setattr(render, "render_video", render_video)
    told = render_jobs(three)["jobs"]
    assert [result["error"].split(": ")[1] for result in told] == [
        "integer division or modulo by zero",
        *2 * ["Permission denied"],
    ]


def test_cancelling_ends_the_list(tmp_path: Path, three: Path) -> None:
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        render_jobs(three, RenderSettings(end_s=1.0), cancel=cancel, finished=lambda result: cancel.set())
    assert (tmp_path / "0.mp4").exists()
    assert not (tmp_path / "2.mp4").exists()
