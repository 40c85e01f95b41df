"""What rows of a manifest add up to, and the words for it: the same in the report and on the command line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

from lipwright.data.manifest import Row


def length_s(rows: Iterable[Row]) -> float:
    """Return how long segments are together."""
    return float(sum(row["end_s"] - row["start_s"] for row in rows))


def split_s(rows: Iterable[Row], part: str) -> float:
    """Return how much of usable segments is for ``train`` or for ``validation``."""
    spans = (row["split"][part] for row in rows)
    return float(sum(span[1] - span[0] for span in spans if span))


def by_reason(left: Iterable[Row]) -> list[tuple[str, float]]:
    """Add up the seconds left out for each reason, most first."""
    lengths: dict[str, float] = defaultdict(float)
    for row in left:
        lengths[row["reason"]] += row["end_s"] - row["start_s"]
    return sorted(lengths.items(), key=lambda item: -item[1])


def by_speaker(usable: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Group segments by who speaks, most time first."""
    own: dict[str, list[Row]] = defaultdict(list)
    for row in usable:
        own[row["speaker"]].append(row)
    return sorted(own.items(), key=lambda item: -length_s(item[1]))


def in_time(seconds: float) -> str:
    """Say how long something lasts."""
    whole = round(seconds)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def span(row: Row) -> str:
    """Say where in its source a segment lies, in minutes and seconds."""
    if row["start_s"] is None:
        return "the whole video"
    start, end = round(10 * row["start_s"]), round(10 * row["end_s"])
    return f"{start // 600}:{start % 600 / 10:04.1f}–{end // 600}:{end % 600 / 10:04.1f}"


@cache
def per_second(rate: str | None) -> str:
    """Say a frame rate as people do: 29.97."""
    return "–" if rate is None else rate if rate == "variable" else f"{float(Fraction(rate)):.5g}"


def why(row: Row) -> str:
    """Return the reason; of a rejected source without the file's name that the sentence begins with."""
    before, name, after = row["reason"].partition(Path(row["path"]).name)
    return str((after if name and row["start_s"] is None else before + name + after).strip())


def many(count: int, what: str) -> str:
    """Say how many there are of something."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
