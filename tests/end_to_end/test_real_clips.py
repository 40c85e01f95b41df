"""Real footage: a telephone's variable rate keeps its timestamps, a painted mouth reads as measured, an exported one too."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from lipwright.data.media import probe, read_frames


def _times(path: Path) -> list[Fraction]:
    return [frame.time for frame in read_frames(probe(path))]


def test_a_variable_rate_is_kept_forth_and_back(lipwright: Any, trained: Any, clips: Path, tmp_path: Path) -> None:
    target, sound = clips / "turned_6s_vfr.mp4", clips / "driving_librivox_7s_16k.wav"
    ran = lipwright(
        "render", "--model", trained.run, "--target", target, "--audio", sound, "--out", "out.mp4", "--json", cwd=tmp_path
    )
    assert ran.code == 0
    assert ran.err.startswith("the model was trained on lesson.mp4, whose mouth opens by ")  # the lesson's mouth is wider
    assert len(ran.err.splitlines()) == 1
    assert ran.json["outside_max_abs"] == 0
    own, shown = _times(target), _times(tmp_path / "out.mp4")
    assert len({b - a for a, b in pairwise(own)}) > 1  # it is variable indeed
    assert probe(target).need_video().start != probe(target).need_audio().start
    assert len(shown) == ran.json["frames"] > len(own)
    assert shown[: len(own)] == own
    back = [b - a for a, b in pairwise(own)][::-1]
    rest = [b - a for a, b in pairwise(shown[len(own) - 1 :])]
    assert rest == back[: len(rest)]
    given, written = probe(sound).need_audio(), probe(tmp_path / "out.mp4").need_audio()
    assert (written.rate_hz, written.channels) == (given.rate_hz, given.channels)
    length = soundfile.info(str(sound)).duration
    assert abs(ran.json["seconds"] - length) < 0.01
    assert 0 <= length - float(shown[-1]) <= 2 * float(max(back))


def test_a_measured_mouth_painted_on_other_frames_reads_as_it_was(
    lipwright: Any, trained: Any, clips: Path, tmp_path: Path
) -> None:
    """Mouths from the first 75 % of 16 s are painted on the rest, three seconds off, and tracked again."""
    with av.open(str(clips / "anchor_71s.mp4")) as given, av.open(str(tmp_path / "excerpt.mp4"), "w") as made:
        kept = {s.index: made.add_stream_from_template(s) for s in given.streams if s.type in ("video", "audio")}
        for packet in given.demux([given.streams[i] for i in kept]):
            if packet.dts is not None and packet.pts * packet.time_base < 16:
                packet.stream = kept[packet.stream.index]
                made.mux(packet)
    ran = lipwright("evaluate", "--model", trained.run, "excerpt.mp4", "--render", "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    painted = ran.json["clips"][0]["render"]
    assert painted["aperture_r"] >= 0.75
    assert painted["width_r"] >= 0.5
    assert painted["outside_max_abs"] == 0
    assert 0 < painted["mask_share"] < 1
    assert painted["untouched"]["aperture_r"] < 0.5 * painted["aperture_r"]
    assert painted["mouth_psnr"] > painted["untouched"]["mouth_psnr"]
    assert np.isfinite(painted["sharpness_ratio"])


def test_a_real_mouth_is_exported_for_rigs(lipwright: Any, clips: Path, tmp_path: Path) -> None:
    """Cues end with the picture, open mouths are not shown closed, and the jaw that MediaPipe reads follows the lips."""
    video = clips / "turned_6s_vfr.mp4"
    for form in ("json", "rhubarb-json", "arkit-csv", "moho"):
        ran = lipwright("export", "--from-video", video, "--format", form, "--out", form, "--json", cwd=tmp_path)
        assert (ran.code, ran.err) == (0, "")
    curves, cues = (json.loads((tmp_path / form).read_text()) for form in ("json", "rhubarb-json"))
    length_s = float(_times(video)[-1])
    assert curves["duration_s"] == cues["metadata"]["duration"] == cues["mouthCues"][-1]["end"]
    assert 0 <= length_s - curves["duration_s"] < 0.01
    with (tmp_path / "arkit-csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["BlendShapeCount"] == "61"]
    assert 0.8 * 60 * length_s < len(rows) <= 60 * length_s + 1
    valid = [row for row in curves["rows"] if row[1]]
    time_s, openness = np.array([[row[0], row[curves["columns"].index("openness")]] for row in valid]).T
    starts = [cue["start"] for cue in cues["mouthCues"]]
    shown = np.array([cue["value"] for cue in cues["mouthCues"]])[np.searchsorted(starts, time_s, side="right") - 1]
    assert (shown[openness > 0.8] == "A").mean() < 0.1
    assert openness[np.isin(shown, ["C", "D", "E"])].mean() > openness[np.isin(shown, ["A", "X"])].mean() + 0.2
    clock = [[int(part) for part in row["Timecode"].replace(".", ":").split(":")] for row in rows]
    jaw = np.interp(time_s, [60 * m + s + frame / 60 for _, m, s, frame, _ in clock], [float(row["JawOpen"]) for row in rows])
    assert np.corrcoef(jaw, openness)[0, 1] > 0.5
    last, name = (tmp_path / "moho").read_text().splitlines()[-1].split()
    assert (int(last), name) == (1 + int(curves["duration_s"] * probe(video).need_video().average_rate), "rest")
