"""Find the lag of real videos, shifted or with another's sound: the tables of `docs/corpora.md`.

    python scripts/lags.py VIDEO... [--window-s 20]

Every video is cut into windows. In each, sound is moved against picture by known amounts, and the lag is looked for; then the
sound of the other videos is put under it. Prints one row per video and one in all, as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from lipwright.data.audio import read_speech
from lipwright.data.features import HOP, STEP_HZ
from lipwright.data.landmarks import face_track
from lipwright.data.media import probe
from lipwright.data.mouth import aperture, interpolate, measure_mouth, measure_speaker
from lipwright.data.segments import usable_frames
from lipwright.data.sync import CONFIDENT, find_lag
from lipwright.pipeline.predict import load_model, predict_mouth

SHIFTS_MS = (-400, -120, -80, 80, 120, 400)
CLOSE_MS = 30


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--window-s", type=int, default=20)
    args = parser.parse_args()
    model, size = load_model(), args.window_s * STEP_HZ
    series = {}
    for path in args.videos:
        media = probe(path)
        track, samples = face_track(media), read_speech(media)
        mouth, (usable, _) = measure_mouth(track), usable_frames(track)
        xyz, valid = interpolate(track.times_s, mouth, usable, np.arange(1 + len(samples) // HOP) / STEP_HZ)
        said = predict_mouth(model, samples, measure_speaker(mouth[usable])).measure(aperture)
        series[path.stem] = said, aperture(xyz), valid
    rows = []
    for name, (said, measured, valid) in series.items():
        own, missed, tried, others = [], 0, 0, []
        for start in range(0, len(said) - size + 1, size):
            window = slice(start, start + size)
            lag = find_lag(said[window], measured[window], valid[window])
            if lag is None:
                continue
            own.append(lag)
            for shift_ms in SHIFTS_MS:
                moved = find_lag(np.roll(said[window], -shift_ms * STEP_HZ // 1000), measured[window], valid[window])
                missed += moved is None or abs(moved.lag_ms - lag.lag_ms - shift_ms) > CLOSE_MS
                tried += 1
            sounds = [other[:size] for n, (other, _, _) in series.items() if n != name and len(other) >= size]
            foreign = [find_lag(sound, measured[window], valid[window]) for sound in sounds]
            others += [lag.confidence for lag in foreign if lag is not None]
        if own:
            rows.append(
                {
                    "video": name,
                    "lag_ms": [lag.lag_ms for lag in own],
                    "confidence": [lag.confidence for lag in own],
                    "shifts_missed": missed,
                    "shifts_tried": tried,
                    "others_confidence": others,
                }
            )
            print(json.dumps(rows[-1] | {"others_confidence": max(others, default=None)}))
    ours = np.array([c for row in rows for c in row["confidence"]])
    others = np.array([c for row in rows for c in row["others_confidence"]])
    tried = sum(row["shifts_tried"] for row in rows)
    found = 1 - sum(row["shifts_missed"] for row in rows) / tried
    print(
        json.dumps(
            {
                "windows": len(ours),
                f"shifts_found_within_{CLOSE_MS}_ms": round(found, 3),
                "confident": round(float((ours >= CONFIDENT).mean()), 3),
                "others": len(others),
                "others_confident": round(float((others >= CONFIDENT).mean()), 4),
                "others_confidence_99": round(float(np.percentile(others, 99)), 2),
                "others_confidence_most": float(others.max()),
            }
        )
    )


if __name__ == "__main__":
    main()
