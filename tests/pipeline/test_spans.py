"""Spans are painted each by itself: what is kept is not done again, and what was killed ends as if it had not been."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.data import cache
from lipwright.data.edits import Edit
from lipwright.data.encoder import Encoding, encode
from lipwright.data.errors import Cancelled
from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import BT709, Yuv, probe, read_frames
from lipwright.data.mouth import load_track, track_of
from lipwright.pipeline.export import export_mouth
from lipwright.pipeline.render import render_video, spans
from lipwright.pipeline.render.spans import Span
from lipwright.pipeline.settings import RenderSettings

SHORT = 25
"""Frames of a span here: the talk has 146."""


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let spans be short, so that a short video has several."""
    monkeypatch.setattr(Encoding, "span_frames", SHORT)


def _pictures(path: Path) -> list[tuple[Fraction, bytes]]:
    return [(f.time, b"".join(p.tobytes() for p in vars(f.yuv()).values())) for f in read_frames(probe(path))]


def _painted(seen: list[tuple[str, int]]) -> set[int]:
    """Return which frames were told one by one: those of spans that were not kept."""
    done = [count for what, count in seen if what == "render"]
    return {count - 1 for count in done}


def _render(talk: Any, out: Path, mouth: Path, **options: Any) -> list[tuple[str, int]]:
    seen: list[tuple[str, int]] = []

    def tell(what: str, done: int, of: int) -> None:
        seen.append((what, done))

    render_video(talk.path, talk.path, out, mouth=mouth, progress=tell, **options)
    return seen


@dataclass(frozen=True)
class First:
    """A render from nothing."""

    mouth: Path
    spans: Path
    told: list[tuple[str, int]]
    pictures: list[tuple[Fraction, bytes]]


@pytest.fixture(scope="module")
def first(talk: Any, talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> First:
    """The talk with its own mouth, as rendered by one who was not disturbed."""
    folder = tmp_path_factory.mktemp("first")
    track_of(talk_track).save(folder / "mouth.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoding, "span_frames", SHORT)
        _keep_in(folder / "spans", patch)
        told = _render(talk, folder / "a.mp4", folder / "mouth.json")
    return First(folder / "mouth.json", folder / "spans", told, _pictures(folder / "a.mp4"))


def _keep_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Keep spans in a folder of their own."""
    folder.mkdir(exist_ok=True)
    patch.setattr(spans, "_file", lambda key: folder / f"{key}.safetensors")


@pytest.fixture
def no_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for this test's spans, which are apart from those of others."""
    _keep_in(tmp_path / "spans", monkeypatch)
    return tmp_path / "spans"


@pytest.fixture
def own_spans(first: First, no_spans: Path) -> Path:
    """A folder for this test's spans, with those of the first render in it."""
    for span in first.spans.iterdir():
        shutil.copy2(span, no_spans)
    return no_spans


def test_a_second_render_paints_nothing_and_is_the_same(tmp_path: Path, talk: Any, first: First, own_spans: Path) -> None:
    count = len(first.pictures)
    assert _painted(first.told) == set(range(count))
    again = _render(talk, tmp_path / "b.mp4", first.mouth)
    assert len(_painted(again)) == -(-count // SHORT) == len(list(own_spans.iterdir()))  # told once a span
    assert _pictures(tmp_path / "b.mp4") == first.pictures


def test_an_edit_paints_only_the_spans_near_it(
    tmp_path: Path, talk: Any, talk_track: FaceTrack, first: First, own_spans: Path
) -> None:
    replace(track_of(talk_track), edits=(Edit(2.1, 2.9, gain=0.0),)).save(tmp_path / "mouth.json")
    seen = _render(talk, tmp_path / "b.mp4", tmp_path / "mouth.json")
    ends = {min(k + SHORT, 10**6) - 1 for k in range(0, 10**4, SHORT)}
    within = {k for k in _painted(seen) if k not in ends and k != max(_painted(seen))}
    near = range(int(2.1 * 25) - spans.MARGIN - SHORT, int(2.9 * 25) + spans.MARGIN + SHORT)
    assert within <= set(near)
    assert within & set(range(53, 72))
    before, after = first.pictures, _pictures(tmp_path / "b.mp4")
    assert [t for t, _ in before] == [t for t, _ in after]
    changed = [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert set(changed) <= set(near)
    assert len(changed) >= 15


def test_a_predicted_mouth_that_is_exported_and_edited_is_painted_near_the_edit_alone(
    tmp_path: Path, talk: Any, no_spans: Path
) -> None:
    first = render_video(talk.path, talk.path, tmp_path / "a.mp4")
    assert first["painted"] == first["frames"]
    export_mouth(tmp_path / "mouth.json", audio=talk.path)
    same = render_video(talk.path, talk.path, tmp_path / "b.mp4", mouth=tmp_path / "mouth.json")
    assert (same["painted"], same["frames"]) == (0, first["frames"])
    track = load_track(tmp_path / "mouth.json")
    replace(track, edits=(Edit(1.0, 1.5, hold=True),)).save(tmp_path / "edited.json")
    edited = render_video(talk.path, talk.path, tmp_path / "c.mp4", mouth=tmp_path / "edited.json")
    assert 0 < edited["painted"] <= 4 * SHORT < first["frames"]


OTHERWISE: dict[str, Any] = {"overlay": True, "label": True, "crf": 30, "preview": True}


@pytest.mark.parametrize("settings", [RenderSettings(**{name: value}) for name, value in OTHERWISE.items()], ids=OTHERWISE)
def test_what_is_shown_otherwise_is_made_anew(
    tmp_path: Path, talk: Any, first: First, own_spans: Path, settings: RenderSettings
) -> None:
    kept = len(list(own_spans.iterdir()))
    _render(talk, tmp_path / "b.mp4", first.mouth, settings=settings)
    assert len(list(own_spans.iterdir())) == 2 * kept


def test_a_broken_span_is_made_anew(tmp_path: Path, talk: Any, first: First, own_spans: Path) -> None:
    in_order = sorted(own_spans.iterdir(), key=lambda span: span.stat().st_mtime_ns)
    for k, file in enumerate(in_order[:3]):  # the last one is short
        file.write_bytes([b"", file.read_bytes()[:-7], b"nonsense" * 40][k])
    seen = _render(talk, tmp_path / "b.mp4", first.mouth)
    assert len(_painted(seen)) > 3 * SHORT - 3
    assert _pictures(tmp_path / "b.mp4") == first.pictures


@pytest.fixture
def span(picture: Callable[..., Yuv]) -> Span:
    """A span of five small pictures."""
    encoding = Encoding(64, 48, Fraction(1, 12800), Fraction(25), BT709)
    return Span(encode(encoding, [(picture(64, 48, k), 512 * k) for k in range(5)]), 3, np.array([0.25, 0.5], np.float32))


def test_a_span_is_read_as_it_was_written(tmp_path: Path, span: Span) -> None:
    span.save(tmp_path / "span")
    again = Span.load(tmp_path / "span")
    assert again is not None
    assert (again.outside_max_abs, again.mask_shares.tolist()) == (3, [0.25, 0.5])
    for name, values in vars(span.packets).items():
        np.testing.assert_array_equal(getattr(again.packets, name), values)
    assert [p.name for p in tmp_path.iterdir()] == ["span"]


def test_a_span_that_is_not_whole_is_none(tmp_path: Path, span: Span) -> None:
    path = tmp_path / "span"
    assert Span.load(path) is None
    span.save(path)
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert Span.load(path) is None
    packets = span.packets
    for broken in ({"ends": packets.ends + 1}, {"key": packets.key[1:]}, {"pts": packets.pts[:0]}):
        replace(span, packets=replace(packets, **broken)).save(path)
        assert Span.load(path) is None


def test_a_full_disk_is_told_with_the_name(tmp_path: Path, span: Span, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_bytes(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space left") as caught:
        span.save(tmp_path / "span")
    assert caught.value.filename == str(tmp_path / "span")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_a_render_that_was_stopped_goes_on_to_the_same_end(
    tmp_path: Path, talk: Any, first: First, no_spans: Path, how: str
) -> None:
    cancel = threading.Event()

    def stop(what: str, done: int, of: int) -> None:
        if what == "render" and done == 60:
            if how == "interrupt":
                raise KeyboardInterrupt
            cancel.set()

    with pytest.raises((Cancelled, KeyboardInterrupt)):
        render_video(talk.path, talk.path, tmp_path / "a.mp4", mouth=first.mouth, progress=stop, cancel=cancel)
    assert [p.name for p in tmp_path.iterdir()] == ["spans"]
    assert len(list(no_spans.iterdir())) == 60 // SHORT
    seen = _render(talk, tmp_path / "a.mp4", first.mouth)
    assert len([k for k in _painted(seen) if k < 49]) == 1  # two spans were kept, the first end told
    assert _pictures(tmp_path / "a.mp4") == first.pictures


def test_a_render_killed_without_warning_goes_on_to_the_same_end(tmp_path: Path, talk: Any, first: First) -> None:
    """SIGKILL: nothing can be cleaned up but what has a name of its own."""
    code = (
        "import os, signal, sys\n"
        "from lipwright.data.encoder import Encoding\n"
        f"Encoding.span_frames = {SHORT}\n"
        "from lipwright.pipeline import render_video\n"
        "def kill(what, done, of):\n"
        "    if what == 'render' and done == 60: os.kill(os.getpid(), signal.SIGKILL)\n"
        "render_video(sys.argv[1], sys.argv[1], sys.argv[2], mouth=sys.argv[3], progress=kill)\n"
    )
    for file in cache.cached_path("spans", "x").parent.iterdir():
        file.unlink()
    words = [sys.executable, "-c", code, talk.path, tmp_path / "a.mp4", first.mouth]
    assert subprocess.run(words, capture_output=True, check=False, env=dict(os.environ)).returncode == -9
    assert not (tmp_path / "a.mp4").exists()
    _render(talk, tmp_path / "a.mp4", first.mouth)
    assert _pictures(tmp_path / "a.mp4") == first.pictures


def test_spans_join_without_a_seam(tmp_path: Path, talk: Any, talk_track: FaceTrack, picture: Callable[..., Any]) -> None:
    """Where one span ends and the next begins, the painted mouth changes no more than elsewhere."""
    track_of(talk_track).save(tmp_path / "mouth.json")
    _render(
        talk, tmp_path / "a.mp4", tmp_path / "mouth.json", settings=RenderSettings(retime=False, crf=1)
    )  # no key frames seen
    mouth = [f.yuv().y[180:300, 100:220].astype(float) for f in read_frames(probe(tmp_path / "a.mp4"))]
    source = [f.yuv().y[180:300, 100:220].astype(float) for f in read_frames(probe(talk.path))]
    steps = np.array([np.abs(a - b).mean() for a, b in zip(mouth[1:], mouth[:-1], strict=True)])
    own = np.array([np.abs(a - b).mean() for a, b in zip(source[1:], source[:-1], strict=True)])
    count = min(len(own), len(steps))
    excess = steps[:count] - own[:count]
    joins = np.arange(SHORT - 1, count, SHORT)
    assert excess[joins].mean() < np.delete(excess, joins).mean() + 2 * excess.std() / np.sqrt(len(joins))
