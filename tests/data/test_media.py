"""Video in: frames have the file's own timestamps, upright pictures and untouched samples, and bad files say their name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from lipwright.data.encoder import Encoding
from lipwright.data.errors import MediaError
from lipwright.data.media import BT709, Colour, Yuv, file_sha256, probe, rate_of, read_frames, to_rgb
from lipwright.data.writer import VideoWriter

Make = Callable[..., Path]

BT601 = Colour(primaries=6, transfer=6, matrix=6, range=1)
RANGES_AND_MATRICES = {
    "bt709-limited": BT709,
    "bt709-full": Colour(1, 1, 1, 2),
    "bt601-limited": BT601,
    "bt601-full": Colour(6, 6, 6, 2),
    "pal-limited": Colour(5, 6, 5, 1),
    "bt2020-pq": Colour(9, 16, 9, 1),
    "untagged": Colour(),
}


def copy_video(source: Path, out: Path, colour: Colour | None = None) -> None:
    """Decode → write, as a renderer does that changes nothing."""
    media = probe(source)
    video = media.need_video()
    encoding = Encoding.like(video, codec="h264")
    with VideoWriter(out, replace(encoding, colour=colour or video.colour)) as writer:
        for frame in read_frames(media, threads=1):
            writer.write(frame.yuv(), frame.time)


def means(path: Path) -> np.ndarray:
    """Mean of each plane over the whole video."""
    frames = [f.yuv() for f in read_frames(probe(path), threads=1)]
    return np.array([[p.mean() for p in (f.y, f.u, f.v)] for f in frames]).mean(0)


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_timestamps_are_the_given_ones(bars: Make, clock, suffix: str) -> None:
    path = bars(clock, name=f"bars{suffix}")
    media = probe(path)
    times = [frame.time for frame in read_frames(media, threads=1)]
    if suffix == ".mkv":  # Matroska counts milliseconds
        np.testing.assert_allclose(np.array(times, float), np.array(clock.times, float), atol=0.00051)
    else:
        assert times == list(clock.times)
    assert all(isinstance(time, Fraction) for time in times)
    assert media.zero == media.need_video().start


def test_frames_are_counted_and_carry_their_ticks(bars: Make, clock) -> None:
    media = probe(bars(clock))
    video = media.need_video()
    frames = list(read_frames(media, threads=1))
    assert [f.index for f in frames] == list(range(len(clock.times)))
    assert [f.pts * video.time_base - media.zero for f in frames] == list(clock.times)
    if clock.constant:
        assert video.frames == len(frames)
        assert video.average_rate == clock.rate
        assert rate_of(np.array([float(f.time) for f in frames])) == clock.rate
    else:
        assert rate_of(np.array([float(f.time) for f in frames])) is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("video_s", "audio_s"), [("0.08", "0"), ("0", "0.32"), ("0", "0"), ("0.4", "0.4")])
def test_streams_keep_their_offset(encode: Make, picture, tone, suffix: str, video_s: str, audio_s: str) -> None:
    path = encode(
        f"late{suffix}",
        video=[(Fraction(video_s) + Fraction(k, 25), picture(64, 48, k)) for k in range(10)],
        audio=[(Fraction(audio_s), tone(0.5, 48000))],
    )
    media = probe(path)
    video, audio = media.need_video(), media.need_audio()
    asked, given = float(Fraction(video_s) - Fraction(audio_s)), float(video.start - audio.start)
    # An MP4 whose sound starts late has no room to hide AAC's priming: one AAC frame of silence stands before it.
    priming_s = 1024 / 48000 if suffix == ".mp4" and audio_s != "0" else 0.0
    assert given == pytest.approx(asked + priming_s, abs=0.0011)
    assert media.zero == min(video.start, audio.start)
    assert next(read_frames(media, threads=1)).time == max(video.start - audio.start, 0)


def test_late_video_start_is_kept_exactly_by_the_writer(bars: Make, wav, tone, clock) -> None:
    sound = probe(wav(tone(1.0, 48000), 48000))
    start = round(Fraction("0.08") / clock.time_base) * clock.time_base
    media = probe(bars(clock, start=start, audio=sound))
    assert [f.time for f in read_frames(media, threads=1)] == [start + time for time in clock.times]


def test_transport_streams_that_start_anywhere_start_at_zero(encode: Make, picture, tone) -> None:
    path = encode(
        "late.ts",
        video=[(3 + Fraction(k, 25), picture(64, 48, k)) for k in range(10)],
        audio=[(Fraction(3), tone(0.5, 48000))],
        time_base=Fraction(1, 90000),
    )
    media = probe(path)
    assert media.zero > 2.9
    times = [f.time for f in read_frames(media, threads=1)]
    assert np.diff(np.array(times, float)) == pytest.approx(1 / 25, abs=1e-4)
    assert min(media.need_video().start, media.need_audio().start) == media.zero


def test_frames_from_a_pts_are_the_rest_of_all_frames(bars: Make) -> None:
    media = probe(bars("25", frames=30))
    every = list(read_frames(media, threads=1))
    for begin in (0, 1, 13, 29):
        rest = list(read_frames(media, threads=1, from_pts=every[begin].pts))
        assert [f.pts for f in rest] == [f.pts for f in every[begin:]]
        np.testing.assert_array_equal(rest[0].yuv().y, every[begin].yuv().y)


# Rates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60", "12"])
@pytest.mark.parametrize("rounding_s", [0.0, 0.001])
def test_rate_of_knows_the_usual_rates(rate: str, rounding_s: float) -> None:
    times = np.arange(500) / float(Fraction(rate))
    if rounding_s:
        times = np.round(times / rounding_s) * rounding_s
    assert rate_of(times) == Fraction(rate)
    assert rate_of(times + 0.08) == Fraction(rate)


def test_rate_of_passes_over_a_few_dropped_frames_but_not_over_many() -> None:
    times = np.arange(500) / 25
    rng = np.random.default_rng(0)
    inner = np.arange(1, 499)
    assert rate_of(np.delete(times, rng.choice(inner, 3, replace=False))) == 25
    assert rate_of(np.delete(times, rng.choice(inner, 60, replace=False))) is None


def test_rate_of_odd_and_undefined_rates() -> None:
    assert float(rate_of(np.arange(2000) * 125 / 2997)) == pytest.approx(2997 / 125, rel=1e-4)
    assert rate_of(np.array([0.0])) is None
    assert rate_of(np.array([])) is None
    assert rate_of(np.cumsum(np.random.default_rng(1).uniform(0.01, 0.07, 100))) is None


# Samples and colour ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANGES_AND_MATRICES)
def test_decode_write_decode_keeps_levels_and_tags(bars: Make, tmp_path: Path, name: str) -> None:
    colour = RANGES_AND_MATRICES[name]
    source = bars("25", colour=colour, size=(96, 64))
    assert probe(source).need_video().colour == colour
    copy_video(source, tmp_path / "copy.mp4")
    assert probe(tmp_path / "copy.mp4").need_video().colour == colour
    assert np.abs(means(tmp_path / "copy.mp4") - means(source)).max() <= 1.0


def rgb_means(path: Path) -> np.ndarray:
    """Mean of R, G and B over the video."""
    return np.mean([f.rgb().mean((0, 1)) for f in read_frames(probe(path), threads=1)], 0)


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "colour"),
    [
        ("yuv420p10le", "libx265", BT709),
        ("yuv420p10le", "libx264", Colour(1, 1, 1, 2)),
        ("yuv422p", "libx264", BT601),
        ("yuv444p", "libx264", BT709),
        ("yuv444p", "libx264", Colour(1, 1, 1, 2)),
        ("yuvj422p", "mjpeg", Colour(6, 6, 6, 2)),
    ],
)
def test_other_samplings_keep_their_look(
    encode: Make, picture, tmp_path: Path, pix_fmt: str, codec: str, colour: Colour
) -> None:
    shown = []
    for k in range(6):
        frame = picture(96, 64, k).to_picture(colour)
        wide = frame.reformat(format=pix_fmt, src_color_range=colour.range, dst_color_range=colour.range)
        wide.color_primaries, wide.color_trc = colour.primaries, colour.transfer
        wide.colorspace, wide.color_range = colour.matrix, colour.range
        shown.append((Fraction(k, 25), wide))
    source = encode("wide.mkv", video=shown, pix_fmt=pix_fmt, codec=codec, colour=colour)
    copy_video(source, tmp_path / "copy.mp4")
    assert np.abs(rgb_means(tmp_path / "copy.mp4") - rgb_means(source)).max() <= 1.5
    planes = means(source)
    given = np.mean([[p.mean() for p in (f.y, f.u, f.v)] for f in (picture(96, 64, k) for k in range(6))], 0)
    assert np.abs(planes - given).max() <= 1.0


def test_samples_pass_through_untouched(encode: Make, picture) -> None:
    given = [picture(96, 64, k) for k in range(4)]
    path = encode("lossless.mp4", video=[(Fraction(k, 25), p) for k, p in enumerate(given)], options={"crf": "0"})
    for frame, want in zip(read_frames(probe(path), threads=1), given, strict=True):
        got = frame.yuv()
        np.testing.assert_array_equal(got.y, want.y)
        np.testing.assert_array_equal(got.u, want.u)
        np.testing.assert_array_equal(got.v, want.v)


@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (2, 0.299, 0.114)])
@pytest.mark.parametrize("full", [False, True])
def test_rgb_goes_by_the_matrix_and_range_that_the_video_states(matrix: int, kr: float, kb: float, full: bool) -> None:
    y, u, v = 110, 100, 150
    flat = Yuv(np.full((32, 32), y, np.uint8), np.full((16, 16), u, np.uint8), np.full((16, 16), v, np.uint8))
    rgb = to_rgb(flat.to_picture(Colour(2, 2, matrix, 2 if full else 1)))
    luma, span = (float(y), 255.0) if full else ((y - 16) * 255 / 219, 224.0)
    cb, cr = (u - 128) * 255 / span, (v - 128) * 255 / span
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    np.testing.assert_allclose(rgb[16, 16], [red, green, blue], atol=2.5)


@pytest.mark.parametrize("bgr", [(0, 0, 0), (255, 255, 255), (40, 90, 200), (180, 60, 60), (30, 200, 120)])
def test_bgr_to_planes_and_back(bgr: tuple[int, int, int]) -> None:
    planes = Yuv.from_bgr(np.full((48, 64, 3), bgr, np.uint8))
    assert planes.y.shape == (48, 64)
    assert planes.u.shape == planes.v.shape == (24, 32)
    blue, green, red = bgr
    luma = 16 + (0.2126 * red + 0.7152 * green + 0.0722 * blue) * 219 / 255
    assert np.abs(planes.y.astype(float) - luma).max() <= 1.5
    assert np.abs(to_rgb(planes.to_picture(BT709)).astype(int) - bgr[::-1]).max() <= 4  # swscale rounds down


@pytest.mark.parametrize("size", [(853, 480), (450, 450), (64, 48), (63, 47), (1, 1)])
def test_any_size_gives_whole_contiguous_pictures(encode: Make, size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(5)
    picture = av.VideoFrame.from_ndarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), format="rgb24")
    shown = [(Fraction(k, 25), picture.reformat(format="yuv420p")) for k in range(2)]
    path = encode("odd.mkv", video=shown, codec="ffv1")  # unlike H.264, it has odd sizes
    media = probe(path)
    assert (media.need_video().width, media.need_video().height) == size
    for frame in read_frames(media, threads=1):
        rgb, planes = frame.rgb(), frame.yuv()
        assert rgb.shape == (height, width, 3)
        assert rgb.flags.c_contiguous
        assert planes.y.shape == (height, width)
        assert planes.u.shape == planes.v.shape == (-(-height // 2), -(-width // 2))
        assert all(p.flags.c_contiguous for p in (planes.y, planes.u, planes.v))


@pytest.mark.parametrize("size", [(853, 480), (450, 450), (63, 47)])
def test_an_odd_edge_is_repeated_once(bars: Make, picture, size: tuple[int, int]) -> None:
    width, height = size
    media = probe(bars("25", size=size, frames=3, crf=1))
    assert (media.need_video().width, media.need_video().height) == (width + width % 2, height + height % 2)
    for k, frame in enumerate(read_frames(media, threads=1)):
        y = frame.yuv().y.astype(int)
        assert np.abs(y[:height, :width] - picture(width, height, k).y).max() <= 6
        assert np.abs(y[:, -1] - y[:, width - 1]).max() <= 6
        assert np.abs(y[-1] - y[height - 1]).max() <= 6


def test_a_copy_is_ones_own(picture) -> None:
    frame = picture(64, 48)
    before = frame.y.copy()
    own = frame.copy()
    own.y[:] = 0
    np.testing.assert_array_equal(frame.y, before)


# Rotation -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("size", [(96, 64), (450, 854)])
def test_rotation_metadata_is_applied(encode: Make, picture, degrees: int, size: tuple[int, int]) -> None:
    stored = picture(*size, 2)
    path = encode("turned.mp4", video=[(Fraction(k, 25), stored) for k in range(3)], turn_degrees=degrees, options={"crf": "0"})
    media = probe(path)
    video = media.need_video()
    want = np.rot90(stored.y, degrees // 90)  # metadata and NumPy both turn counter-clockwise
    assert (video.width, video.height) == (want.shape[1], want.shape[0])
    for frame in read_frames(media, threads=1):
        planes = frame.yuv()
        np.testing.assert_array_equal(planes.y, want)
        np.testing.assert_array_equal(planes.u, np.rot90(stored.u, degrees // 90))
        assert frame.rgb().shape == (*want.shape, 3)
        luma = 16 + frame.rgb() @ [0.2126, 0.7152, 0.0722] * 219 / 255
        assert np.median(np.abs(luma - want)) < 2


# Codecs and containers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "decodes_as"),
    [
        ("a.mp4", "libx264", "h264"),
        ("a.mp4", "libx265", "hevc"),
        ("a.mp4", "mpeg4", "mpeg4"),
        ("a.avi", "mpeg4", "mpeg4"),
        ("a.webm", "libvpx-vp9", "vp9"),
        ("a.ts", "libx264", "h264"),
    ],
)
def test_codecs_decode_to_what_went_in(encode: Make, picture, name: str, codec: str, decodes_as: str) -> None:
    shown = [(Fraction(k, 25), picture(128, 96, k)) for k in range(10)]
    media = probe(encode(name, video=shown, codec=codec, time_base=Fraction(1, 25), options={"b": "2000000"}))
    assert media.need_video().codec == decodes_as
    frames = list(read_frames(media, threads=1))
    assert len(frames) == 10
    for (time, want), frame in zip(shown, frames, strict=True):
        assert float(frame.time) == pytest.approx(float(time), abs=0.00051)
        assert np.abs(frame.yuv().y.astype(int) - want.y).mean() < 6


def test_avi_with_b_frames_loses_no_frame(encode: Make, picture) -> None:
    shown = [(Fraction(k, 25), picture(128, 96, k)) for k in range(12)]
    path = encode("b.avi", video=shown, codec="mpeg4", options={"bf": "2"}, time_base=Fraction(1, 25))
    times = [float(f.time) for f in read_frames(probe(path), threads=1)]
    assert len(times) >= 11
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=1e-3)


def test_cover_art_is_not_a_video(encode: Make, tone, tmp_path: Path) -> None:
    import cv2

    sound = encode("song.m4a", audio=[(Fraction(0), tone(0.5, 48000))])
    _, png = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "cover.png").write_bytes(png.tobytes())
    with (
        av.open(str(sound)) as source,
        av.open(str(tmp_path / "cover.png")) as cover,
        av.open(str(tmp_path / "album.m4a"), "w", format="mp4") as out,
    ):
        given = (cover.streams.video[0], source.streams.audio[0])
        written = [out.add_stream_from_template(stream) for stream in given]
        written[0].disposition = av.stream.Disposition.attached_pic
        for origin, stream in zip(given, written, strict=True):
            for packet in origin.container.demux(origin):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    media = probe(tmp_path / "album.m4a")
    assert media.video is None
    assert media.audio is not None
    with pytest.raises(MediaError, match=r"album\.m4a has no video stream"):
        media.need_video()


# Bad input ------------------------------------------------------------------------------------------------------------


def cut(path: Path, share: float) -> Path:
    """Keep only the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_a_truncated_file_with_its_index_at_the_end_is_refused(encode: Make, picture) -> None:
    path = encode("last.mp4", video=[(Fraction(k, 25), picture(64, 48, k)) for k in range(50)])
    with pytest.raises(MediaError, match=r"last\.mp4"):
        probe(cut(path, 0.6))


def test_a_truncated_file_with_its_index_in_front_gives_its_first_frames(bars: Make, tmp_path: Path) -> None:
    whole = bars("25", frames=60, size=(128, 96), name="whole.mp4")  # the writer puts the index in front
    shutil.copy(whole, tmp_path / "first.mp4")
    part = list(read_frames(probe(cut(tmp_path / "first.mp4", 0.7)), threads=1))
    every = list(read_frames(probe(whole), threads=1))
    assert 10 < len(part) < len(every)
    # the picture that the cut goes through may still be shown, damaged
    for a, b in zip(part[:-4], every, strict=False):
        assert a.time == b.time
        np.testing.assert_array_equal(a.yuv().y, b.yuv().y)


def test_a_truncated_file_of_which_nothing_is_left_is_refused(bars: Make) -> None:
    path = bars("25", frames=60, size=(128, 96), name="index_only.mp4")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(MediaError, match=r"index_only\.mp4"):
        probe(path)


@pytest.mark.parametrize("content", [b"This is a text file.\n" * 50, b"\x00" * 4096, b"x", b"1,2,3\n4,5,6\n"])
def test_what_is_no_media_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"text\.mp4") as caught:
        probe(path)
    assert len(str(caught.value).splitlines()) == 1


def test_an_empty_file_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    for name, what in (("empty.mp4", "is empty"), ("folder.mp4", "is a folder"), ("missing.mp4", "does not exist")):
        with pytest.raises(MediaError, match=what) as caught:
            probe(tmp_path / name)
        assert name in str(caught.value)


def test_an_image_text_and_sound_without_video_say_so(wav, tone) -> None:
    media = probe(wav(tone(0.5)))
    with pytest.raises(MediaError, match=r"sound\.wav has no video stream"):
        media.need_video()


def test_video_without_sound_says_so(bars: Make) -> None:
    media = probe(bars())
    with pytest.raises(MediaError, match=r"bars\.mp4 has no audio stream"):
        media.need_audio()


def test_a_stream_of_which_nothing_can_be_decoded_is_not_taken_for_none(bars: Make, wav, tone, tmp_path: Path) -> None:
    whole = bars(audio=probe(wav(tone(0.5))))
    for broken, says in (("video", "no frame of .*; copy it again"), ("audio", "no sound of .*; copy it again")):
        path = tmp_path / f"{broken}.mp4"
        with av.open(str(whole)) as given, av.open(str(path), "w") as made:
            kept = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    noise = av.Packet(np.random.default_rng(0).bytes(packet.size))
                    noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                    muxed = noise if packet.stream.type == broken else packet
                    muxed.stream = kept[packet.stream.index]
                    made.mux(muxed)
        media = probe(path)
        need, other = (media.need_video, media.need_audio) if broken == "video" else (media.need_audio, media.need_video)
        assert other() is not None
        with pytest.raises(MediaError, match=says) as caught:
            need()
        assert str(path) in str(caught.value)


def test_a_title_in_another_encoding_is_no_hindrance(bars: Make, tmp_path: Path) -> None:
    content = bars(tags={"title": "Gr__e"}).read_bytes()
    assert content.count(b"Gr__e") == 1
    path = tmp_path / "old.mp4"
    path.write_bytes(content.replace(b"Gr__e", "Größe".encode("latin-1")))
    assert len(list(read_frames(probe(path), threads=1))) == 12


@pytest.mark.parametrize("name", ["10:30.mp4", "a b%03d.mp4", "Größe.mp4", "-x.mp4", "https.mp4", "concat:a.mp4"])
def test_any_name_is_a_files_name(bars: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(bars(name="plain.mp4").read_bytes())
    assert len(list(read_frames(probe(Path(name)), threads=1))) == 12
    copy_video(Path("plain.mp4"), Path(f"copy {name}"))
    copy_video(Path("plain.mp4"), Path(name))
    assert len(list(read_frames(probe(name), threads=1))) == 12


def test_a_size_that_changes_midway_stays_what_it_was_at_first(encode: Make, picture, tmp_path: Path) -> None:
    parts = []
    for k, size in enumerate([(64, 48), (128, 96), (64, 48)]):
        video = [(Fraction(10 * k + i, 25), picture(*size, i)) for i in range(10)]
        parts.append(encode(f"{k}.ts", video=video, time_base=Fraction(1, 90000), options={"bf": "0"}))
    path = tmp_path / "calls.ts"  # as recorders of video calls make them
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = list(read_frames(probe(path), threads=1))
    assert len(frames) == 30
    assert {(f.yuv().y.shape, f.yuv().u.shape, f.rgb().shape) for f in frames} == {((48, 64), (24, 32), (48, 64, 3))}
    assert np.abs(frames[15].yuv().y.astype(int)[:, 12:] - picture(64, 48, 31).y[:, 12:]).mean() < 15  # the same bars
    copy_video(path, tmp_path / "copy.mp4")
    assert probe(tmp_path / "copy.mp4").need_video().width == 64


def test_garbage_in_the_middle_costs_some_frames_and_no_more(bars: Make) -> None:
    path = bars("25", frames=60, size=(128, 96), name="hurt.mp4")
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(bytes(content))
    times = [f.time for f in read_frames(probe(path), threads=1)]
    assert len(times) >= 30
    assert all(b > a for a, b in pairwise(times))


def test_sha256_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Real clips -----------------------------------------------------------------------------------------------------------


def test_real_clips_hold_what_they_are_known_to_hold(clips: Path) -> None:
    address, body, silent = (
        probe(clips / n) for n in ("address_fr_50s.mp4", "fullbody_portrait_20s.mp4", "silent_target_53s.mp4")
    )
    assert (address.need_video().start, address.need_audio().start, address.zero) == (Fraction("0.08"), 0, 0)
    assert next(read_frames(address, threads=1)).time == Fraction("0.08")
    assert body.need_video().codec == "hevc"
    assert (body.need_video().width, body.need_video().height) == (1080, 1920)
    assert silent.audio is None


def test_real_variable_rate_is_variable(clips: Path) -> None:
    times = [f.time for f in read_frames(probe(clips / "turned_6s_vfr.mp4"))]
    assert len(times) == 135
    assert rate_of(np.array([float(t) for t in times])) is None
