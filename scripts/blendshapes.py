"""Judge how a mouth is translated to ARKit blendshapes, on real people: the table of `docs/formats.md`, "Blendshapes".

    python scripts/blendshapes.py VIDEO... [--model RUN --start-s S]

Truth is what MediaPipe reads in each frame. The formulas of `lipwright.pipeline.blendshapes` are given the measured mouth, then
the one that the base model predicts from the sound; beside them stands a ridge regression fitted on the synthetic talker, from
the 40 lip points to MediaPipe's blendshapes. What a model that was trained on footage says itself is judged on what comes
after. Prints JSON: correlations and ratios of standard deviations, medians over the videos; and how the irises' gaze goes with
the blendshapes of looking. Needs the extra ``base``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from lipwright.data.articulation import articulate
from lipwright.data.audio import read_speech
from lipwright.data.follower import track_images
from lipwright.data.landmarker import BLENDSHAPE_NAMES
from lipwright.data.landmarks import face_track
from lipwright.data.media import probe
from lipwright.data.mouth import MouthTrack, interpolate, measure_speaker, track_of
from lipwright.data.recital import recite
from lipwright.data.talker import Talker, astronaut
from lipwright.pipeline.blendshapes import gazes, predict_shapes, shapes_of_mouth
from lipwright.pipeline.predict import load_model, predict_mouth

NAMES = [
    *("jawOpen", "mouthPucker", "mouthFunnel", "mouthStretchLeft", "mouthSmileLeft", "mouthLowerDownLeft", "mouthUpperUpLeft"),
    *("mouthClose", "mouthPressLeft", "mouthRollLower", "mouthShrugLower"),
]
PENALTY = 30.0
TALK_S, TALK_HZ = 20.0, 25


def relative(mouth: MouthTrack) -> np.ndarray:
    """Return the lip points relative to the speaker, (T, 120)."""
    return np.asarray(mouth.measure(lambda xyz: mouth.speaker.normalise(xyz, 0.2).reshape(len(xyz), -1)))


def fit_talker() -> Callable[[MouthTrack], np.ndarray]:
    """Return the map from mouths to blendshapes that the synthetic talker teaches."""
    from sklearn.linear_model import Ridge

    talker = Talker.from_photo(astronaut(384))
    mouths, shapes = [], []
    for number in range(4):
        spoken = articulate(recite(7000 + number, TALK_S, 4).phones, np.arange(0, TALK_S, 1 / TALK_HZ))
        images = ((Fraction(k, TALK_HZ), np.ascontiguousarray(talker.frame(m)[..., ::-1])) for k, m in enumerate(spoken))
        shapes.append(track_images(images)[1])
        mouths.append(talker.lips.points(spoken))
    xyz, told = np.concatenate(mouths), np.concatenate(shapes)
    seen = np.isfinite(told[:, 0])
    mouth = MouthTrack(xyz, seen, measure_speaker(xyz))
    ridge = Ridge(PENALTY).fit(relative(mouth)[seen], told[seen])
    return lambda other: np.asarray(ridge.predict(relative(other)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's r; not a number where either does not move."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, help="trained on the first part of the video")
    parser.add_argument("--start-s", type=float, default=0.0, help="judge from here on")
    args = parser.parse_args()
    own_model = load_model(args.model) if args.model else None
    ways = {"formulas": shapes_of_mouth, "talker": fit_talker()}
    model = load_model()
    found: dict[tuple[str, str], list[float]] = {}
    for path in args.videos:
        media = probe(path)
        face = face_track(media)
        measured = track_of(face)
        samples = read_speech(media)
        predicted = predict_mouth(model, samples, measured.speaker)
        steps = min(len(measured.valid), len(predicted.valid))
        truth, known = interpolate(face.times_s, face.blendshapes[: len(face.pts)], face.found, measured.times_s)
        valid = (known & measured.valid & (measured.times_s >= args.start_s))[:steps]
        said = {
            f"{source} {way}": shapes(mouth)
            for source, mouth in (("measured", measured), ("predicted", predicted))
            for way, shapes in ways.items()
        }
        if own_model:
            said["own model"] = predict_shapes(own_model, samples, predicted)
        for way, shapes in said.items():
            for name in NAMES:
                k = BLENDSHAPE_NAMES.index(name)
                own, right = shapes[:steps][valid][:, k], truth[:steps][valid][:, k]
                found.setdefault((name, way), []).append(correlation(own, right))
                found.setdefault((name, f"{way} gain"), []).append(float(own.std() / max(right.std(), 1e-6)))
        seen, looks = face.found, gazes(face)
        shape = {name: face.blendshapes[: len(face.pts)][:, k] for k, name in enumerate(BLENDSHAPE_NAMES)}
        for side, out in (("Left", 1), ("Right", -1)):  # the left eye looks out to the picture's right
            yaw = out * (shape[f"eyeLookOut{side}"] - shape[f"eyeLookIn{side}"])
            pitch = shape[f"eyeLookDown{side}"] - shape[f"eyeLookUp{side}"]
            for name, k, curve in (("yaw", 0, yaw), ("pitch", 1, pitch)):
                found.setdefault((f"gaze {name}", side), []).append(correlation(looks[side][seen, k], curve[seen]))
    for name in dict.fromkeys(name for name, _ in found):
        row = {way: round(float(np.median(values)), 2) for (own, way), values in found.items() if own == name}
        print(json.dumps({"blendshape": name} | row))


if __name__ == "__main__":
    main()
