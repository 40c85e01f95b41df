"""Curves over time: a row per step of 10 ms, for spreadsheets, scripts and rigs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lipwright.data.features import STEP_HZ
from lipwright.data.files import whole_file
from lipwright.data.mouth import LIPS, aperture, protrusion, width
from lipwright.data.rows import BLOCK
from lipwright.pipeline.formats.take import Take
from lipwright.pipeline.visemes import OCULUS

MEASURES = ("aperture", "openness", "width", "protrusion")
COLUMNS = ("time_s", "valid", *MEASURES, *(f"{axis}{point}" for point in LIPS for axis in "xyz"))

Row = list[float | bool | None]


def rows_of(take: Take) -> Iterator[Row]:
    """Yield the rows of `COLUMNS`; where the mouth is not known, nothing but the time and that."""
    mouth = take.mouth
    for k in range(0, take.steps, BLOCK):
        times_s, xyz = mouth.steps(k, min(k + BLOCK, take.steps))
        opening = aperture(xyz)
        openness = mouth.speaker.openness(opening)
        values = np.column_stack([opening, openness, width(xyz), protrusion(xyz), xyz.reshape(len(xyz), -1)])
        values[~mouth.valid[k : k + BLOCK]] = np.nan
        for time_s, valid, row in zip(times_s, mouth.valid[k:], np.round(values.astype(np.float64), 5).tolist(), strict=False):
            yield [round(float(time_s), 2), bool(valid), *(None if value != value else value for value in row)]


def write_csv(take: Take, out: Path) -> None:
    """Write the curves as CSV, RFC 4180: a head, then rows; empty where the mouth is not known."""
    with whole_file(out) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for time_s, valid, *values in rows_of(take):
            writer.writerow([time_s, int(bool(valid)), *values])


def write_json(take: Take, out: Path) -> None:
    """Write the curves as one JSON document, format ``lipwright-curves``, version 1: null where the mouth is not known."""
    head = {
        "format": "lipwright-curves",
        "version": 1,
        "source": take.name,
        "step_hz": STEP_HZ,
        "duration_s": take.duration_s,
        "scale": take.mouth.speaker.scale,
        "columns": COLUMNS,
    }
    with whole_file(out) as partial, partial.open("w") as file:
        file.write(f'{json.dumps(head)[:-1]}, "rows": [')
        for k, row in enumerate(rows_of(take)):
            file.write((",\n" if k else "\n") + json.dumps(row, allow_nan=False))
        file.write("\n]}\n")


def write_oculus(take: Take, out: Path) -> None:
    """Write the weights of the 15 Oculus visemes as CSV; each row sums to 1."""
    with whole_file(out) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time_s", *OCULUS.names])
        for k, weights in enumerate(OCULUS.weigh(take.sounds)):
            writer.writerow([f"{k / STEP_HZ:.2f}", *(f"{weight:.4f}" for weight in weights)])
