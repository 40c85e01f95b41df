"""Film the talking photograph well, and badly in one way at a time: the tables of docs/filming.md.

    python scripts/filming.py --out FOLDER

Its mouth is known. Printed are, of each picture, what `lipwright check` says and how true the tracked mouth is; of each sound
what `check` says, and how true the base model's mouth is that hears it. Films stay in FOLDER.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import soundfile
from scipy.signal import butter, sosfiltfilt
from tracking import SENTENCES, depth, lag_of, said_closures, swayed

from lipwright.data.articulation import articulate
from lipwright.data.audio import read_speech
from lipwright.data.encoder import Encoding
from lipwright.data.landmarks import face_track
from lipwright.data.media import BT709, Yuv, probe
from lipwright.data.mouth import aperture, track_of, width
from lipwright.data.speech import Speech, synthesize
from lipwright.data.talker import Talker, astronaut, talking_frames
from lipwright.data.writer import VideoWriter
from lipwright.pipeline.check import check_videos
from lipwright.pipeline.predict import base_model, predict_mouth


@dataclass(frozen=True)
class Picture:
    """How the picture is taken: edge in pixels, frames a second, light, noise, blur, shutter, camera and compression."""

    size: int = 512
    rate: int = 25
    light: float = 1.0
    """Share of it that is left."""
    side: float = 0.0
    """Share of it that the far side of the picture lacks."""
    noise: float = 0.0
    blur_px: float = 0.0
    open_for: int = 1
    """Pictures at four times the rate that one is the mean of."""
    sway: float = 0.0
    crf: int = 18


PICTURES = {
    "well: 512 px, 25/s, crf 18": Picture(),
    "face of 125 px": Picture(size=256),
    "face of 78 px": Picture(size=160),
    "face of 58 px": Picture(size=120),
    "light from one side": Picture(side=0.85),
    "a quarter of the light, noise 8": Picture(light=0.25, noise=8),
    "a tenth of the light, noise 8": Picture(light=0.1, noise=8),
    "out of focus by 3 px": Picture(blur_px=3),
    "shutter open all the time": Picture(open_for=4),
    "camera in the hand": Picture(sway=1),
    "10/s": Picture(rate=10),
    "60/s": Picture(rate=60),
    "crf 35": Picture(crf=35),
    "crf 45": Picture(crf=45),
}


def noisy(samples: np.ndarray, rate_hz: int, below_db: float) -> np.ndarray:
    """Put white noise under speech, so far below its loud moments."""
    loud = np.percentile(np.abs(samples), 98) / 2**0.5
    return samples + np.random.default_rng(0).normal(0, loud * 10 ** (-below_db / 20), len(samples))


def hall(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Speak from far away in a room: an echo that dies by 60 dB in 0.8 s, as loud as the voice."""
    time_s = np.arange(int(0.8 * rate_hz)) / rate_hz
    echo = np.random.default_rng(0).normal(0, 1, len(time_s)) * 10 ** (-3 * time_s / 0.8)
    wet = np.convolve(samples, echo / np.linalg.norm(echo))[: len(samples)]
    return (samples + wet) / 2


SOUNDS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "well: near, quiet room": lambda samples, rate_hz: samples,
    "noise 30 dB below": lambda samples, rate_hz: noisy(samples, rate_hz, 30),
    "noise 15 dB below": lambda samples, rate_hz: noisy(samples, rate_hz, 15),
    "far away, in a hall": hall,
    "8 times too loud": lambda samples, rate_hz: np.clip(8 * samples, -1, 1),
    "a telephone": lambda samples, rate_hz: sosfiltfilt(butter(8, (300, 3400), "band", fs=rate_hz, output="sos"), samples),
}


def take(picture: Picture, speech: Speech) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Yield the pictures of the talker as they are taken."""
    rng, talker = np.random.default_rng(0), Talker.from_photo(astronaut(picture.size))
    falling = 1 - picture.side * np.linspace(0, 1, picture.size)[None, :, None]
    seen = []
    for k, (time, frame) in enumerate(talking_frames(talker, speech, rate=Fraction(picture.rate * picture.open_for))):
        seen.append(frame.astype(np.float32))
        if (k + 1) % picture.open_for:
            continue
        light = np.mean(seen, 0) * falling * picture.light
        seen.clear()
        light = swayed(light, picture.sway, float(time)) if picture.sway else light
        light = cv2.GaussianBlur(light, (0, 0), picture.blur_px) if picture.blur_px else light
        light = light + rng.normal(0, 1, light.shape) * picture.noise
        middle = Fraction(picture.open_for - 1, 2 * picture.rate * picture.open_for)
        yield time - middle, np.clip(light + 0.5, 0, 255).astype(np.uint8)


def film(path: Path, picture: Picture, speech: Speech, samples: np.ndarray) -> None:
    """Write a film with sound, if it is not there."""
    if path.exists():
        return
    soundfile.write(path.with_suffix(".wav"), samples, speech.rate_hz, subtype="PCM_16")
    encoding = Encoding(picture.size, picture.size, Fraction(1, 12000), Fraction(picture.rate), BT709, crf=picture.crf)
    with VideoWriter(path, encoding, audio=probe(path.with_suffix(".wav"))) as writer:
        for time, frame in take(picture, speech):
            writer.write(Yuv.from_bgr(frame), time)


def told(path: Path) -> str:
    """Return what `check` says of a film, but for its length."""
    clip = check_videos([path])["clips"][0]
    words = [each for each in clip["reasons"] + clip["advice"] if "can be used" not in each]
    return f"{clip['verdict']}" + "".join(f"; {each}" for each in words)


def main() -> None:
    """Film, check, track, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the films")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    speech = synthesize(SENTENCES, rate_wpm=180)
    closures = said_closures(speech)

    print("| picture | face | aperture_r | width_r | closures | lag_ms | check |")
    for k, (name, picture) in enumerate(PICTURES.items()):
        path = args.out / f"picture{k}.mp4"
        film(path, picture, speech, speech.samples)
        words, track = told(path), face_track(probe(path))
        mouth = track_of(track)  # between frames, too: as a training hears of it
        times_s, seen = mouth.times_s[mouth.valid], mouth.measure(aperture)[mouth.valid]
        asked = articulate(speech.phones, times_s)
        lag_s = lag_of(times_s, seen, lambda at: articulate(speech.phones, at)[:, 0])
        deep = depth(times_s - lag_s, seen, closures) / depth(times_s, asked[:, 0], closures)
        wide = mouth.measure(width)[mouth.valid]
        r, width_r = np.corrcoef(seen, asked[:, 0])[0, 1], np.corrcoef(wide, asked[:, 1])[0, 1]
        face = f"{track.found.mean():.0%}"
        print(f"| {name} | {face} | {r:.3f} | {width_r:.3f} | {deep:.2f} | {1000 * lag_s:.0f} | {words} |", flush=True)

    speaker = track_of(face_track(probe(args.out / "picture0.mp4"))).speaker
    print("| sound | aperture_r | check |")
    for k, (name, spoil) in enumerate(SOUNDS.items()):
        path = args.out / f"sound{k}.mp4"
        film(path, Picture(size=256), speech, spoil(speech.samples, speech.rate_hz))
        said = predict_mouth(base_model(), read_speech(probe(path)), speaker)
        asked = articulate(speech.phones, said.times_s)[:, 0]
        print(f"| {name} | {np.corrcoef(said.measure(aperture), asked)[0, 1]:.3f} | {told(path)} |", flush=True)


if __name__ == "__main__":
    main()
