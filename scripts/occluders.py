"""Draw hands and microphones before mouths, and see what the tracker makes of it: the tables of `docs/corpora.md`.

    python scripts/occluders.py VIDEO...

Twelve seconds of each video are tracked as they are, and with a hand of the face's own colour or a dark microphone that comes
up before the mouth and goes again. Measures of a wrong mouth are then computed on the whole clip with the hidden mouths in it;
each has the threshold that 0.5 % of the clip's clean frames exceed. What is told while tracking, by pixels, needs none: its
false alarms are those of the clean clip, of all frames and of those that are open widest. Last, a photograph speaks with open
and with closed eyes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from lipwright.data.articulation import articulate
from lipwright.data.face_space import ANCHORS, CANONICAL, Pose, fit_pose
from lipwright.data.faces import nearest
from lipwright.data.follower import lasting, track_images
from lipwright.data.landmarker import Landmarker
from lipwright.data.landmarks import COMES_S, face_track
from lipwright.data.lower_face import SIDE, find_hidden, small_faces
from lipwright.data.media import probe, read_frames
from lipwright.data.mouth import LIPS, aperture, width
from lipwright.data.segments import usable_frames
from lipwright.data.speech import synthesize
from lipwright.data.talker import Talker, astronaut

FIRST_S, SECONDS, PERIOD_S = 3.0, 12.0, 2.4
FALSE_ALARMS = 0.005
COMPONENTS = 6
JAW_OPEN, CHIN, LOWER_LIP = 25, 152, 17
CHEEKS = 50, 280
PX = 115
"""Of a drawn thing, to a unit of face space."""


def draw_microphone() -> np.ndarray:
    """Return it with its opacity, (300, 240, 4) float32, premultiplied."""
    y, x = np.mgrid[:300, :240].astype(np.float32)
    head = ((x - 120) / 38) ** 2 + ((y - 100) / 46) ** 2 < 1
    grain = 14 * ((np.floor(x / 4) + np.floor(y / 4)) % 2) * head
    shade = 25 + 35 * np.exp(-(((x - 105) / 20) ** 2) - ((y - 85) / 25) ** 2) + grain
    return _cut(head | ((np.abs(x - 120) < 20) & (y > 120)), np.repeat(shade[..., None], 3, 2))


def draw_hand(skin: np.ndarray) -> np.ndarray:
    """Return it with its opacity, as `draw_microphone`."""
    shape, creases = np.zeros((2, 300, 240), np.uint8)
    for k in range(4):
        cv2.line(shape, (48, 75 + k * 23), (175, 72 + k * 25), 255, 23)
        cv2.line(creases, (40, 86 + k * 24), (160, 84 + k * 25), 255, 2)
    cv2.ellipse(shape, (185, 115), (52, 62), 0, 0, 360, 255, -1)
    cv2.line(shape, (185, 140), (215, 299), 255, 70)
    light = 0.95 + 0.1 * np.sin(np.arange(240) / 60) - 0.25 * cv2.GaussianBlur(creases / 255.0, (0, 0), 2)
    return _cut(shape > 0, light[..., None] * skin)


def _cut(inside: np.ndarray, colours: np.ndarray) -> np.ndarray:
    opacity = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.5)[..., None]
    return np.concatenate([colours * opacity, opacity], 2).astype(np.float32)


def cover(rgb: np.ndarray, pose: Pose, skin: np.ndarray, time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Put before the mouth what is there at the time; return the picture and the thing's opacity (H, W)."""
    count, into_s = divmod(time_s - FIRST_S, PERIOD_S)
    risen = np.clip(min(into_s - 0.9, 2.3 - into_s) / 0.3, 0, 1) * (1, 1, 0.75, 0.75, 1)[int(count) % 5]
    high, wide = rgb.shape[:2]
    if risen == 0:
        return rgb, np.zeros((high, wide), np.float32)
    thing, middle = (draw_hand(skin), (115, 110)) if count % 2 == 0 else (draw_microphone(), (120, 100))
    turn = pose.scale[0] * pose.rotation[0][:2] / PX
    at = turn @ (PX * np.array([0, 0.82 + 1.3 * (1 - risen), -0.4])) + pose.shift[0, :2] - turn[:, :2] @ middle
    drawn = cv2.warpAffine(thing, np.column_stack([turn[:, :2], at]), (wide, high), flags=cv2.INTER_AREA)
    return (rgb * (1 - drawn[..., 3:]) + drawn[..., :3] + 0.5).astype(np.uint8), drawn[..., 3]


def explained(xyz: np.ndarray) -> np.ndarray:
    """Return how far mouths lie from the components of most of them, (F,)."""
    flat = xyz.reshape(len(xyz), -1).astype(np.float64)
    kept, far = np.ones(len(flat), bool), np.zeros(len(flat))
    for _ in range(3):
        middle = flat[kept].mean(0)
        basis = np.linalg.svd(flat[kept] - middle, full_matrices=False)[2][:COMPONENTS]
        off = flat - middle
        far = np.linalg.norm(off - off @ basis.T @ basis, axis=1)
        kept = far <= np.quantile(far, 0.9)
    return far


def measures(points: np.ndarray, blendshapes: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what may tell a wrong mouth, each (F,)."""
    pose = fit_pose(points)
    xyz = pose.to_face(points[:, LIPS].astype(np.float64))
    still = pose.to_face(points[:, ANCHORS].astype(np.float64)) - list(CANONICAL.values())
    moved = np.linalg.norm(np.diff(xyz, axis=0, prepend=xyz[:1]), axis=-1).mean(1)
    chin = np.linalg.norm(np.diff(pose.to_face(points[:, [CHIN, LOWER_LIP]].astype(np.float64)), axis=1)[:, 0], axis=-1)
    opening, jaw = aperture(xyz), blendshapes[:, JAW_OPEN]
    return {
        "rigid fit": np.linalg.norm(still, axis=-1).mean(1),
        "jump": moved,
        "chin to lip": np.abs(chin - np.median(chin)),
        "jaw to lips": np.abs(opening - np.polyval(np.polyfit(jaw, opening, 1), jaw)),
        "components": explained(xyz),
    }


def judge(path: Path) -> dict[str, float]:
    """Hide the mouth of a video now and then."""
    media = probe(path)
    track = face_track(media)
    nothing = np.zeros(len(track.pts), bool)
    track = replace(track, points=track.points[:], blendshapes=track.blendshapes[:], hidden=nothing)
    usable, _ = usable_frames(track)
    inside = usable & (track.times_s >= FIRST_S) & (track.times_s < FIRST_S + SECONDS)
    rows, points, shapes, shares = [], [], [], []
    lower = np.zeros((2, len(usable), SIDE, SIDE, 3), np.uint8)
    skin: np.ndarray | None = None
    with Landmarker() as find:
        for frame in read_frames(media):
            if not usable[frame.index]:
                continue
            rgb, known = frame.rgb(), track.points[frame.index]
            lower[:, frame.index] = small_faces(rgb, known[None])
            if not inside[frame.index]:
                continue
            if skin is None:
                skin = np.mean([rgb[y - 3 : y + 4, x - 3 : x + 4] for x, y in known[list(CHEEKS), :2].astype(int)], (0, 1, 2))
            seen, opacity = cover(rgb, fit_pose(known[None]), skin, float(frame.time))
            lips = cv2.fillConvexPoly(np.zeros(opacity.shape, np.uint8), cv2.convexHull(known[LIPS, :2].astype(np.int32)), 1)
            faces, scores = find(seen, float(frame.time))
            if len(faces):
                k = nearest(faces, known)
                rows.append(frame.index)
                points.append(faces[k])
                shapes.append(scores[k])
                lower[1, frame.index] = small_faces(seen, faces[k][None])
                shares.append(float((opacity * lips).sum() / max(lips.sum(), 1)))
    clean = measures(track.points[usable], track.blendshapes[usable])
    mixed_points, mixed_shapes = track.points.copy(), track.blendshapes.copy()
    mixed_points[rows], mixed_shapes[rows] = points, shapes
    mixed = measures(mixed_points[usable], mixed_shapes[usable])
    told, alarms = (
        lasting(find_hidden(faces, points, usable, track.shots), track.times_s, COMES_S)
        for faces, points in zip(lower[::-1], (mixed_points, track.points), strict=True)
    )
    opening = aperture(fit_pose(track.points).to_face(track.points[:, LIPS].astype(np.float64)))
    widest = usable & (opening >= np.quantile(opening[usable], 0.9))
    at = np.searchsorted(np.flatnonzero(usable), rows)
    hidden = np.array(shares) > 0.5
    xyz, truth = (
        fit_pose(p).to_face(p[:, LIPS].astype(np.float64)) for p in (np.array(points), track.points[rows].astype(np.float64))
    )
    off = np.linalg.norm(xyz - truth, axis=-1).mean(1)
    scale = np.diff(np.percentile(aperture(truth), (5, 90)))[0]
    out = {
        "hidden": float(hidden.sum()),
        "not found": float(inside.sum() - len(rows)),
        "lmd": float(off[hidden].mean()),
        "lmd of the rest": float(off[np.array(shares) == 0].mean()),
        "aperture off, scales": float(np.abs(aperture(xyz) - aperture(truth))[hidden].mean() / scale),
    }
    for name, values in mixed.items():
        out[name] = float((values[at][hidden] > np.quantile(clean[name], 1 - FALSE_ALARMS)).mean())
    return out | {
        "pixels": float(told[rows][hidden].mean()),
        "false alarms of pixels": float(alarms[usable].mean()),
        "of the widest tenth": float(alarms[widest].mean()),
    }


def judge_blinks() -> dict[str, float]:
    """Let a photograph speak with open eyes, and with eyes that close every second."""
    speech = synthesize("My mother may buy five big blue boats, and Bob will pop up above the open bay by half past one.")
    times = [Fraction(k, 25) for k in range(int(25 * speech.duration_s))]
    times_s = np.array([float(t) for t in times])
    blinks = np.clip(2 - np.abs(times_s % 1.0 - 0.5) / 0.06, 0, 1)
    talker, said = Talker.from_photo(astronaut(512)), articulate(speech.phones, times_s)

    def read(closed: np.ndarray) -> np.ndarray:
        shown = (talker.frame(row, blink=float(blink))[..., ::-1] for row, blink in zip(said, closed, strict=True))
        points, _ = track_images((time, np.ascontiguousarray(rgb)) for time, rgb in zip(times, shown, strict=True))
        return fit_pose(points).to_face(points[:, LIPS].astype(np.float64))

    awake, blinking = read(np.zeros(len(times))), read(blinks)
    shut, spread = blinks > 0.9, {f.__name__: float(np.std(f(awake))) for f in (aperture, width)}
    return {
        f"{f.__name__}, deviations": float(np.abs(f(blinking) - f(awake))[shut].mean() / spread[f.__name__])
        for f in (aperture, width)
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    args = parser.parse_args()
    for path in args.videos:
        numbers = judge(path)
        print(f"| {path.stem} |", " | ".join(f"{name} {value:.3g}" for name, value in numbers.items()), "|", flush=True)
    print("| closed eyes |", " | ".join(f"{name} {value:.3g}" for name, value in judge_blinks().items()), "|")


if __name__ == "__main__":
    main()
