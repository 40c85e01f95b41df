"""What tests share: real clips where they are, generated media where they are not, and a cache of their own.

Everything generated is small, seeded and deterministic. Helpers are fixtures that return functions, since test modules
cannot import from one another.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# One thread each: tests run beside one another, and oversubscribed cores are far slower than one core.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
    os.environ.setdefault(_variable, "1")

import av  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from lipwright.data.landmarks import FaceTrack, face_track  # noqa: E402
from lipwright.data.media import BT709, Colour, Media, Yuv, probe, read_frames  # noqa: E402
from lipwright.data.speech import Speech, synthesize  # noqa: E402

Samples = np.ndarray
"""(channels, N) float32 in [-1, 1]."""


@pytest.fixture(scope="session", autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point `LIPWRIGHT_CACHE` at a folder of this session, with a link to the landmark model in it."""
    from lipwright.data.errors import MissingPartError
    from lipwright.data.landmarker import MODEL_NAME, model_path

    folder = tmp_path_factory.mktemp("cache")
    with suppress(MissingPartError):  # tests that need the model fail with the error that says how to get it
        (folder / MODEL_NAME).symlink_to(model_path().resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIPWRIGHT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def heard_interrupts() -> None:
    """Let Ctrl-C be heard also where a shell that started the tests in the background had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a maker of folders that the workers of pytest-xdist share: `once(name, make)` has the first who asks fill it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder_of(name: str, make: Callable[[Path], None]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                made.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder of real clips: `LIPWRIGHT_CLIPS`, else ``../shared/clips`` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "clips"
    folder = Path(os.environ.get("LIPWRIGHT_CLIPS") or beside)
    if not folder.is_dir():
        pytest.skip(f"real clips are not at {folder}; name their folder in LIPWRIGHT_CLIPS")
    return folder


# Time -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """When a video's frames are shown."""

    rate: Fraction
    """Nominal."""
    time_base: Fraction
    times: tuple[Fraction, ...]
    constant: bool


def _clock(name: str, frames: int = 24) -> Clock:
    if name == "variable":
        ticks = np.cumsum(np.random.default_rng(3).integers(900, 6000, frames)) - 900  # 10 to 67 ms in 1/90000
        ticks -= ticks[0]
        return Clock(Fraction(25), Fraction(1, 90000), tuple(Fraction(int(t), 90000) for t in ticks), False)
    rate = Fraction(name)
    return Clock(rate, 1 / (rate * 512), tuple(k / rate for k in range(frames)), True)


CLOCKS = ("24000/1001", "25", "30000/1001", "30", "50", "variable")


@pytest.fixture(params=CLOCKS, ids=lambda name: name.replace("/", "_"))
def clock(request: pytest.FixtureRequest) -> Clock:
    """The clocks that videos really have: film, PAL, NTSC, 30, 50, and a telephone's variable rate."""
    return _clock(request.param)


# Pictures and sound ---------------------------------------------------------------------------------------------------


def _bars(width: int, height: int, index: int = 0) -> Yuv:
    """Eight colour bars in limited range, and a bright block that wanders with `index`: no two frames are equal."""
    levels = np.array([[180, 128, 128], [162, 44, 142], [131, 156, 44], [112, 72, 58],
                       [84, 184, 198], [65, 100, 212], [35, 212, 114], [60, 128, 128]], np.uint8)  # fmt: skip
    bar = np.minimum(np.arange(width) * 8 // width, 7)
    y = np.repeat(levels[bar, 0][None], height, 0)
    half = bar[::2]
    u, v = (np.repeat(levels[half, k][None], -(-height // 2), 0) for k in (1, 2))
    left, top = (index * 7) % max(width - 8, 1), (index * 5) % max(height - 8, 1)
    y[top : top + 8, left : left + 8] = 235 - index % 32
    return Yuv(y, u.copy(), v.copy())


@pytest.fixture(scope="session")
def picture() -> Callable[..., Yuv]:
    """Return the maker of one frame: `picture(width, height, index)` are colour bars and a block that moves."""
    return _bars


@pytest.fixture(scope="session")
def tone() -> Callable[..., Samples]:
    """Return the maker of a tone: `tone(duration_s, rate_hz, hz, channels, level)`, shape (channels, N)."""

    def make(duration_s: float, rate_hz: int = 16000, hz: float = 440.0, channels: int = 1, level: float = 0.3) -> Samples:
        time = np.arange(round(duration_s * rate_hz)) / rate_hz
        return np.repeat((level * np.sin(2 * np.pi * hz * time)).astype(np.float32)[None], channels, 0)

    return make


@pytest.fixture(scope="session")
def babble() -> Callable[..., Samples]:
    """Return the maker of something like speech, (N,) at 16 kHz: coloured noise that swells and dies four times a second."""

    def make(duration_s: float, seed: int = 0, level: float = 0.1) -> Samples:
        rng = np.random.default_rng(seed)
        count = round(duration_s * 16000)
        noise = np.convolve(rng.normal(0, 1, count), np.hanning(9) / 4, mode="same")
        knots = np.arange(0, count + 2000, 2000)
        swell = np.interp(np.arange(count), knots, rng.uniform(0, 1, len(knots)))
        return (level * noise * swell).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def music() -> Callable[..., Samples]:
    """Return the maker of music, (N,) at 16 kHz: chords that are struck twice a second, and a drum."""

    def make(duration_s: float, seed: int = 0, level: float = 0.1) -> Samples:
        rng = np.random.default_rng(seed)
        time = np.arange(round(duration_s * 16000)) / 16000
        out = np.zeros(len(time))
        for begin_s in np.arange(0, duration_s, 0.5):
            since = time - begin_s
            struck = np.where(since >= 0, np.exp(-2 * np.maximum(since, 0)), 0)
            root_hz = rng.choice([220, 247, 262, 294, 330, 349, 392])
            out += struck * sum(np.sin(2 * np.pi * root_hz * ratio * since) for ratio in (1, 1.25, 1.5, 2))
            out += 2 * np.where(since >= 0, np.exp(-160 * np.maximum(since, 0)), 0) * rng.normal(0, 1, len(time))
        return (level * out).astype(np.float32)

    return make


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def wav(tmp_path: Path) -> Callable[..., Path]:
    """Return the writer of WAV files: `wav(samples, rate_hz, name)`; samples (channels, N) or (N,)."""
    import soundfile

    def write(samples: Samples, rate_hz: int = 16000, name: str = "sound.wav", subtype: str = "FLOAT") -> Path:
        soundfile.write(tmp_path / name, np.atleast_2d(samples).T, rate_hz, subtype=subtype)
        return tmp_path / name

    return write


@pytest.fixture
def bars(tmp_path: Path) -> Callable[..., Path]:
    """Return the writer of colour-bar videos by `VideoWriter`, at any times, size and colour, with any sound."""
    from lipwright.data.encoder import Encoding
    from lipwright.data.writer import VideoWriter

    def write(
        clock: Clock | str = "25",
        *,
        size: tuple[int, int] = (64, 48),
        frames: int = 12,
        start: Fraction = Fraction(0),
        name: str = "bars.mp4",
        colour: Colour = BT709,
        audio: Media | None = None,
        crf: int | None = None,
        tags: dict[str, str] | None = None,
    ) -> Path:
        clock = _clock(clock, frames) if isinstance(clock, str) else clock
        encoding = Encoding(*size, clock.time_base, clock.rate, colour, crf=crf)
        with VideoWriter(tmp_path / name, encoding, audio=audio, tags=tags) as writer:
            for k, time in enumerate(clock.times):
                writer.write(_bars(*size, k), start + time)
        return tmp_path / name

    return write


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of media that owes nothing to `VideoWriter`: any codec, pixel format, rotation, start and gap.

    `video` and `audio` are (time in seconds, content) pairs: frames (`Yuv`, or any `av.VideoFrame`), and blocks of
    samples (channels, n). Timestamps of sound are kept as given, so that late starts and gaps come out as such.
    """

    def write(
        name: str,
        *,
        video: Sequence[tuple[Fraction, Yuv | av.VideoFrame]] = (),
        audio: Sequence[tuple[Fraction, Samples]] = (),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        rate: Fraction = Fraction(25),
        time_base: Fraction = Fraction(1, 12800),
        colour: Colour = BT709,
        turn_degrees: int = 0,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        gop: int = 12,
        audio_codec: str = "aac",
        audio_rate_hz: int = 48000,
        layout: str = "mono",
        audio_options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            packets: list[tuple[Fraction, int, Any]] = []
            if video:
                pictures = [(t, p.to_picture(colour) if isinstance(p, Yuv) else p) for t, p in video]
                quiet = {"libx264": {"crf": "10"}, "libx265": {"x265-params": "log-level=error:crf=12"}}
                stream: Any = container.add_stream(codec, rate=rate, options=quiet.get(codec, {}) | (options or {}))
                stream.width, stream.height = pictures[0][1].width, pictures[0][1].height
                stream.pix_fmt = pix_fmt
                stream.time_base = stream.codec_context.time_base = time_base
                context = stream.codec_context
                context.gop_size, context.thread_count = gop, 1
                context.color_primaries, context.color_trc = colour.primaries, colour.transfer
                context.colorspace, context.color_range = colour.matrix, colour.range
                if turn_degrees:
                    stream.set_display_rotation(turn_degrees)
            if audio:
                sound: Any = container.add_stream(audio_codec, rate=audio_rate_hz, layout=layout, options=audio_options)
            if video:
                for time, shown in pictures:
                    shown.pts, shown.time_base = round(time / time_base), time_base
                    packets += [(time, 0, p) for p in stream.encode(shown)]
                packets += [(time, 0, p) for p in stream.encode(None)]
            if audio:
                packets += _encode_sound(sound, audio, audio_rate_hz, layout)
            for _, _, packet in sorted(packets, key=lambda p: p[:2]):
                container.mux(packet)
        return path

    return write


def _encode_sound(
    stream: Any, audio: Sequence[tuple[Fraction, Samples]], rate_hz: int, layout: str
) -> list[tuple[Fraction, int, Any]]:
    context = stream.codec_context
    context.open()
    size = context.frame_size or 1024
    packets = []
    for begin, samples in audio:
        for first in range(0, samples.shape[1], size):
            block = np.ascontiguousarray(samples[:, first : first + size], dtype=np.float32)
            if not context.format.is_planar:
                block = np.ascontiguousarray(block.T.reshape(1, -1))
            form = context.format.name
            if form.startswith("u8"):
                block = np.round(127.5 + 127 * block).astype(np.uint8)
            elif form.startswith("s16"):
                block = np.round(block * 32767).astype(np.int16)
            elif form.startswith("s32"):
                block = np.round(block * 2147483000.0).astype(np.int32)
            frame = av.AudioFrame.from_ndarray(block, format=form, layout=layout)
            frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
            frame.pts = round(begin * rate_hz) + first
            packets += [(begin + Fraction(first, rate_hz), 1, p) for p in context.encode(frame)]
        last = begin + Fraction(samples.shape[1], rate_hz)
    packets += [(last, 1, p) for p in context.encode(None)]
    for _, _, packet in packets:
        packet.stream = stream
    return packets


# The talking photograph -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Talk:
    """A generated video of a talking face, and what its mouth was told to do."""

    path: Path
    times_s: np.ndarray
    """(F,)"""
    aperture: np.ndarray
    """(F,) as commanded."""
    sentence: str


@pytest.fixture(scope="session")
def say() -> Callable[[str], Speech]:
    """Return `synthesize` in a process of its own: eSpeak says a sentence otherwise after other ones."""

    def run(text: str) -> Speech:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(synthesize, text).result()

    return run


@pytest.fixture(scope="session")
def talk(say: Callable[[str], Speech], once: Callable[..., Path]) -> Talk:
    """Five seconds of the astronaut's photograph talking, 320x320 at 25 frames/s, with sound at 22,050 Hz."""
    sentence = "My mother may buy five big blue boats, and Bob will pop up above the open bay by half past one."

    def make(folder: Path) -> None:
        import soundfile

        from lipwright.data.articulation import COLUMNS, articulate
        from lipwright.data.encoder import Encoding
        from lipwright.data.talker import Talker, astronaut, talking_frames
        from lipwright.data.writer import VideoWriter

        speech = say(sentence)
        soundfile.write(folder / "talk.wav", speech.samples, speech.rate_hz)
        talker = Talker.from_photo(astronaut(320))
        times = []
        encoding = Encoding(320, 320, Fraction(1, 12800), Fraction(25), BT709)
        with VideoWriter(folder / "talk.mp4", encoding, audio=probe(folder / "talk.wav")) as writer:
            for time, frame in talking_frames(talker, speech):
                writer.write(Yuv.from_bgr(frame), time)
                times.append(float(time))
        times_s = np.array(times)
        aperture = articulate(speech.phones, times_s)[:, COLUMNS.index("aperture")]
        np.savez(folder / "told.npz", times_s=times_s, aperture=aperture)

    folder = once("talk", make)
    with np.load(folder / "told.npz") as told:
        return Talk(folder / "talk.mp4", told["times_s"], told["aperture"], sentence)


@pytest.fixture(scope="session")
def talk_track(talk: Talk) -> FaceTrack:
    """Return the face track of the talking photograph."""
    return face_track(probe(talk.path))


@pytest.fixture(scope="session")
def talk_pictures(talk: Talk) -> list[Yuv]:
    """Return the decoded frames of the talking photograph."""
    return [frame.yuv() for frame in read_frames(probe(talk.path))]


# Certificates ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def new_authority() -> Callable[..., Any]:
    """Return a maker of authorities that issue certificates: `new_authority(folder, name)`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(name: str) -> x509.Name:
        parts = ((NameOID.ORGANIZATION_NAME, "Studio"), (NameOID.COMMON_NAME, name))
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])

    class Authority:
        """Somebody who issues certificates; `root` is the file of its own."""

        def __init__(self, folder: Path, name: str = "Authority") -> None:
            self.folder, self.name, self.key = folder, name, ec.generate_private_key(ec.SECP256R1())
            self.own = self.certify(name, self.key.public_key(), ca=True)
            self.root = folder / f"{name}.pem"
            self.root.write_bytes(self.pem(self.own))

        @staticmethod
        def pem(*certificates: x509.Certificate) -> bytes:
            return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)

        @staticmethod
        def private(key: Any, password: bytes | None = None) -> bytes:
            lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
            return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)

        def certify(
            self, name: str, public: Any, *, ca: bool = False, since: timedelta = timedelta(-1),
            until: timedelta = timedelta(30), purpose: Any = ExtendedKeyUsageOID.EMAIL_PROTECTION, signs: bool = True,
        ) -> x509.Certificate:  # fmt: skip
            now, serial = datetime.now(UTC), x509.random_serial_number()
            usage = x509.KeyUsage(signs and not ca, not signs, False, False, False, ca, ca, False, False)
            above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = (
                x509.CertificateBuilder(named(self.name), named(name), public, serial, now + since, now + until)
                .add_extension(x509.BasicConstraints(ca, None), critical=True)
                .add_extension(usage, critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
                .add_extension(above, critical=False)
            )
            if purpose is not None and not ca:
                builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            return builder.sign(self.key, hashes.SHA256())

        def issue(self, name: str = "Jane Doe", key: Any = None, **how: Any) -> tuple[Path, Path]:
            """Write a chain and a key."""
            key = key or ec.generate_private_key(ec.SECP256R1())
            chain, private = self.folder / "chain.pem", self.folder / "key.pem"
            chain.write_bytes(self.pem(self.certify(name, key.public_key(), **how), self.own))
            private.write_bytes(self.private(key))
            return chain, private

    return Authority


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory, new_authority: Callable[..., Any]) -> Any:
    """Return an authority of this test's."""
    return new_authority(tmp_path_factory.mktemp("authority"))
