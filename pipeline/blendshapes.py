"""Face or mouth → ARKit blendshapes, as an animator's rig takes them.

Measured in a video, they are MediaPipe's. Predicted, they are the model's where it was trained on footage; the base model has
seen none, and its mouth is translated by a few formulas, whose numbers are the rule table's (`lipwright.data.articulation`).
A linear map fitted on the synthetic talker was no better on real people: `docs/formats.md`, "Blendshapes".
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from lipwright.data.articulation import RANGES, REST_WIDTH
from lipwright.data.audio import Speech
from lipwright.data.face_space import fit_pose
from lipwright.data.features import compute_features
from lipwright.data.landmarker import BLENDSHAPE_NAMES
from lipwright.data.landmarks import FaceTrack
from lipwright.data.mouth import MouthTrack, Speaker, aperture, width
from lipwright.models.lipsync import LipSync
from lipwright.pipeline.predict import feature_settings

WIDEST_APERTURE = RANGES[0][1]
NARROWEST, WIDEST = RANGES[1][0] - REST_WIDTH, RANGES[1][1] - REST_WIDTH
"""Ends of the rule table, from the mouth at rest."""

OPEN_JAW = 1.0
"""jawOpen per eye distance of opening, and of the lips that part, as MediaPipe reads the synthetic talker."""
LOWER_LIP, UPPER_LIP = 1.1, 0.4


TOLD = np.array([name.startswith(("mouth", "jaw")) for name in BLENDSHAPE_NAMES])
TOLD_NAMES = tuple(name for name, told in zip(BLENDSHAPE_NAMES, TOLD, strict=True) if told)
"""What sound tells of: nothing of eyes and brows."""


def shapes_of_mouth(mouth: MouthTrack) -> np.ndarray:
    """Translate a mouth to blendshapes, (T, 52) float32 in [0, 1], in MediaPipe's order (`shapes_of_lips`)."""
    return shapes_of_lips(mouth.measure(aperture), mouth.measure(width), mouth.speaker)


def shapes_of_lips(apertures: np.ndarray, widths: np.ndarray, speaker: Speaker) -> np.ndarray:
    """Translate how far a mouth opens, and how wide it is, (T,), to blendshapes, (T, 52) float32 in [0, 1].

    A narrow mouth is pursed while it is shut (pucker) and a ring as it opens (funnel); a wide one is drawn half by what
    stretches it and half by a smile. What its outline does not tell stays 0.
    """
    opening = np.maximum(apertures - aperture(speaker.neutral), 0)
    spread = widths - width(speaker.neutral)
    narrow, wide = np.clip(spread / NARROWEST, 0, 1), np.clip(spread / WIDEST, 0, 1)
    ring = np.clip(opening / WIDEST_APERTURE, 0, 1)
    curves = {
        "jawOpen": OPEN_JAW * opening,
        "mouthPucker": narrow * (1 - ring),
        "mouthFunnel": narrow * ring,
        "mouthStretch": wide / 2,
        "mouthSmile": wide / 2,
        "mouthLowerDown": LOWER_LIP * opening,
        "mouthUpperUp": UPPER_LIP * opening,
    }
    out = np.zeros((len(opening), len(BLENDSHAPE_NAMES)), np.float32)
    for k, name in enumerate(BLENDSHAPE_NAMES):
        curve = curves.get(name.removesuffix("Left").removesuffix("Right"))
        if curve is not None:
            out[:, k] = np.clip(curve, 0, 1)
    return out


def predict_shapes(lipsync: LipSync, samples: Speech, mouth: MouthTrack) -> np.ndarray:
    """Return the blendshapes (T, 52) of a predicted mouth: mouth and jaw alone (`TOLD`)."""
    if not lipsync.config.blendshapes:
        return shapes_of_mouth(mouth)
    with threadpool_limits(1):
        said = lipsync.predict_blendshapes(compute_features(samples, feature_settings(lipsync)))
    return np.where(TOLD, said, 0).astype(np.float32)


IRISES = {"Left": (473, 362, 263), "Right": (468, 133, 33)}
"""Points of the middle of an iris and of the corners of the eye, by the person's sides."""
EYEBALL = 0.13
"""Radius of an eyeball in face space: 12 mm, where the outer corners of the eyes are 90 mm apart."""


def gazes(face: FaceTrack) -> dict[str, np.ndarray]:
    """Return where each eye looks from the head, (F, 2) radians: yaw to the picture's right and pitch downwards; NaN unseen."""

    def each(points: np.ndarray) -> np.ndarray:
        xyz = fit_pose(points).to_face(points.astype(np.float64))
        sides = [(xyz[:, iris] - (xyz[:, a] + xyz[:, b]) / 2)[:, :2] for iris, a, b in IRISES.values()]
        return np.arcsin(np.clip(np.stack(sides, 1) / EYEBALL, -1, 1))

    looks = face.measure(each)  # (F, 2 eyes, 2)
    return {side: looks[:, k] for k, side in enumerate(IRISES)}
