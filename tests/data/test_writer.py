"""Video out: the given times, the given sound at its own rate beside them, and all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.encoder import Encoding
from lipwright.data.errors import InputError, MediaError
from lipwright.data.media import BT709, Media, Yuv, probe, read_frames
from lipwright.data.writer import CONTAINERS, VideoWriter

Make = Callable[..., Path]
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


@pytest.mark.parametrize(
    ("codec", "rate_hz", "layout"),
    [("flac", 96000, "stereo"), ("libmp3lame", 44100, "stereo"), ("libopus", 48000, "mono"), ("ac3", 48000, "5.1(side)")],
)
def test_other_codecs_are_encoded_at_their_own_rate(
    encode: Make, tone, bars: Make, codec: str, rate_hz: int, layout: str
) -> None:
    channels = {"mono": 1, "stereo": 2}.get(layout, 6)
    given = [(Fraction(0), tone(1.0, rate_hz, 440.0, channels))]
    path = encode("sound.mkv", audio=given, audio_codec=codec, audio_rate_hz=rate_hz, layout=layout)
    kind = probe(bars("25", frames=25, audio=probe(path))).need_audio()
    assert (kind.codec, kind.rate_hz, kind.channels) == ("aac", rate_hz, channels)


def test_sound_longer_than_the_picture_is_written_whole(wav, tone, bars: Make) -> None:
    out = probe(bars("25", frames=5, audio=probe(wav(tone(2.0, 48000), 48000))))
    assert len(read_speech(out)) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=400)
    assert len(list(read_frames(out, threads=1))) == 5


def test_a_span_of_the_sound_is_moved_to_zero(wav, bars: Make, tmp_path: Path, picture) -> None:
    samples = np.zeros(3 * 48000, np.float32)
    for click_s in (1.25, 1.73):
        samples[round(click_s * 48000) : round(click_s * 48000) + 200] = 0.9
    media = probe(wav(samples, 48000))
    with writer_of(tmp_path / "span.mp4", media, audio_span_s=(Fraction("1.23"), Fraction("2.23"))) as writer:
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


def test_a_time_that_does_not_increase_is_an_error(tmp_path: Path, picture) -> None:
    with pytest.raises((av.error.FFmpegError, ValueError)), writer_of(tmp_path / "out.mp4") as writer:
        for k in range(30):
            writer.write(picture(64, 48, k), Fraction(k if k < 15 else 3, 25))
    assert list(tmp_path.iterdir()) == []
