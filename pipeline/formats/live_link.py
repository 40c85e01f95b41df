"""ARKit blendshapes as CSV, as Epic's Live Link Face writes a recording: 60 frames a second, and where head and eyes look.

Its readers (Unreal, Faceit for Blender, Maya and MotionBuilder importers) take columns by their names and in this order.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from lipwright.data.features import STEP_HZ
from lipwright.data.files import whole_file
from lipwright.data.landmarker import BLENDSHAPE_NAMES
from lipwright.data.mouth import interpolate
from lipwright.pipeline.blendshapes import gazes, predict_shapes
from lipwright.pipeline.formats.take import Take

RATE_HZ = 60

SHAPES = (
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft", "EyeSquintLeft", "EyeWideLeft",
    "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight", "EyeLookOutRight", "EyeLookUpRight", "EyeSquintRight",
    "EyeWideRight", "JawForward", "JawRight", "JawLeft", "JawOpen", "MouthClose", "MouthFunnel", "MouthPucker", "MouthRight",
    "MouthLeft", "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft", "MouthFrownRight", "MouthDimpleLeft",
    "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight", "MouthRollLower", "MouthRollUpper", "MouthShrugLower",
    "MouthShrugUpper", "MouthPressLeft", "MouthPressRight", "MouthLowerDownLeft", "MouthLowerDownRight", "MouthUpperUpLeft",
    "MouthUpperUpRight", "BrowDownLeft", "BrowDownRight", "BrowInnerUp", "BrowOuterUpLeft", "BrowOuterUpRight", "CheekPuff",
    "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft", "NoseSneerRight", "TongueOut",
)  # fmt: skip
ANGLES = (
    "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch",
    "RightEyeRoll",
)  # fmt: skip
COLUMNS = ("Timecode", "BlendShapeCount", *SHAPES, *ANGLES)

_SOURCE = {name[0].upper() + name[1:]: k for k, name in enumerate(BLENDSHAPE_NAMES)}


def write_live_link(take: Take, out: Path) -> None:
    """Write a take; a row without a face has a count of 0, as where Live Link Face lost it.

    Angles are radians: yaw to the picture's right, pitch downwards, roll clockwise.
    """
    times_s = np.arange(int(take.duration_s * RATE_HZ) + 1) / RATE_HZ
    values, known = _sampled(take, times_s)
    with whole_file(out) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for k, (row, there) in enumerate(zip(values, known, strict=True)):
            writer.writerow([timecode(k), len(row) if there else 0, *(f"{value:.6f}" for value in row)])


def timecode(frame: int) -> str:
    """Return HH:MM:SS:FF.fff of a frame; the last three digits are thousandths of a frame."""
    seconds, rest = divmod(frame, RATE_HZ)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{rest:02}.000"


def _sampled(take: Take, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (N, 61) at some times, 0 where the face is not known, and where it is (N,)."""
    if take.face is None:
        assert take.lipsync is not None
        assert take.samples is not None
        given_s, valid = np.arange(take.steps) / STEP_HZ, take.mouth.valid
        shapes, angles = predict_shapes(take.lipsync, take.samples, take.mouth), np.zeros((take.steps, len(ANGLES)))
    else:
        given_s, valid = take.face.times_s, take.face.found
        shapes, angles = take.face.blendshapes[: len(given_s)], _angles(take)
    ordered = [shapes[:, _SOURCE[name]] if name in _SOURCE else np.zeros(len(shapes)) for name in SHAPES]
    return interpolate(given_s, np.column_stack([*ordered, angles]), valid, at_s)


def _angles(take: Take) -> np.ndarray:
    """Return the angles of head and eyes in each frame, (F, 9) radians."""
    face = take.face
    assert face is not None
    turn, looks = face.pose.rotation, gazes(face)
    roll, still = np.arctan2(turn[:, 1, 0], turn[:, 0, 0]), np.zeros(len(turn))
    head = [*np.radians(face.pose.angles_deg()).T, roll]
    return np.column_stack([*head, *looks["Left"].T, still, *looks["Right"].T, still])
