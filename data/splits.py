"""Which part of a corpus is trained on, and which part judges: the last of each speaker's time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

LEAST_SPLIT_S = 14.0
"""Of a speaker with less, the validation part would be shorter than a second; it is on one side, whole."""

VALIDATION_SHARE = 0.15
"""The last part of each speaker's time, kept for validation; of many speakers with little time, so many."""

SPLIT_GAP_S = 1.0
"""Between what is trained on and what is validated on, so that they share no sound."""


def assign_splits(rows: Iterable[dict[str, Any]]) -> None:
    """Give each row of a manifest its ``split``: the spans, in seconds of its source, to train on and to validate on.

    Parameters
    ----------
    rows
        In the manifest's order; those that cannot be used get None.
    """
    by_speaker = defaultdict(list)
    for row in rows:
        row["split"] = None
        if row["status"] == "ok":
            by_speaker[row["speaker"]].append(row)
    heard_s = judged_s = 0.0  # of speakers who are too short to be split
    for own in by_speaker.values():
        time_s = sum(r["end_s"] - r["start_s"] for r in own)
        if time_s < LEAST_SPLIT_S:
            heard_s += time_s
            judges = judged_s + time_s <= VALIDATION_SHARE * heard_s
            judged_s += time_s * judges
            for row in own:
                span = [row["start_s"], row["end_s"]]
                row["split"] = {"train": None if judges else span, "validation": span if judges else None}
            continue
        border = (1 - VALIDATION_SHARE) * time_s
        before = 0.0
        for row in own:
            start, end = row["start_s"], row["end_s"]
            cut = start + border - before
            before += end - start
            row["split"] = {
                "train": _span(start, min(end, cut)),
                "validation": _span(max(start, cut + SPLIT_GAP_S), end),
            }


def _span(start_s: float, end_s: float) -> list[float] | None:
    return [round(start_s, 3), round(end_s, 3)] if end_s > start_s else None
