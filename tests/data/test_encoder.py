"""Spans: each decodes by itself, as the same bytes every time, and is on disk whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from lipwright.data.encoder import INTRA, PIXELS, Codec, Encoding, Layer, Packets, encode
from lipwright.data.media import BT709, Colour, VideoStream, Yuv, to_rgb

CODECS: tuple[Codec, ...] = ("h264", "hevc", "prores", "png")
MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Weights of red and blue in luma (ITU-T H.273)."""

SHADES = ((255, 255, 255), (0, 0, 0), (200, 40, 40), (40, 180, 60), (30, 60, 220), (128, 128, 128))


def encoding_of(codec: Codec, width: int = 64, height: int = 48, **more: Any) -> Encoding:
    return Encoding(width, height, Fraction(1, 12800), Fraction(25), more.pop("colour", BT709), codec, **more)


def moving(picture: Callable[..., Yuv], count: int, size: tuple[int, int] = (64, 48)) -> list[tuple[Yuv, int]]:
    return [(picture(*size, k), 512 * k) for k in range(count)]


def decoded(encoding: Encoding, packets: Packets) -> list[Any]:
    """Decode a span by itself."""
    context: Any = av.CodecContext.create(encoding.codec, "r")
    context.extradata = encoding.open().extradata
    frames, begin = [], 0
    for pts, end, key in zip(packets.pts.tolist(), packets.ends.tolist(), packets.key.tolist(), strict=True):
        packet = av.Packet(packets.data[begin:end].tobytes())
        packet.pts, packet.time_base, packet.is_keyframe = pts, encoding.time_base, key
        frames += context.decode(packet)
        begin = end
    return frames + context.decode(None)


def shade(matrix: int, full: bool, rgb: tuple[int, int, int]) -> np.ndarray:
    """The Y, U and V of a colour, by the definition."""
    red, green, blue = (value / 255 for value in rgb)
    of_red, of_blue = MATRICES[matrix]
    y = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    u, v = (blue - y) / (2 - 2 * of_blue), (red - y) / (2 - 2 * of_red)
    return np.array([255 * y, 128 + 255 * u, 128 + 255 * v] if full else [16 + 219 * y, 128 + 224 * u, 128 + 224 * v])


def shaded(matrix: int, full: bool, width: int = 97, height: int = 33) -> Layer:
    """Stripes of known colours, each 16 wide, under an alpha that rises to the right."""
    planes = [np.zeros((height, width)), *(np.zeros((-(-height // 2), -(-width // 2))) for _ in "uv")]
    for k, colour in enumerate(SHADES):
        for plane, value, step in zip(planes, shade(matrix, full, colour), (16, 8, 8), strict=True):
            plane[:, step * k : step * k + step + 1] = value
    y, u, v = (np.clip(np.round(plane), 0, 255).astype(np.uint8) for plane in planes)
    return Layer(Yuv(y, u, v), np.tile((np.arange(width) * 255 // (width - 1)).astype(np.uint8), (height, 1)))


# Spans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_a_span_decodes_by_itself_with_the_given_timestamps(picture, clock, codec: Codec, count: int) -> None:
    encoding = Encoding(64, 48, clock.time_base, clock.rate, BT709, codec)
    first = 10**7  # deep in a video
    ticks = [first + round(t / clock.time_base) for t in clock.times[:count]]
    packets = encode(encoding, ((picture(64, 48, k), t) for k, t in enumerate(ticks)))
    assert packets.key[0]
    assert packets.pts[0] == ticks[0]
    frames = decoded(encoding, packets)
    assert [f.pts for f in frames] == ticks
    for k, frame in enumerate(frames):
        given = to_rgb(picture(64, 48, k).to_picture(BT709)).astype(int)
        assert np.median(np.abs(to_rgb(frame) - given)) <= 2  # edges of colours move, 4:2:0


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_pictures_make_the_same_bytes(picture, codec: Codec) -> None:
    rng = np.random.default_rng(0)
    pictures = moving(picture, 30, (320, 180))
    for shown, _ in pictures:
        shown.y[:] = np.clip(shown.y + rng.normal(0, 6, shown.y.shape), 0, 255)
    first, *others = (encode(encoding_of(codec, 320, 180), pictures) for _ in range(3))
    for other in others:
        for name, values in vars(first).items():
            np.testing.assert_array_equal(getattr(other, name), values)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_span_has_the_header_of_the_others(picture, codec: Codec) -> None:
    """It stands in the file once."""
    encoding = encoding_of(codec)
    header = encoding.open().extradata
    context = encoding.open()
    for shown, pts in moving(picture, 20):
        context.encode(encoding.frame(shown, pts))
    context.encode(None)
    assert header
    assert context.extradata == header == encoding.open().extradata


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_crf_trades_size_for_quality(picture, codec: Codec) -> None:
    fine, usual, coarse = (
        encode(encoding_of(codec, 128, 96, crf=crf), moving(picture, 30, (128, 96))) for crf in (8, None, 40)
    )
    assert len(fine.data) > 1.2 * len(usual.data) > 1.4 * len(coarse.data)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (63, 48)])
def test_odd_sizes(picture, codec: Codec, width: int, height: int) -> None:
    given = picture(width, height)
    frame = decoded(encoding_of(codec, width, height), encode(encoding_of(codec, width, height), [(given, 0)]))[0]
    if codec in INTRA:
        assert (frame.width, frame.height) == (width, height)
    else:
        assert (frame.width, frame.height) == (width + width % 2, height + height % 2)
        luma = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size).astype(int)
        assert np.abs(luma[:height, width - 1] - luma[:height, frame.width - 1]).max() < 12
        assert np.abs(luma[height - 1, :width] - luma[frame.height - 1, :width]).max() < 12


@pytest.mark.parametrize("codec", CODECS)
def test_other_sizes_are_refused(picture, codec: Codec) -> None:
    with pytest.raises(ValueError, match=r"Expected pictures of 64x48, got 48x64\."):
        encode(encoding_of(codec), [(picture(48, 64), 0)])


@pytest.mark.parametrize("codec", CODECS)
def test_a_span_without_pictures_is_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        encode(encoding_of(codec), [])


def test_hevc_writes_nothing_to_the_terminal(picture, capfd: pytest.CaptureFixture[str]) -> None:
    encode(encoding_of("hevc"), moving(picture, 5))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("given", "written"), [("hevc", "hevc"), ("h264", "h264"), ("vp9", "h264"), ("mpeg4", "h264")])
def test_an_encoding_like_a_video(given: str, written: str) -> None:
    video = VideoStream(640, 360, 1, Fraction(30), Fraction(1, 600), Fraction(0), given, 5.0, Colour(6, 6, 6, 2))
    assert Encoding.like(video) == Encoding(640, 360, Fraction(1, 600), Fraction(30), Colour(6, 6, 6, 2), written)
    assert Encoding.like(video, codec="prores").codec == "prores"
    assert (Encoding.like(video, crf=30, preset="slow").crf, Encoding.like(video, preset="slow").preset) == (30, "slow")


# Alpha ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True])
def test_png_is_rgb_by_the_matrix_and_range_of_the_video(matrix: int, full: bool) -> None:
    layer = shaded(matrix, full)
    encoding = encoding_of("png", 97, 33, colour=Colour(1, 1, matrix, 2 if full else 1))
    packets = encode(encoding, [(layer, 0)])
    (frame,) = decoded(encoding, packets)
    rgba = frame.to_ndarray()
    assert frame.format.name == "rgba"
    np.testing.assert_allclose(rgba[16, 8:96:16, :3], SHADES, atol=1)
    np.testing.assert_array_equal(rgba[..., 3], layer.alpha)
    assert not any(chunk in packets.data.tobytes() for chunk in (b"gAMA", b"cHRM", b"sRGB", b"cICP"))


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True])
def test_prores_is_limited_range_and_keeps_matrix_and_alpha(matrix: int, full: bool) -> None:
    layer = shaded(matrix, full)
    encoding = encoding_of("prores", 97, 33, colour=Colour(1, 1, matrix, 2 if full else 1))
    (frame,) = decoded(encoding, encode(encoding, [(layer, 0)]))
    assert (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range) == (1, 1, matrix, 1)
    most = {"yuva444p10le": 1023, "yuva444p12le": 4095}[frame.format.name]
    y, u, v, alpha = (np.frombuffer(p, "<u2").reshape(-1, p.line_size // 2)[:33, :97] / most for p in frame.planes)
    expected = np.array([shade(matrix, False, colour) for colour in SHADES]) / 256
    np.testing.assert_allclose(np.stack([y, u, v], 2)[16, 8:96:16], expected, atol=2 / 255)
    np.testing.assert_allclose(255 * alpha, layer.alpha, atol=0.13)  # half a step of 10 bits


@pytest.mark.parametrize("codec", INTRA)
def test_a_picture_without_alpha_is_opaque(picture, codec: Codec) -> None:
    (frame,) = decoded(encoding_of(codec), encode(encoding_of(codec), [(picture(64, 48), 0)]))
    assert frame.reformat(format="rgba").to_ndarray()[..., 3].min() == 255
    original = to_rgb(picture(64, 48).to_picture(BT709)).astype(int)
    assert np.median(np.abs(to_rgb(frame) - original)) <= 2


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_alpha_is_refused_where_there_is_none(codec: Codec) -> None:
    with pytest.raises(ValueError, match=f"without alpha for {codec}"):
        encode(encoding_of(codec, 97, 33), [(shaded(1, False), 0)])


# Settings -------------------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_settings() -> None:
    video = encoding_of("h264")
    others = [
        replace(video, **change)
        for change in ({"width": 66}, {"height": 50}, {"time_base": Fraction(1, 90000)}, {"rate": Fraction(30)}, {"crf": 20},
                       {"colour": Colour()}, {"codec": "hevc"}, {"preset": "medium"})
    ]  # fmt: skip
    assert len({e.fingerprint() for e in [video, *others]}) == 1 + len(others)
    assert encoding_of("h264").fingerprint() == video.fingerprint()


def test_spans_of_big_frames_are_short() -> None:
    assert {codec: encoding_of(codec).span_frames for codec in PIXELS} == {"h264": 250, "hevc": 250, "prores": 10, "png": 10}
