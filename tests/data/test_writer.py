"""Video out: the given times, the given sound at its own rate beside them, and all of it or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from lipwright.data.audio import SAMPLE_RATE_HZ, read_blocks, read_speech
from lipwright.data.encoder import INTRA, Codec, Encoding, Layer, Packets, encode
from lipwright.data.errors import InputError, MediaError
from lipwright.data.media import BT709, Media, VideoStream, Yuv, probe, read_frames, to_rgb
from lipwright.data.mix import Mix
from lipwright.data.writer import CONTAINERS, VideoWriter, codec_for

Make = Callable[..., Path]
LIKE = VideoStream(64, 48, 0, Fraction(25), Fraction(1, 12800), Fraction(0), "h264", 5.0, BT709)
EVENTS_S = tuple(Fraction(n, 100) for n in (60, 144, 240, 332, 424))
"""Flash and click, together. Multiples of 40 ms: each falls on a frame at 25 frames/s."""


def packets(path: Path) -> list[bytes]:
    """The bytes of a file's sound, packet by packet."""
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def writer_of(out: Path, audio: Media | None = None, size: tuple[int, int] = (64, 48), **more: object) -> VideoWriter:
    return VideoWriter(out, Encoding(*size, Fraction(1, 12800), Fraction(25), BT709), audio=audio, **more)


def write_frames(writer: VideoWriter, picture: Callable[..., Yuv], count: int = 25) -> None:
    for k in range(count):
        writer.write(picture(64, 48, k), Fraction(k, 25))


# Sound ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["a.m4a", "a.mp4", "a.mkv", "a.aac", "a.ts"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_aac_is_copied_byte_for_byte(encode: Make, bars: Make, tone, source: str, suffix: str) -> None:
    path = encode(source, audio=[(Fraction(0), tone(1.5, 44100, channels=2))], audio_rate_hz=44100, layout="stereo")
    out = bars("25", frames=40, audio=probe(path), name=f"out{suffix}")
    # ADTS frames, in .aac and .ts, wear a header that MP4 keeps once for all
    given = [p[7:] if p[:1] == b"\xff" else p for p in packets(path)]
    got = [p[7:] if p[:1] == b"\xff" else p for p in packets(out)]
    assert got == given
    kind = probe(out).need_audio()
    assert (kind.codec, kind.rate_hz, kind.channels) == ("aac", 44100, 2)
    assert len(read_speech(probe(out))) == pytest.approx(len(read_speech(probe(path))), abs=1100)


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(48000, 2), (48000, 6), (44100, 1), (8000, 1), (16000, 1), (96000, 2), (22050, 2)]
)
def test_a_wav_keeps_its_rate_and_channels(wav, tone, bars: Make, rate_hz: int, channels: int) -> None:
    path = wav(tone(1.0, rate_hz, 440.0, channels), rate_hz)
    out = probe(bars("25", frames=25, audio=probe(path)))
    kind = out.need_audio()
    assert (kind.codec, kind.rate_hz, kind.channels) == ("aac", rate_hz, channels)
    samples = read_speech(out)
    assert len(samples) == pytest.approx(SAMPLE_RATE_HZ, abs=1100 * SAMPLE_RATE_HZ / rate_hz)
    spectrum = np.abs(np.fft.rfft(samples[: SAMPLE_RATE_HZ // 2]))
    assert 2 * np.argmax(spectrum) == pytest.approx(440, abs=4)
    full_channels = channels - (channels == 6)  # the bass channel of 5.1 loses what is no bass
    level = 0.3 / np.sqrt(2) * full_channels / channels
    assert np.sqrt(np.mean(samples[4000:12000] ** 2)) == pytest.approx(level, rel=0.1)


@pytest.mark.parametrize("channels", [3, 4, 5, 7, 8])
def test_unusual_numbers_of_channels_are_written_or_refused_in_words(wav, tone, tmp_path: Path, picture, channels: int) -> None:
    path = wav(tone(1.0, 48000, 440.0, channels), 48000, name="many.wav")
    try:
        with writer_of(tmp_path / "out.mp4", probe(path)) as writer:
            write_frames(writer, picture)
    except InputError as error:
        assert "many.wav" in str(error)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["many.wav"]
    else:
        assert probe(tmp_path / "out.mp4").need_audio().channels == channels


@pytest.mark.parametrize(("given_hz", "written_hz"), [(192000, 96000), (37800, 32000), (4000, 7350)])
def test_rates_that_aac_lacks_become_near_ones(wav, tone, bars: Make, given_hz: int, written_hz: int) -> None:
    out = probe(bars("25", frames=25, audio=probe(wav(tone(1.0, given_hz, 440.0), given_hz))))
    assert out.need_audio().rate_hz == written_hz
    samples = read_speech(out)
    assert len(samples) == pytest.approx(SAMPLE_RATE_HZ, abs=2400)
    assert 2 * np.argmax(np.abs(np.fft.rfft(samples[: SAMPLE_RATE_HZ // 2]))) == pytest.approx(440, abs=4)


SOURCES = {
    "mp3": ("sound.mp3", "libmp3lame", 44100, "stereo"),
    "mp3, 8 kHz": ("sound.mp3", "libmp3lame", 8000, "mono"),
    "flac": ("sound.flac", "flac", 44100, "stereo"),
    "flac, 96 kHz": ("sound.flac", "flac", 96000, "mono"),
    "alac": ("sound.m4a", "alac", 44100, "stereo"),
    "opus": ("sound.ogg", "libopus", 48000, "stereo"),
    "opus in mkv": ("sound.mkv", "libopus", 48000, "mono"),
    "vorbis": ("sound.mkv", "vorbis", 44100, "stereo"),
    "ac3": ("sound.ac3", "ac3", 48000, "5.1"),
    "eac3": ("sound.eac3", "eac3", 48000, "stereo"),
    "u8": ("sound.wav", "pcm_u8", 44100, "mono"),
    "s16": ("sound.wav", "pcm_s16le", 22050, "mono"),
    "s24": ("sound.wav", "pcm_s24le", 96000, "stereo"),
    "f32": ("sound.wav", "pcm_f32le", 48000, "stereo"),
    "s16be": ("sound.aiff", "pcm_s16be", 44100, "stereo"),
}
PCM = {"u8", "s16", "s24", "f32", "s16be"}
KEPT = {
    ".mp4": {"mp3", "flac", "flac, 96 kHz"},
    ".m4v": {"mp3", "flac", "flac, 96 kHz"},
    ".mov": PCM | {"mp3", "mp3, 8 kHz", "alac", "ac3", "eac3"},
    ".mkv": set(SOURCES),
}


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("source", SOURCES)
def test_sound_is_kept_where_players_read_it(encode: Make, bars: Make, source: str, suffix: str) -> None:
    name, codec, rate_hz, layout = SOURCES[source]
    channels = {"mono": 1, "stereo": 2}.get(layout, 6)
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (channels, rate_hz)).astype(np.float32)
    strict = {"strict": "experimental"} if codec == "vorbis" else {}
    audio = {"audio_codec": codec, "audio_rate_hz": rate_hz, "layout": layout, "audio_options": strict}
    given = probe(encode(name, audio=[(Fraction(0), noise)], **audio))
    out = probe(bars("25", frames=25, audio=given, name=f"out{suffix}"))
    kind = out.need_audio()
    assert (kind.rate_hz, kind.channels) == (given.need_audio().rate_hz, channels)
    if source not in KEPT[suffix]:
        assert kind.codec == "aac"
        return
    assert kind.codec == given.need_audio().codec
    assert b"".join(packets(out.path)) == b"".join(packets(given.path))
    clock = np.concatenate([b for _, b in read_blocks(given)], 1)
    written = np.concatenate([b for _, b in read_blocks(out)], 1)  # MP3: and what its last packet was filled up with
    early = next(read_frames(out, threads=1)).time * rate_hz
    if suffix == ".mkv" and kind.codec == "mp3float":  # it cannot say that MP3's first samples are not to be heard
        assert 0 < early < 1200
        settled, most = 1152, rate_hz // 1000  # and has times in milliseconds
        shifts = range(round(early) - most, round(early) + most + 1)
        assert any(np.array_equal(written[:, s : s + clock.shape[1]][:, settled:], clock[:, settled:]) for s in shifts)
    else:
        assert early == 0
        np.testing.assert_array_equal(written[:, : clock.shape[1]], clock)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_sound_that_a_file_hides_stays_hidden(encode: Make, bars: Make, tone, suffix: str) -> None:
    """Editors cut the front of a recording by a note in MP4; Matroska has no such notes."""
    rising = tone(3.0, 48000) * np.linspace(0, 1, 3 * 48000, dtype=np.float32)
    given = probe(encode("cut.mp4", audio=[(Fraction(-1), rising)]))
    heard = read_speech(given)
    assert len(heard) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=400)
    out = probe(bars("25", frames=25, audio=given, name=f"out{suffix}"))
    first = next(read_frames(out, threads=1)).time
    assert first < 0.15
    begin = round(first * SAMPLE_RATE_HZ)
    np.testing.assert_allclose(read_speech(out)[begin + 16 : begin + 30000], heard[16:30000], atol=0.01)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_damaged_sound_is_copied_as_far_as_it_goes(encode: Make, bars: Make, tone, suffix: str) -> None:
    path = encode("sound.ts", audio=[(Fraction(0), tone(5.0, 48000))])
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 4, len(content) - 3000, 9000):
        content[at : at + 1500] = np.random.default_rng(at).integers(0, 255, 1500, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    out = probe(bars("25", frames=25, audio=probe(path), name=f"out{suffix}"))
    assert len(read_speech(out)) > 2.5 * SAMPLE_RATE_HZ


@pytest.mark.parametrize("name", ["sound.mkv", "sound.mov"])
def test_gaps_in_pcm_are_silence(encode: Make, bars: Make, name: str) -> None:
    """MOV keeps no times of PCM: without the silence all after it would come early."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 48000)).astype(np.float32)
    blocks = [(Fraction(0), noise), (Fraction(5, 2), noise)]
    given = probe(encode("gap.mkv", audio=blocks, audio_codec="pcm_s16le"))
    out = probe(bars("25", frames=90, audio=given, name=name))
    assert out.need_audio().codec == "pcm_s16le"
    np.testing.assert_array_equal(read_speech(out), read_speech(given))


class Chirps:
    """Sound that is made as it is written; it counts how much was asked for."""

    rate_hz = 44100
    channels = 2

    def __init__(self, duration_s: int) -> None:
        self.duration_s, self.asked_s = duration_s, 0

    def blocks(self) -> Iterator[tuple[Fraction, np.ndarray]]:
        for second in range(self.duration_s):
            self.asked_s = second + 1
            time = np.arange(self.rate_hz) / self.rate_hz
            left = 0.3 * np.sin(2 * np.pi * 440 * (second + 1) * time)
            yield Fraction(second), np.stack([left, 0 * left]).astype(np.float32)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_sound_may_be_made_as_it_is_written(tmp_path: Path, picture, suffix: str) -> None:
    sound = Chirps(20)
    with writer_of(tmp_path / f"out{suffix}", sound) as writer:
        write_frames(writer, picture, 25 * 10)
        assert sound.asked_s < 14  # the encoder looks ahead, no more
    assert sound.asked_s == 20
    out = probe(tmp_path / f"out{suffix}")
    kind = out.need_audio()
    assert (kind.codec, kind.rate_hz, kind.channels) == ("aac", 44100, 2)
    written = np.concatenate([b for _, b in read_blocks(out)], 1)
    assert written.shape[1] == pytest.approx(20 * 44100, abs=1100)
    for second in (0, 7, 19):
        spectrum = np.abs(np.fft.rfft(written[:, 44100 * second + 11025 : 44100 * second + 33075], axis=1))
        assert 2 * np.argmax(spectrum[0]) == pytest.approx(440 * (second + 1), abs=4)
        assert spectrum[1].max() < 0.01 * spectrum[0].max()


def test_sound_longer_than_the_picture_is_written_whole(wav, tone, bars: Make) -> None:
    out = probe(bars("25", frames=5, audio=probe(wav(tone(2.0, 48000), 48000))))
    assert len(read_speech(out)) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=400)
    assert len(list(read_frames(out, threads=1))) == 5


@pytest.mark.parametrize("mixed", [False, True])
def test_a_span_of_the_sound_is_moved_to_zero(wav, bars: Make, tmp_path: Path, picture, mixed: bool) -> None:
    samples = np.zeros(3 * 48000, np.float32)
    for click_s in (1.25, 1.73):
        samples[round(click_s * 48000) : round(click_s * 48000) + 200] = 0.9
    media = probe(wav(samples, 48000))
    audio = Mix([media, media]) if mixed else media
    with writer_of(tmp_path / "span.mp4", audio, audio_span_s=(Fraction("1.23"), Fraction("2.23"))) as writer:
        write_frames(writer, picture)
    assert next(read_frames(probe(tmp_path / "span.mp4"), threads=1)).time == 0
    sound = read_speech(probe(tmp_path / "span.mp4"))
    assert len(sound) == pytest.approx(SAMPLE_RATE_HZ, abs=400)
    for begin_s, click_s in ((0.0, 0.02), (0.3, 0.5)):
        begin = round(begin_s * SAMPLE_RATE_HZ)
        loudest = begin + np.argmax(np.abs(sound[begin : begin + 4000]))
        assert loudest / SAMPLE_RATE_HZ == pytest.approx(click_s, abs=0.006)
        assert np.abs(sound[loudest]) > 0.3


def test_a_span_of_aac_is_cut_as_well(encode: Make, tone, tmp_path: Path, picture) -> None:
    media = probe(encode("long.m4a", audio=[(Fraction(0), tone(3.0, 48000))]))
    with writer_of(tmp_path / "span.mp4", media, audio_span_s=(Fraction(1), Fraction(2))) as writer:
        write_frames(writer, picture)
    assert len(read_speech(probe(tmp_path / "span.mp4"))) == pytest.approx(SAMPLE_RATE_HZ, abs=400)


# Alignment ------------------------------------------------------------------------------------------------------------


def flash_and_click(
    encode: Make, video_start: Fraction, audio_start: Fraction, name: str, codec: str, gap: bool = False
) -> Path:
    """A video that flashes and clicks at `EVENTS_S` after a whole second; `gap`: without sound from 1.8 to 2.2 s."""
    dark, bright = (Yuv(np.full((48, 64), y, np.uint8), *(np.full((24, 32), 128, np.uint8),) * 2) for y in (20, 220))
    video = []
    zero = Fraction(int(min(video_start, audio_start)))  # files need not start at 0
    for k in range(120):
        time = video_start + Fraction(k, 25)
        video.append((time, bright if any(0 <= time - zero - e < Fraction(1, 25) for e in EVENTS_S) else dark))
    rng = np.random.default_rng(0)
    samples = np.zeros((1, 5 * 48000), np.float32)
    for event in EVENTS_S:
        begin = round((zero + event - audio_start) * 48000)
        samples[0, begin : begin + 480] = 0.5 * rng.uniform(-1, 1, 480)
    blocks = [(audio_start, samples)]
    if gap:
        a, b = (round((Fraction(n, 10) - audio_start) * 48000) for n in (18, 22))
        blocks = [(audio_start, samples[:, :a]), (Fraction(22, 10), samples[:, b:])]
    return encode(name, video=video, audio=blocks, audio_codec=codec)


def offsets_s(path: Path) -> np.ndarray:
    """By how much each click comes after its flash."""
    media = probe(path)
    frames = [(float(f.time), f.yuv().y.mean()) for f in read_frames(media, threads=1)]
    bright = [t for (t, level), (_, before) in zip(frames[1:], frames, strict=False) if level > 120 > before]
    energy = read_speech(media) ** 2
    clicks = []
    for flash in bright:
        begin = max(0, round((flash - 0.2) * SAMPLE_RATE_HZ))
        near = np.cumsum(energy[begin : begin + round(0.4 * SAMPLE_RATE_HZ)])
        clicks.append((begin + np.searchsorted(near, near[-1] / 2)) / SAMPLE_RATE_HZ - 0.005)  # the middle of 10 ms
    assert len(bright) == len(EVENTS_S)
    return np.array(clicks) - bright


STARTS = [("0", "0"), ("0.08", "0"), ("0.4", "0"), ("0", "0.32"), ("0", "0.5"), ("2", "2.2"), ("2.08", "2")]


@pytest.mark.parametrize(("name", "codec"), [("s.mp4", "aac"), ("s.mkv", "aac"), ("s.mkv", "flac"), ("s.mp4", "libmp3lame")])
@pytest.mark.parametrize(("video_s", "audio_s"), STARTS)
def test_picture_and_sound_stay_aligned(
    encode: Make, tmp_path: Path, name: str, codec: str, video_s: str, audio_s: str
) -> None:
    source = flash_and_click(encode, Fraction(video_s), Fraction(audio_s), name, codec)
    before = offsets_s(source)
    media = probe(source)
    video = media.need_video()
    for suffix in (".mp4", ".mkv"):
        out = tmp_path / f"out{suffix}"
        with VideoWriter(out, Encoding(64, 48, video.time_base, video.average_rate, video.colour), audio=media) as writer:
            for frame in read_frames(media, threads=1):
                writer.write(frame.yuv(), frame.time)
        np.testing.assert_allclose(offsets_s(out), before, atol=0.002)
    np.testing.assert_allclose(before, 0, atol=0.005)  # MP3 smears a click by as much


def test_a_gap_in_the_sound_does_not_shift_what_comes_after(encode: Make, tmp_path: Path) -> None:
    source = flash_and_click(encode, Fraction(0), Fraction(0), "gap.mkv", "pcm_s16le", gap=True)
    before = offsets_s(source)
    media = probe(source)
    with writer_of(tmp_path / "out.mp4", media) as writer:
        for frame in read_frames(media, threads=1):
            writer.write(frame.yuv(), frame.time)
    np.testing.assert_allclose(offsets_s(tmp_path / "out.mp4"), before, atol=0.003)


# Spans ----------------------------------------------------------------------------------------------------------------

LENGTHS = (1, 2, 3, 11, 1, 6)


def spans_of(encoding: Encoding, clock: Any, picture: Callable[..., Yuv]) -> list[Packets]:
    """Encode the clock's 24 frames in spans of `LENGTHS`."""
    frames = iter([(picture(64, 48, k), round(t / encoding.time_base)) for k, t in enumerate(clock.times)])
    return [encode(encoding, islice(frames, length)) for length in LENGTHS]


def write_spans(path: Path, encoding: Encoding, spans: list[Packets], **more: Any) -> Path:
    with VideoWriter(path, encoding, **more) as writer:
        for span in spans:
            writer.append(span)
    return path


def planes_of(path: Path) -> list[tuple[np.ndarray, ...]]:
    return [(f.yuv().y, f.yuv().u, f.yuv().v) for f in read_frames(probe(path), threads=1)]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_joined_spans_are_one_video(tmp_path: Path, clock, picture, codec: Codec, suffix: str) -> None:
    encoding = Encoding(64, 48, clock.time_base, clock.rate, BT709, codec)
    spans = spans_of(encoding, clock, picture)
    path = write_spans(tmp_path / f"whole{suffix}", encoding, spans)
    media = probe(path)
    near = Fraction(1, 1000) if suffix == ".mkv" else 0  # its timestamps are in milliseconds
    times = [f.time for f in read_frames(media, threads=1)]
    assert len(times) == 24
    assert all(abs(t - wanted) <= near for t, wanted in zip(times, clock.times, strict=True))
    with av.open(str(path)) as container:
        made = [p for p in container.demux(video=0) if p.size]
    if suffix != ".mkv":  # it keeps no DTS
        assert all(p.dts <= p.pts for p in made)
        assert all(a.dts < b.dts for a, b in pairwise(made))
        assert [p.pts * p.time_base for p in made] == [t * encoding.time_base for span in spans for t in span.pts.tolist()]

    # the same pictures as each span's own, and the first of each found by seeking
    joined = planes_of(path)
    alone = [p for k, span in enumerate(spans) for p in planes_of(write_spans(tmp_path / f"{k}.mp4", encoding, [span]))]
    for one, other in zip(joined, alone, strict=True):
        for plane, own in zip(one, other, strict=True):
            np.testing.assert_array_equal(plane, own)
    first = 0
    for length in LENGTHS:
        sought = next(read_frames(media, threads=1, from_pts=round((times[first] + media.zero) / media.need_video().time_base)))
        np.testing.assert_array_equal(sought.yuv().y, joined[first][0])
        with av.open(str(path)) as container:
            container.seek(sought.pts, stream=container.streams.video[0])
            found = next(container.decode(video=0)).pts  # FFmpeg seeks in MP4 by DTS
            assert found == sought.pts or (not clock.constant and found < sought.pts)
        first += length


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_decoders_have_nothing_to_say_about_joins(tmp_path: Path, clock, picture, codec: Codec) -> None:
    encoding = Encoding(64, 48, clock.time_base, clock.rate, BT709, codec)
    path = write_spans(tmp_path / "whole.mp4", encoding, spans_of(encoding, clock, picture))
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture(local=False) as said, av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 24
    finally:
        av.logging.set_level(level)
    assert said == []


def test_hevc_is_tagged_as_quicktime_wants_it(tmp_path: Path, clock, picture) -> None:
    encoding = Encoding(64, 48, clock.time_base, clock.rate, BT709, "hevc")
    for suffix in (".mp4", ".m4v", ".mov"):
        with av.open(str(write_spans(tmp_path / f"out{suffix}", encoding, spans_of(encoding, clock, picture)))) as container:
            assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_spans_and_sound_are_interleaved(tmp_path: Path, wav, tone, picture, suffix: str) -> None:
    """A player that reads from the front has both when it needs them."""
    encoding = Encoding(64, 48, Fraction(1, 12800), Fraction(25), BT709)
    spans = [encode(encoding, [(picture(64, 48, k), 512 * k) for k in range(b, b + 100)]) for b in range(0, 300, 100)]
    path = write_spans(tmp_path / f"out{suffix}", encoding, spans, audio=probe(wav(tone(12.0, 48000), 48000)))
    with av.open(str(path)) as container:
        read = sorted((p.pos, p.stream.type, float(p.pts * p.time_base)) for p in container.demux() if p.size)
    assert sum(kind == "video" for _, kind, _ in read) == 300
    reached = {"video": 0.0, "audio": 0.0}
    for _, kind, time in read:
        reached[kind] = max(reached[kind], time)
        assert abs(reached["video"] - reached["audio"]) < 1.2


def test_a_span_that_comes_too_late_is_refused(tmp_path: Path, picture) -> None:
    encoding = Encoding(64, 48, Fraction(1, 12800), Fraction(25), BT709)
    first, second = (encode(encoding, [(picture(64, 48, k), 512 * k) for k in range(b, b + 5)]) for b in (0, 5))
    with pytest.raises(ValueError, match="Expected times that increase, got tick 0 after 4608"):
        write_spans(tmp_path / "out.mp4", encoding, [second, first])
    assert list(tmp_path.iterdir()) == []


# Alpha, and folders of pictures ---------------------------------------------------------------------------------------


def layer_of(picture: Yuv, index: int) -> Layer:
    return Layer(picture, np.full_like(picture.y, 10 * index))


def write_layers(path: Path, picture: Callable[..., Yuv], codec: Codec, count: int = 12, **more: Any) -> Path:
    encoding = Encoding(64, 48, Fraction(1, 12800), Fraction(25), BT709, codec)
    layers = [(layer_of(picture(64, 48, k), k), 512 * k) for k in range(count)]
    return write_spans(path, encoding, [encode(encoding, layers[:5]), encode(encoding, layers[5:])], **more)


def test_prores_has_the_times_the_alpha_and_the_sound(tmp_path: Path, picture, wav, tone) -> None:
    sound = probe(wav(tone(0.5, 48000), 48000))
    path = write_layers(tmp_path / "layer.mov", picture, "prores", audio=sound)
    media = probe(path)
    assert (media.need_video().codec, media.need_video().colour) == ("prores", BT709)
    assert media.need_audio().codec == "pcm_f32le"
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "ap4h"
        frames = list(container.decode(video=0))
    assert [f.pts * f.time_base for f in frames] == [Fraction(k, 25) for k in range(12)]
    alpha = [f.reformat(format="rgba").to_ndarray()[..., 3] for f in frames]
    np.testing.assert_allclose([a.mean() for a in alpha], 10 * np.arange(12), atol=0.5)


def test_without_a_suffix_it_is_a_folder_of_pictures(tmp_path: Path, picture, wav, tone) -> None:
    import cv2

    sound = probe(wav(tone(0.5, 48000), 48000))
    path = write_layers(tmp_path / "100 % frames", picture, "png", audio=sound)
    assert sorted(p.name for p in path.iterdir()) == [f"{k:06}.png" for k in range(12)]
    for k in range(12):
        bgra = cv2.imdecode(np.fromfile(path / f"{k:06}.png", np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(bgra[..., 2::-1], to_rgb(picture(64, 48, k).to_picture(BT709)))
        assert (bgra[..., 3] == 10 * k).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["100 % frames", "sound.wav"]


def test_a_folder_of_pictures_replaces_an_older_one(tmp_path: Path, picture) -> None:
    write_layers(tmp_path / "frames", picture, "png", 12)
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "frames", Encoding.like(LIKE, codec="png")) as writer:
        write_frames(writer, picture, 3)
        raise RuntimeError
    assert len(list((tmp_path / "frames").iterdir())) == 12
    write_layers(tmp_path / "frames", picture, "png", 7)
    assert len(list((tmp_path / "frames").iterdir())) == 7
    assert [p.name for p in tmp_path.iterdir()] == ["frames"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path, picture) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.png").touch()
    with pytest.raises(InputError, match=r"holiday holds other files \(beach\.png\)"):
        write_layers(tmp_path / "holiday", picture, "png")
    assert [p.name for p in tmp_path.rglob("*")] == ["holiday", "beach.png"]


@pytest.mark.parametrize(
    ("name", "alpha", "codec"),
    [("a.mp4", False, None), ("a.mov", False, None), ("a.MOV", True, "prores"), ("a", True, "png")],
)
def test_the_name_says_the_codec(name: str, alpha: bool, codec: Codec | None) -> None:
    assert codec_for(Path(name), alpha=alpha) == codec


def test_what_a_killed_writer_left_is_removed(tmp_path: Path, bars: Make) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [tmp_path / f".bars.mp4.{dead.pid}-1.partial", tmp_path / f".bars.mp4.{os.getppid()}-1.partial"]
    sealed = tmp_path / f".bars.mp4.{dead.pid}-1.sealed"
    sealed.touch()
    other = [tmp_path / f".else.mp4.{dead.pid}-1.partial", tmp_path / ".bars.mp4.mine.partial"]
    for file in (*left, *other):
        file.touch()
    bars("25")
    assert [file.exists() for file in (*left, *other)] == [False, True, True, True]
    assert not sealed.exists()


def test_what_is_sealed_has_the_name_and_nothing_else_stays(tmp_path: Path, picture) -> None:
    seen = []

    def seal(whole: Path, sealed: Path) -> None:
        seen.append([len(list(read_frames(probe(whole)))), (tmp_path / "a.mp4").exists()])
        sealed.write_bytes(b"sealed")

    with writer_of(tmp_path / "a.mp4", seal=seal) as writer:
        write_frames(writer, picture)
    assert seen == [[25, False]]
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.mp4", b"sealed")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), InputError("no")])
def test_what_cannot_be_sealed_leaves_what_was_there(tmp_path: Path, picture, error: BaseException) -> None:
    def seal(whole: Path, sealed: Path) -> None:
        sealed.write_bytes(b"half")
        raise error

    (tmp_path / "a.mp4").write_bytes(b"before")
    with pytest.raises(type(error)) as told, writer_of(tmp_path / "a.mp4", seal=seal) as writer:
        write_frames(writer, picture)
    assert not isinstance(error, OSError) or told.value.filename == str(tmp_path / "a.mp4")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.mp4", b"before")]


def test_a_video_needs_a_container() -> None:
    with pytest.raises(InputError, match=r"folder of pictures; use \.mp4"):
        codec_for(Path("a"))


@pytest.mark.parametrize("name", ["a.mp4", "a.m4v", "a.mkv"])
@pytest.mark.parametrize("codec", INTRA)
def test_alpha_in_other_containers_is_refused_in_words(tmp_path: Path, picture, name: str, codec: Codec) -> None:
    said = rf"{name}: cannot write a layer with alpha to \{name[1:]}; use \.mov \(ProRes 4444\), or no suffix"
    with pytest.raises(InputError, match=said):
        codec_for(tmp_path / name, alpha=True)
    with pytest.raises(InputError, match=said):
        write_layers(tmp_path / name, picture, codec)
    assert list(tmp_path.iterdir()) == []


# Metadata -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_tags_are_written(bars: Make, suffix: str) -> None:
    path = bars(name=f"tagged{suffix}", tags={"comment": "The mouth is synthetic.", "title": "Größe"})
    with av.open(str(path)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["comment"] == "The mouth is synthetic."
    assert tags["title"] == "Größe"


def test_the_index_stands_in_front(bars: Make) -> None:
    content = bars().read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_crf_trades_size_for_quality(bars: Make) -> None:
    fine, coarse = (bars(name=f"{crf}.mp4", crf=crf, size=(128, 96), frames=30) for crf in (10, 40))
    assert fine.stat().st_size > 1.5 * coarse.stat().st_size


# All or nothing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".avi", ".txt", ".wav", ".webm"])
def test_other_suffixes_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="cannot write") as caught:
        writer_of(tmp_path / f"out{suffix}")
    assert f"out{suffix}" in str(caught.value)
    assert ".mp4" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_upper_case_suffixes_are_known(bars: Make) -> None:
    assert probe(bars(name="OUT.MP4")).need_video().codec == "h264"


@pytest.mark.parametrize("after", [0, 1, 30])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, wav, tone, picture, after: int, error: type[BaseException]) -> None:
    sound = probe(wav(tone(2.0, 48000), 48000))
    with pytest.raises(error, match="stop"), writer_of(tmp_path / "out.mp4", sound) as writer:
        write_frames(writer, picture, after)
        raise error("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["sound.wav"]


def test_a_failure_leaves_an_older_file_as_it_was(tmp_path: Path, picture) -> None:
    (tmp_path / "out.mp4").write_bytes(b"before")
    with pytest.raises(RuntimeError), writer_of(tmp_path / "out.mp4") as writer:
        write_frames(writer, picture, 3)
        raise RuntimeError
    assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_success_replaces_an_older_file(tmp_path: Path, picture) -> None:
    (tmp_path / "out.mp4").write_bytes(b"before")
    with writer_of(tmp_path / "out.mp4") as writer:
        write_frames(writer, picture, 3)
        assert (tmp_path / "out.mp4").read_bytes() == b"before"
    assert len(list(read_frames(probe(tmp_path / "out.mp4")))) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_sound_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, bars: Make) -> None:
    silent = probe(bars(name="silent.mp4"))
    with pytest.raises(MediaError, match=r"silent\.mp4 has no audio stream"):
        writer_of(tmp_path / "out.mp4", silent)
    assert [p.name for p in tmp_path.iterdir()] == ["silent.mp4"]


def test_sound_that_vanished_leaves_nothing_behind(tmp_path: Path, wav, tone) -> None:
    path = wav(tone(1.0))
    media = probe(path)
    path.unlink()
    with pytest.raises(MediaError, match=r"sound\.wav does not exist"):
        writer_of(tmp_path / "out.mp4", media)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_given_leaves_nothing_behind(tmp_path: Path, picture) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(OSError), writer_of(tmp_path / "out.mp4") as writer:  # noqa: PT011
        write_frames(writer, picture, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


FULL = """
import resource, signal, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from lipwright.data.encoder import Encoding, encode
from lipwright.data.mix import Mix
from lipwright.data.media import BT709, Yuv
from lipwright.data.writer import VideoWriter

path, codec, most = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(0)
encoding = Encoding(320, 240, Fraction(1, 12800), Fraction(25), BT709, codec)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    with VideoWriter(path, encoding) as writer:
        for first in range(0, 60, 10):
            planes = [rng.integers(0, 255, size, dtype=np.uint8) for size in ((240, 320), (120, 160), (120, 160))]
            writer.append(encode(encoding, [(Yuv(*planes), 512 * k) for k in range(first, first + 10)]))
except OSError as error:
    print(type(error).__name__, error.filename, error.strerror)
"""
"""A video of megabytes where a file may have so many bytes; writing beyond fails as on a full disk."""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits a file's size by POSIX")
@pytest.mark.parametrize("most", [0, 1000, 200_000])
@pytest.mark.parametrize(("name", "codec"), [("out.mp4", "h264"), ("out.mkv", "h264"), ("out.mov", "prores"), ("out", "png")])
def test_a_full_disk_is_told_with_the_name_and_leaves_nothing(tmp_path: Path, name: str, codec: str, most: int) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / name), codec, str(most)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"OSError {tmp_path / name} File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_time_that_does_not_increase_is_an_error(tmp_path: Path, picture) -> None:
    with pytest.raises((av.error.FFmpegError, ValueError)), writer_of(tmp_path / "out.mp4") as writer:
        for k in range(30):
            writer.write(picture(64, 48, k), Fraction(k if k < 15 else 3, 25))
    assert list(tmp_path.iterdir()) == []
