"""What people ask of a render beside the words: a part, a first look, more movement or less, layers, lists, two people."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from lipwright.data.encoder import Encoding
from lipwright.data.landmarks import FaceTrack, face_track
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.mouth import aperture, load_track, measure_mouth, track_of
from lipwright.data.writer import VideoWriter


@pytest.fixture(scope="module")
def mouth(talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The talk's own mouth, as a file."""
    path = tmp_path_factory.mktemp("mouth") / "mouth.json"
    track_of(talk_track).save(path)
    return path


@pytest.fixture
def render(lipwright: Any, talk: Any, mouth: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that renders the talk onto itself: `render(*words, out="out.mp4")` → what it printed."""

    def run(*words: object, out: str = "out.mp4") -> Any:
        ran = lipwright(
            "render",
            "--target",
            talk.path,
            "--audio",
            talk.path,
            "--mouth",
            mouth,
            "--out",
            out,
            *words,
            "--json",
            cwd=tmp_path,
        )
        assert (ran.code, ran.err) == (0, "")
        return ran.json

    return run


def _mouth(path: Path) -> np.ndarray:
    return aperture(measure_mouth(face_track(probe(path))))


def _sound(path: Path) -> np.ndarray:
    from lipwright.data.audio import read_speech

    return read_speech(probe(path))


@pytest.mark.parametrize(
    ("start_s", "first", "times"),
    [
        (1.2, 30, [Fraction(k, 25) for k in range(50)]),
        # Within frame 30, which is still on the screen.
        (1.21, 30, [Fraction(0)] + [Fraction(k, 25) - Fraction("0.01") for k in range(1, 51)]),
    ],
)
def test_a_part_of_the_sound_is_that_part_of_the_whole(
    render: Callable[..., Any], tmp_path: Path, start_s: float, first: int, times: list[Fraction]
) -> None:
    render(out="whole.mp4")
    report = render("--start", start_s, "--end", start_s + 2, out="part.mp4")
    assert report["frames"] == len(times)
    assert report["seconds"] == pytest.approx(2.0)
    whole = [frame.yuv().y.astype(int) for frame in read_frames(probe(tmp_path / "whole.mp4"))][first : first + len(times)]
    part = list(read_frames(probe(tmp_path / "part.mp4")))
    assert [frame.time for frame in part] == times
    for a, frame in zip(whole, part, strict=True):
        assert np.abs(a - frame.yuv().y).mean() < 1.5  # encoded another time
    begin = round(16000 * start_s)
    heard, of = _sound(tmp_path / "part.mp4"), _sound(tmp_path / "whole.mp4")[begin : begin + 32000]
    assert abs(len(heard) - len(of)) < 1600
    count = min(len(heard), len(of))
    assert np.corrcoef(heard[:count], of[:count])[0, 1] > 0.95


@pytest.mark.parametrize(("start_s", "end_s", "frames"), [(0.5, 1.5, 24), (1.43, None, 1)])
def test_a_part_of_a_video_with_a_coarse_clock(
    lipwright: Any, encode: Callable[..., Path], talk: Any, talk_pictures: list[Yuv], mouth: Path, tmp_path: Path,
    start_s: float, end_s: float | None, frames: int,
) -> None:  # fmt: skip
    """Ticks as long as a frame: a start between two of them neither makes frames fall together nor leaves none."""
    samples, rate_hz = soundfile.read(talk.path.with_suffix(".wav"), dtype="float32")
    soundfile.write(tmp_path / "short.wav", samples[: round(1.44 * rate_hz)], rate_hz)
    shown = [(Fraction(k, 25), picture) for k, picture in enumerate(talk_pictures[:36])]
    target = encode("target.avi", video=shown, codec="mpeg4", time_base=Fraction(1, 25))
    end = [] if end_s is None else ["--end", end_s]
    ran = lipwright(
        "render", "--target", target, "--audio", "short.wav", "--mouth", mouth, "--start", start_s, *end, "--out", "o.mp4",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    times = [frame.time for frame in read_frames(probe(tmp_path / "o.mp4"))]
    assert times == [Fraction(k, 25) for k in range(len(times))]
    assert len(times) == ran.json["frames"] == frames


def test_a_start_after_the_end_of_the_sound_is_refused(lipwright: Any, talk: Any, mouth: Path, tmp_path: Path) -> None:
    ran = lipwright(
        "render", "--target", talk.path, "--audio", talk.path, "--mouth", mouth, "--out", "o.mp4", "--start", 60, cwd=tmp_path
    )
    assert ran.code == 3
    assert "--start" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_preview_is_a_quarter_and_short(lipwright: Any, talk: Any, mouth: Path, tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(talk.path.with_suffix(".wav"), dtype="float32")
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 3), rate_hz)
    ran = lipwright(
        "render", "--target", talk.path, "--audio", "long.wav", "--mouth", mouth, "--out", "o.mp4", "--preview", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    video = probe(tmp_path / "o.mp4").need_video()
    assert (video.width, video.height) == (160, 160)
    assert ran.json["seconds"] == 10
    assert ran.json["frames"] == 250


@pytest.mark.parametrize("gain", [0.0, 1.6])
def test_the_gain_is_seen_in_the_picture(
    render: Callable[..., Any], talk_track: FaceTrack, tmp_path: Path, gain: float
) -> None:
    render("--no-retime", "--mouth-gain", gain)
    own, shown = aperture(measure_mouth(talk_track)), _mouth(tmp_path / "out.mp4")[: len(talk_track.pts)]
    own = own[: len(shown)]
    assert shown.std() / own.std() == pytest.approx(gain, abs=0.3)
    assert gain == 0 or np.corrcoef(shown, own)[0, 1] > 0.85


def test_the_mouth_is_shut_where_nobody_speaks(
    lipwright: Any, talk: Any, talk_track: FaceTrack, mouth: Path, tmp_path: Path
) -> None:
    """Of a mouth that goes on talking, what is beside the sound is shut."""
    samples, rate_hz = soundfile.read(talk.path.with_suffix(".wav"), dtype="float32")
    samples[2 * rate_hz : 4 * rate_hz] = 0
    soundfile.write(tmp_path / "gap.wav", samples, rate_hz)
    words = ("render", "--target", talk.path, "--audio", "gap.wav", "--mouth", mouth, "--no-retime")
    for name, more in (("open.mp4", []), ("shut.mp4", ["--closed-in-silence"])):
        ran = lipwright(*words, "--out", name, *more, cwd=tmp_path)
        assert (ran.code, ran.err) == (0, "")
    inside = slice(int(2.3 * 25), int(3.7 * 25))
    before, after = (_mouth(tmp_path / name) for name in ("open.mp4", "shut.mp4"))
    assert before[inside].max() > 0.1
    assert after[inside].max() < 0.05
    assert np.corrcoef(before[:45], after[:45])[0, 1] > 0.95


def test_lips_are_drawn_over_the_picture(render: Callable[..., Any], tmp_path: Path) -> None:
    render("--no-retime", out="plain.mp4")
    render("--no-retime", "--overlay", out="drawn.mp4")
    plain, drawn = (list(read_frames(probe(tmp_path / name)))[40].yuv() for name in ("plain.mp4", "drawn.mp4"))
    changed = np.abs(plain.v.astype(int) - drawn.v) > 20
    assert 20 < changed.sum() < 0.05 * changed.size
    rows, columns = np.nonzero(changed)
    assert np.ptp(rows) < 60
    assert np.ptp(columns) < 60


def test_a_layer_holds_the_mouth_alone_and_fits_its_frames(render: Callable[..., Any], talk: Any, tmp_path: Path) -> None:
    report = render("--alpha", out="layer.mov")
    render("--alpha", "--end", 1, out="layer")
    render("--no-retime", out="whole.mp4")
    with av.open(str(tmp_path / "layer.mov")) as container:
        assert container.streams.video[0].codec_context.name == "prores"
        assert len(container.streams.audio) == 1
        moving = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
    assert len(moving) == report["frames"]
    import cv2

    files = sorted((tmp_path / "layer").iterdir())
    assert [file.name for file in files] == [f"{k:06d}.png" for k in range(25)]
    still = [cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA) for file in files]
    own = [frame.rgb() for frame in read_frames(probe(talk.path))]
    whole = [frame.rgb() for frame in read_frames(probe(tmp_path / "whole.mp4"))]
    for k in (3, 12, 24):
        for layer in (moving[k], still[k]):
            share = layer[..., 3:] / 255
            assert 0.02 < share.mean() < 0.3
            over = share * layer[..., :3] + (1 - share) * own[k]
            assert np.abs(over - whole[k]).mean() < 2.5


@pytest.mark.parametrize(("out", "words"), [("layer.mp4", ".mov"), ("layer.png", ".mov")])
def test_a_layer_is_refused_where_it_does_not_fit(
    lipwright: Any, talk: Any, mouth: Path, tmp_path: Path, out: str, words: str
) -> None:
    ran = lipwright(
        "render", "--target", talk.path, "--audio", talk.path, "--mouth", mouth, "--out", out, "--alpha", cwd=tmp_path
    )
    assert ran.code == 3
    assert words in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_codec_is_the_targets_or_as_asked_for(
    render: Callable[..., Any], encode: Callable[..., Path], talk_pictures: list[Yuv], mouth: Path, tmp_path: Path,
    lipwright: Any, talk: Any, codec: str,
) -> None:  # fmt: skip
    other = {"h264": "hevc", "hevc": "h264"}[codec]
    frames = [(Fraction(k, 25), picture) for k, picture in enumerate(talk_pictures[:50])]
    target = encode("target.mp4", video=frames, codec={"h264": "libx264", "hevc": "libx265"}[codec])
    for more, kind in (([], codec), (["--codec", other], other)):
        ran = lipwright(
            "render", "--target", target, "--audio", talk.path, "--mouth", mouth, "--end", 1, "--out", f"{kind}.mp4", *more,
            cwd=tmp_path,
        )  # fmt: skip
        assert (ran.code, ran.err) == (0, "")
        assert probe(tmp_path / f"{kind}.mp4").need_video().codec == kind


def test_the_size_follows_the_quality_and_the_preset(render: Callable[..., Any], tmp_path: Path) -> None:
    for name, words in {"usual": [], "coarse": ["--crf", 35], "slow": ["--preset", "slow"]}.items():
        render("--end", 2, *words, out=f"{name}.mp4")
    usual, coarse, slow = ((tmp_path / f"{n}.mp4").stat().st_size for n in ("usual", "coarse", "slow"))
    assert usual > coarse
    assert slow != usual


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.jsonl"])
def test_a_list_of_renders(lipwright: Any, talk: Any, mouth: Path, tmp_path: Path, name: str) -> None:
    rows = [{"target": str(talk.path), "audio": str(talk.path), "mouth": str(mouth), "out": f"{k}.mp4"} for k in "abc"]
    rows[1]["target"] = "gone.mp4"
    with (tmp_path / name).open("w", newline="") as out:
        if name.endswith("csv"):
            sheet = csv.DictWriter(out, rows[0])
            sheet.writeheader()
            sheet.writerows(rows)
        else:
            out.write("\n".join(map(json.dumps, rows)))
    ran = lipwright("render", "--jobs", name, "--end", 1, cwd=tmp_path)
    assert ran.code == 5
    lines = ran.out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a.mp4", "b.mp4", "c.mp4"]
    assert "gone.mp4" in lines[1]
    assert "1 of 3" in ran.err
    ran = lipwright("render", "--jobs", name, "--end", 1, "--force", "--json", cwd=tmp_path)
    assert [job.get("frames") for job in ran.json["jobs"]] == [25, None, 25]


def test_two_people_say_each_their_own(
    lipwright: Any, talk: Any, talk_pictures: list[Yuv], talk_track: FaceTrack, mouth: Path, tmp_path: Path
) -> None:
    """The left one says the talk, the right one half a second later; each moves as their own sound, and the mix is heard."""
    with VideoWriter(tmp_path / "two.mp4", Encoding(640, 320, Fraction(1, 12800), Fraction(25), BT709)) as writer:
        for k, left in enumerate(talk_pictures):
            right = talk_pictures[-1 - k]
            planes = (np.hstack(pair) for pair in zip(vars(left).values(), vars(right).values(), strict=True))
            writer.write(Yuv(*planes), Fraction(k, 25))
    samples, rate_hz = soundfile.read(talk.path.with_suffix(".wav"), dtype="float32")
    late = round(0.5 * rate_hz)
    soundfile.write(tmp_path / "right.wav", np.concatenate([np.zeros(late, np.float32), samples[:-late]]), rate_hz)
    own = load_track(mouth)
    document = json.loads(mouth.read_text()) | {"start_s": 0.5}
    (tmp_path / "late.json").write_text(json.dumps(document))
    ran = lipwright(
        "render", "--target", "two.mp4", "--speaker-audio", f"left={talk.path}", "--speaker-audio", "right=right.wav",
        "--mouth", f"left={mouth}", "--mouth", "right=late.json", "--out", "out.mp4", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["outside_max_abs"] == 0
    asked, valid = own.at(np.arange(120) / 25)
    media = probe(tmp_path / "out.mp4")
    for face, delay in (("left", 0), ("right", 13)):
        shown = aperture(measure_mouth(face_track(media, which=face)))[delay : 100 + delay]
        want = aperture(asked)[: len(shown)]
        assert np.corrcoef(shown[valid[: len(shown)]], want[valid[: len(shown)]])[0, 1] > 0.8
    heard, alone = _sound(tmp_path / "out.mp4"), _sound(talk.path)
    shift = 8000
    mix = alone[shift:70000] + alone[: 70000 - shift]
    assert np.corrcoef(heard[shift:70000], mix)[0, 1] > 0.9


def test_two_sounds_for_one_face_are_refused(lipwright: Any, talk: Any, mouth: Path, tmp_path: Path) -> None:
    ran = lipwright(
        "render", "--target", talk.path, "--speaker-audio", f"left={talk.path}", "--speaker-audio", f"right={talk.path}",
        "--mouth", mouth, "--out", "out.mp4", cwd=tmp_path,
    )  # fmt: skip
    assert ran.code == 3
    assert "shows one face" in ran.err
    assert list(tmp_path.iterdir()) == []
