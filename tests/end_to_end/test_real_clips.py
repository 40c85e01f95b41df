"""Real footage: a telephone's variable rate keeps its timestamps, and a painted mouth reads as it was measured."""

from __future__ import annotations

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
