"""Every format is read back by who reads it, or held against what is published of it."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from lipwright.data.errors import InputError
from lipwright.data.features import compute_features
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import LIPS, Speaker, aperture, track_of, width
from lipwright.models.lipsync import BASE, LipSync
from lipwright.pipeline.export import WRITERS, export_mouth, measure_take, predict_take
from lipwright.pipeline.formats import Format
from lipwright.pipeline.formats.live_link import ANGLES, COLUMNS, SHAPES, timecode
from lipwright.pipeline.formats.take import Take

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.fixture(scope="module")
def measured(talk: Any, talk_track: FaceTrack) -> Take:
    """Return the mouth of the talking photograph."""
    assert talk_track.found.all()
    return measure_take(talk.path)


@pytest.fixture(scope="module")
def predicted(talk: Any) -> Take:
    """Return the mouth that the base model hears in its sound."""
    return predict_take(talk.path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Take, Format], Path]:
    """Return a function that writes a take and says where."""

    def to_file(take: Take, form: Format) -> Path:
        WRITERS[form](take, tmp_path / form)
        assert [path.name for path in tmp_path.iterdir()] == [form]
        return tmp_path / form

    return to_file


Write = Callable[[Take, Format], Path]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_format_is_written() -> None:
    assert {*WRITERS, Format.onnx} == set(Format)


# Curves ---------------------------------------------------------------------------------------------------------------


def test_csv_and_json_hold_the_mouth(measured: Take, tmp_path: Path) -> None:
    half = replace(measured, mouth=replace(measured.mouth, valid=np.arange(measured.steps) % 2 == 0))
    for form in (Format.csv, Format.json):
        WRITERS[form](half, tmp_path / form)
    rows, document = rows_of(tmp_path / "csv"), json.loads((tmp_path / "json").read_text())
    assert (document["format"], document["version"], document["step_hz"]) == ("lipwright-curves", 1, 100)
    assert [*rows[0]] == document["columns"]
    assert len(rows) == len(document["rows"]) == measured.steps
    xyz, speaker = measured.mouth.steps(0, measured.steps)[1], measured.mouth.speaker
    assert speaker.scale is not None
    for k in (0, 50, 300):
        row = dict(zip(document["columns"], document["rows"][k], strict=True))
        assert {name: float(value) for name, value in rows[k].items()} == pytest.approx(
            {name: float(value) for name, value in row.items()}
        )
        assert row["time_s"] == k / 100
        assert row["aperture"] == pytest.approx(aperture(xyz[k]), abs=1e-5)
        assert row["openness"] == pytest.approx((aperture(xyz[k]) - aperture(speaker.neutral)) / speaker.scale, abs=1e-4)
        assert row["width"] == pytest.approx(width(xyz[k]), abs=1e-5)
        np.testing.assert_allclose([row[f"y{point}"] for point in LIPS], xyz[k, :, 1], atol=1e-5)
    assert document["rows"][1] == [0.01, False, *[None] * (len(rows[0]) - 2)]
    assert [*rows[1].values()] == ["0.01", "0", *[""] * (len(rows[0]) - 2)]


def test_one_who_does_not_speak_has_no_openness(measured: Take, write: Write) -> None:
    still = replace(measured.mouth, speaker=Speaker(measured.mouth.speaker.neutral, None))
    document = json.loads(write(replace(measured, mouth=still), Format.json).read_text())
    assert document["scale"] is None
    assert document["rows"][0][document["columns"].index("openness")] is None


@pytest.mark.parametrize("source", ["measured", "predicted"])
def test_oculus_weights_sum_to_one(source: str, request: pytest.FixtureRequest, write: Write) -> None:
    take: Take = request.getfixturevalue(source)
    rows = rows_of(write(take, Format.oculus))
    assert [*rows[0]] == [
        "time_s", "sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou",
    ]  # fmt: skip
    assert len(rows) == take.steps
    weights = np.array([[float(value) for name, value in row.items() if name != "time_s"] for row in rows])
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-3)
    assert [float(row["time_s"]) for row in rows] == [k / 100 for k in range(take.steps)]
    assert len(set(weights.argmax(1))) > 8


# Live Link Face -------------------------------------------------------------------------------------------------------


def test_columns_are_live_link_faces() -> None:
    assert (len(SHAPES), len(ANGLES), len(set(COLUMNS))) == (52, 9, 63)
    assert COLUMNS[:3] == ("Timecode", "BlendShapeCount", "EyeBlinkLeft")
    assert (SHAPES[14:18], SHAPES[-1]) == (("JawForward", "JawRight", "JawLeft", "JawOpen"), "TongueOut")
    assert [timecode(k) for k in (0, 59, 60, 216_061)] == [
        "00:00:00:00.000", "00:00:00:59.000", "00:00:01:00.000", "01:00:01:01.000",
    ]  # fmt: skip


def test_a_measured_face_has_mediapipes_shapes_and_its_pose(measured: Take, talk_track: FaceTrack, write: Write) -> None:
    rows = rows_of(write(measured, Format.arkit_csv))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == int(measured.duration_s * 60) + 1
    assert {row["BlendShapeCount"] for row in rows} == {"61"}
    own = np.array([float(row["JawOpen"]) for row in rows])
    seen = np.interp(np.arange(len(rows)) / 60, talk_track.times_s, talk_track.blendshapes[:][:, 25])
    np.testing.assert_allclose(own, seen, atol=1e-5)
    assert np.std([float(row["EyeBlinkLeft"]) for row in rows]) > 0
    roll = np.array([float(row["HeadRoll"]) for row in rows])
    assert 0.001 < np.abs(roll - roll.mean()).max() < 0.1  # the photograph sways


def test_rows_without_a_face_count_no_shapes(measured: Take, write: Write) -> None:
    face = measured.face
    assert face is not None
    points, shapes = np.array(face.points[:]), np.array(face.blendshapes[:])
    points[50:80], shapes[50:80] = np.nan, np.nan
    lost = replace(measured, face=replace(face, points=points, blendshapes=shapes))
    counts = [row["BlendShapeCount"] for row in rows_of(write(lost, Format.arkit_csv))]
    assert counts[round(60 * 65 / 25)] == "0"
    assert counts[0] == counts[-1] == "61"


def test_a_predicted_face_moves_its_mouth_alone(predicted: Take, write: Write) -> None:
    rows = rows_of(write(predicted, Format.arkit_csv))
    moving = {name for name in COLUMNS[2:] if len({row[name] for row in rows}) > 1}
    assert {"JawOpen", "MouthFunnel", "MouthPucker", "MouthStretchLeft"} <= moving
    assert all(name.startswith(("Mouth", "Jaw")) for name in moving)


# Cues -----------------------------------------------------------------------------------------------------------------


def check_cues(cues: list[tuple[float, float, str]], take: Take) -> None:
    assert cues[0][0] == 0
    assert cues[-1][1] == pytest.approx(take.duration_s)
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in itertools.pairwise(cues))
    assert all(end - start > 0.055 for start, end, _ in cues)
    assert {name for *_, name in cues} <= set("ABCDEFGHX")
    assert {"A", "X"} < {name for *_, name in cues}


@pytest.mark.parametrize("source", ["measured", "predicted"])
def test_rhubarbs_three_formats_say_the_same(source: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    take: Take = request.getfixturevalue(source)
    for form in (Format.rhubarb_tsv, Format.rhubarb_xml, Format.rhubarb_json):
        WRITERS[form](take, tmp_path / form)
    document = json.loads((tmp_path / "rhubarb-json").read_text())
    assert [*document] == ["metadata", "mouthCues"]
    assert document["metadata"] == {"soundFile": str(take.media.path.absolute()), "duration": take.duration_s}
    assert all([*cue] == ["start", "end", "value"] for cue in document["mouthCues"])
    cues = [tuple(cue.values()) for cue in document["mouthCues"]]
    check_cues(cues, take)

    assert (tmp_path / "rhubarb-xml").read_text().startswith('<?xml version="1.0" encoding="utf-8"?>\n<rhubarbResult>\n')
    root = ElementTree.parse(tmp_path / "rhubarb-xml").getroot()
    assert [child.tag for child in root] == ["metadata", "mouthCues"]
    assert [(child.tag, child.text) for child in root[0]] == [
        ("soundFile", str(take.media.path.absolute())),
        ("duration", f"{take.duration_s:.2f}"),
    ]
    assert {child.tag for child in root[1]} == {"mouthCue"}
    assert [(float(c.attrib["start"]), float(c.attrib["end"]), c.text) for c in root[1]] == cues

    lines = [line.split("\t") for line in (tmp_path / "rhubarb-tsv").read_text().splitlines()]
    assert all(re.fullmatch(r"\d+\.\d\d", time) for time, _ in lines)
    assert [(float(time), name) for time, name in lines] == [*((c[0], c[2]) for c in cues), (take.duration_s, "X")]


def test_names_of_files_that_are_no_text_are_written(predicted: Take, write: Write) -> None:
    odd = replace(predicted, media=replace(predicted.media, path=Path("/tmp/a\udcff\x01&<b>.wav")))
    root = ElementTree.parse(write(odd, Format.rhubarb_xml)).getroot()
    assert root[0][0].text == "/tmp/a��&<b>.wav"


@pytest.mark.parametrize(("source", "rate"), [("measured", 25), ("predicted", 24)])
def test_moho_reads_frames_and_preston_blairs_names(
    source: str, rate: int, request: pytest.FixtureRequest, write: Write
) -> None:
    take: Take = request.getfixturevalue(source)
    head, *lines = write(take, Format.moho).read_text().splitlines()
    assert head == "MohoSwitch1"
    frames, names = zip(*(line.split(" ") for line in lines), strict=True)
    numbers = [int(frame) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1], names[-1]) == (1, 1 + int(Fraction(str(take.duration_s)) * rate), "rest")
    assert {"MBP", "rest"} < set(names) <= {"AI", "E", "O", "U", "etc", "L", "WQ", "MBP", "FV", "rest"}


def test_webvtt_is_read_by_its_library(predicted: Take, write: Write) -> None:
    import webvtt

    captions = list(webvtt.read(write(predicted, Format.webvtt)))
    check_cues([(_seconds(c.start), _seconds(c.end), json.loads(c.text)["mouth"]) for c in captions], predicted)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = map(float, clock.split(":"))
    return 3600 * hours + 60 * minutes + seconds


# Sources --------------------------------------------------------------------------------------------------------------


def test_a_video_without_sound_is_judged_by_its_mouth(measured: Take, write: Write) -> None:
    silent = replace(measured, media=replace(measured.media, audio=None))
    names = [line.split("\t")[1] for line in write(silent, Format.rhubarb_tsv).read_text().splitlines()]
    assert {"A", "D"} & set(names)
    assert len(names) > 10


def test_a_measured_mouth_changes_what_is_shown(measured: Take, predicted: Take) -> None:
    assert measured.steps == predicted.steps or abs(measured.steps - predicted.steps) < 30
    steps = min(measured.steps, predicted.steps)
    a, b = measured.sounds[:steps], predicted.sounds[:steps]
    agree = (a.argmax(1) == b.argmax(1)).mean()
    assert 0.5 < agree < 1


def test_the_least_sound_is_written_in_every_format(
    tmp_path: Path, babble: Callable[..., Any], wav: Callable[..., Path]
) -> None:
    sound = wav(babble(0.1))
    for form in WRITERS:
        report = export_mouth(tmp_path / form, format=form, audio=sound)
        assert report["steps"] == 11
        assert (tmp_path / form).stat().st_size


def test_an_unknown_format_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no format 'bvh'; choose one of track, json, csv, arkit-csv, .*, onnx"):
        export_mouth(tmp_path / "out", format="bvh", audio="a.wav")


def test_a_network_takes_no_sound(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="onnx writes the network itself"):
        export_mouth(tmp_path / "out", format="onnx", audio="a.wav")


def test_the_docs_example_runs_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, babble: Callable[..., Any]) -> None:
    monkeypatch.chdir(tmp_path)
    report = export_mouth("net.onnx", format="onnx")
    assert report["inputs"][0] == "features"
    base, features = LipSync.load(BASE), compute_features(babble(1.5))
    code = re.search(r"```python\n(import json\n.*?)```", DOCS.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"features": features}
    exec(code[1], names)
    np.testing.assert_allclose(names["mouth"], base.neutral.numpy() + base.config.scale * base.predict(features), atol=1e-4)


def test_a_measured_take_is_the_track(measured: Take, talk_track: FaceTrack) -> None:
    np.testing.assert_allclose(measured.mouth.steps(0, 50)[1], track_of(talk_track).steps(0, 50)[1])
    assert measured.rate == 25
