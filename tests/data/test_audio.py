"""Sound in: any codec, rate and layout becomes 16 kHz mono on the file's clock, or an error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lipwright.data.audio import SAMPLE_RATE_HZ, StoredSpeech, around, read_blocks, read_speech
from lipwright.data.errors import MediaError
from lipwright.data.media import probe

Make = Callable[..., Path]


def frequency_hz(samples: np.ndarray) -> float:
    """The strongest frequency of sound at 16 kHz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE_HZ / len(samples)


def is_speech_array(samples: np.ndarray) -> bool:
    return samples.dtype == np.float32 and samples.ndim == 1 and bool(np.isfinite(samples).all())


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_layout_keeps_length_pitch_and_level(wav, tone, rate_hz: int, channels: int) -> None:
    samples = read_speech(probe(wav(tone(1.5, rate_hz, 440.0, channels), rate_hz)))
    assert is_speech_array(samples)
    assert abs(len(samples) - 1.5 * SAMPLE_RATE_HZ) <= 1
    assert frequency_hz(samples) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(samples[1600:-1600] ** 2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz", "layout", "slack_s"),
    [
        ("a.m4a", "aac", 44100, "stereo", 0.03),
        ("a.mp4", "aac", 48000, "5.1", 0.03),
        ("a.mp3", "libmp3lame", 44100, "stereo", 0.03),
        ("a.mp4", "libmp3lame", 44100, "stereo", 0.06),
        ("a.flac", "flac", 48000, "stereo", 0.0001),
        ("a.mkv", "flac", 96000, "stereo", 0.0001),
        ("a.ogg", "libopus", 48000, "mono", 0.03),
        ("a.ac3", "ac3", 48000, "5.1(side)", 0.05),
        ("a.aac", "aac", 16000, "mono", 0.2),
        ("a.ts", "aac", 48000, "stereo", 0.06),
    ],
)
def test_any_codec_keeps_length_and_pitch(
    encode: Make, tone, name: str, codec: str, rate_hz: int, layout: str, slack_s: float
) -> None:
    channels = {"mono": 1, "stereo": 2}.get(layout, 6)
    given = [(Fraction(0), tone(2.0, rate_hz, 600.0, channels))]
    media = probe(encode(name, audio=given, audio_codec=codec, audio_rate_hz=rate_hz, layout=layout))
    assert media.need_audio().channels == channels
    assert media.need_audio().rate_hz == rate_hz
    samples = read_speech(media)
    assert is_speech_array(samples)
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(2.0, abs=max(slack_s, 1.5 / SAMPLE_RATE_HZ))
    assert frequency_hz(samples) == pytest.approx(600, abs=1)


def test_a_tone_in_one_ear_is_heard(wav, tone) -> None:
    left = np.concatenate([tone(1.0), np.zeros_like(tone(1.0))])
    samples = read_speech(probe(wav(left)))
    assert frequency_hz(samples) == pytest.approx(440, abs=1)
    assert np.abs(samples).max() == pytest.approx(0.15, rel=0.02)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW"])
def test_any_sample_format_has_the_same_level(wav, tone, subtype: str) -> None:
    samples = read_speech(probe(wav(tone(0.5), subtype=subtype)))
    np.testing.assert_allclose(samples, tone(0.5)[0], atol=0.02)


def test_sixteen_kilohertz_passes_through_bit_exact(wav) -> None:
    given = np.random.default_rng(0).uniform(-1, 1, 8000).astype(np.float32)
    np.testing.assert_array_equal(read_speech(probe(wav(given))), given)


def test_samples_beyond_full_scale_are_kept(wav, tone) -> None:
    assert np.abs(read_speech(probe(wav(tone(0.5, level=3.0))))).max() == pytest.approx(3.0, rel=0.01)


def test_digital_silence_is_silence(wav) -> None:
    assert not read_speech(probe(wav(np.zeros(16000, np.float32)))).any()


# Clock ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [16000, 48000])
@pytest.mark.parametrize("late_s", ["0.012", "0.32"])
def test_a_late_start_is_silence_at_the_head(encode: Make, picture, tone, rate_hz: int, late_s: str) -> None:
    path = encode(
        "late.mkv",
        video=[(Fraction(k, 25), picture(64, 48, k)) for k in range(20)],
        audio=[(Fraction(late_s), tone(1.0, rate_hz))],
        audio_codec="flac",
        audio_rate_hz=rate_hz,
    )
    samples = read_speech(probe(path))
    start = round(float(late_s) * SAMPLE_RATE_HZ)
    assert len(samples) == pytest.approx(start + SAMPLE_RATE_HZ, abs=2)
    assert np.abs(samples[: start - 100]).max() < 1e-3
    assert np.sqrt(np.mean(samples[start : start + 1600] ** 2)) > 0.15


def test_sound_that_starts_first_starts_at_zero(encode: Make, picture, tone) -> None:
    video = [(Fraction(k, 25) + Fraction("0.4"), picture(64, 48, k)) for k in range(20)]
    path = encode("early.mkv", video=video, audio=[(Fraction(0), tone(1.0, 48000))], audio_codec="flac")
    assert np.abs(read_speech(probe(path))[:160]).max() > 0.1


def test_a_file_of_sound_alone_starts_at_its_first_sample(encode: Make, tone) -> None:
    path = encode("alone.mkv", audio=[(Fraction(5), tone(1.0, 48000))], audio_codec="flac")
    samples = read_speech(probe(path))
    assert len(samples) == pytest.approx(SAMPLE_RATE_HZ, abs=2)
    assert np.abs(samples[:160]).max() > 0.1


@pytest.mark.parametrize("gap_s", ["0.05", "0.5", "2"])
def test_a_gap_is_silence_of_its_length(encode: Make, tone, gap_s: str) -> None:
    second = 1 + Fraction(gap_s)
    path = encode(
        "gap.mkv",
        audio=[(Fraction(0), tone(1.0, 48000)), (second, tone(1.0, 48000))],
        audio_codec="pcm_s16le",
    )
    samples = read_speech(probe(path))
    assert len(samples) == pytest.approx(float(second + 1) * SAMPLE_RATE_HZ, abs=20)
    inside = samples[SAMPLE_RATE_HZ + 100 : round(float(second) * SAMPLE_RATE_HZ) - 100]
    assert np.abs(inside).max() < 1e-3
    after = samples[round(float(second) * SAMPLE_RATE_HZ) + 50 :][:800]
    assert np.sqrt(np.mean(after**2)) > 0.15


def test_overlapping_timestamps_do_not_make_it_longer(encode: Make, tone) -> None:
    path = encode(
        "overlap.mkv",
        audio=[(Fraction(0), tone(1.0, 48000)), (Fraction("0.9"), tone(1.0, 48000, 880.0))],
        audio_codec="pcm_s16le",
    )
    samples = read_speech(probe(path))
    assert len(samples) == pytest.approx(1.9 * SAMPLE_RATE_HZ, abs=400)
    assert frequency_hz(samples[:14000]) == pytest.approx(440, abs=2)
    assert frequency_hz(samples[17000:]) == pytest.approx(880, abs=2)


def test_timestamps_rounded_to_milliseconds_make_no_holes(encode: Make, tone) -> None:
    path = encode("rounded.mkv", audio=[(Fraction(0), tone(3.0, 44100))], audio_codec="libmp3lame", audio_rate_hz=44100)
    samples = read_speech(probe(path))[1600:-3200]
    level = np.sqrt(np.convolve(samples**2, np.full(160, 1 / 160), mode="valid"))  # over 10 ms
    assert level.min() > 0.9 * level.max()


def test_blocks_carry_their_times(encode: Make, picture, tone) -> None:
    path = encode(
        "blocks.mkv",
        video=[(Fraction(k, 25), picture(64, 48, k)) for k in range(5)],
        audio=[(Fraction("0.2"), tone(1.0, 48000, channels=2))],
        audio_codec="flac",
        layout="stereo",
    )
    blocks = list(read_blocks(probe(path)))
    assert blocks[0][0] == Fraction("0.2")
    assert sum(b.shape[1] for _, b in blocks) == 48000
    expected = Fraction("0.2")
    for time, block in blocks:
        assert block.dtype == np.float32
        assert block.shape[0] == 2
        assert abs(time - expected) <= Fraction(1, 1000)  # Matroska's milliseconds
        expected += Fraction(block.shape[1], 48000)


# On disk --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [16000, 22050, 48000])
def test_stored_speech_is_what_is_read_at_once(wav, babble, rate_hz: int, isolated_cache: Path) -> None:
    media = probe(wav(babble(3.0), rate_hz=rate_hz))
    samples, stored = read_speech(media), StoredSpeech(media)
    assert len(stored) == len(samples)
    for span in (slice(None), slice(100, 5000), slice(len(samples) - 7, len(samples) + 90), slice(-50, None), slice(8, 3)):
        assert is_speech_array(stored[span])
        np.testing.assert_array_equal(stored[span], samples[span])
    assert not [p for p in isolated_cache.iterdir() if p.name.startswith("tmp")]


@pytest.mark.parametrize("span", [(0, 5), (-3, 2), (-9, -4), (8, 13), (10, 14), (12, 15), (-2, 12), (3, 3)])
def test_around_the_samples_there_is_silence(span: tuple[int, int]) -> None:
    samples = np.arange(1, 11, dtype=np.float32)
    expected = [float(k + 1) if 0 <= k < 10 else 0.0 for k in range(*span)]
    assert around(samples, *span).tolist() == expected


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("all_of_it", [False, True])
def test_samples_that_are_not_numbers_are_an_error(wav, tone, bad: float, channels: int, all_of_it: bool) -> None:
    samples = tone(0.5, channels=channels)
    samples[:, slice(None) if all_of_it else slice(4000, 4010)] = bad
    media = probe(wav(samples, name="broken.wav"))
    with pytest.raises(MediaError, match=r"broken\.wav has \d+ sound samples that are not numbers"):
        read_speech(media)


def test_infinities_that_cancel_are_an_error_too(wav, tone) -> None:
    samples = tone(0.5, channels=2)
    samples[0, 4000], samples[1, 4000] = np.inf, -np.inf
    media = probe(wav(samples, name="broken.wav"))
    with pytest.raises(MediaError, match=r"broken\.wav"):
        read_speech(media)


@pytest.mark.parametrize("count", [1, 100, 1599])
def test_too_little_sound_is_an_error(wav, count: int) -> None:
    path = wav(np.full(count, 0.1, np.float32), name="short.wav")
    with pytest.raises(MediaError, match=rf"short\.wav holds {count} samples"):
        read_speech(probe(path))


def test_the_shortest_sound_is_enough(wav) -> None:
    assert len(read_speech(probe(wav(np.full(1600, 0.1, np.float32))))) == 1600


def test_a_header_without_samples_is_an_error(wav) -> None:
    path = wav(np.zeros(0, np.float32), name="header.wav")
    assert path.stat().st_size > 0
    with pytest.raises(MediaError, match=r"header\.wav"):
        read_speech(probe(path))


def test_no_sound_and_an_empty_file_are_errors(bars: Make, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"bars\.mp4 has no audio stream"):
        read_speech(probe(bars()))
    (tmp_path / "empty.wav").touch()
    with pytest.raises(MediaError, match=r"empty\.wav is empty"):
        probe(tmp_path / "empty.wav")


def test_channels_and_rate_that_change_midway_are_heard_on(encode: Make, tone, tmp_path: Path) -> None:
    """As in recorded broadcasts; the sound stays what it was at first."""
    parts = []
    for k, (layout, rate_hz) in enumerate([("mono", 48000), ("stereo", 48000), ("mono", 44100)]):
        sound = tone(1.0, rate_hz, channels=1 + (layout == "stereo"))
        parts.append(encode(f"{k}.ts", audio=[(Fraction(k), sound)], layout=layout, audio_rate_hz=rate_hz))
    path = tmp_path / "broadcast.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    samples = read_speech(probe(path))
    assert len(samples) == pytest.approx(48000, abs=1600)
    loud = np.sqrt((samples[: 16000 * 3 - 1600].reshape(-1, 1600) ** 2).mean(1))
    assert np.median(loud) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
    spectrum = np.abs(np.fft.rfft(samples[36000:44000] * np.hanning(8000)))
    assert spectrum.argmax() * 2 == pytest.approx(440, abs=4)


def test_a_truncated_wav_gives_what_is_left(wav, tone) -> None:
    path = wav(tone(1.0))
    path.write_bytes(path.read_bytes()[:-16000])  # a quarter of 4-byte samples
    assert len(read_speech(probe(path))) == pytest.approx(12000, abs=20)


# Real clips -----------------------------------------------------------------------------------------------------------


def test_real_sound_is_as_long_as_it_says(clips: Path) -> None:
    for name, seconds in (("driving_60s_16k.wav", 60.0), ("ad_6s.mp4", 6.0)):
        samples = read_speech(probe(clips / name))
        assert is_speech_array(samples)
        assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(seconds, abs=0.6)
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5
