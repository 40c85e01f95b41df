"""Corpus → report: a page that shows what was taken from the footage, what was left out, and why.

One file that fetches nothing: pictures, sound, style and script are inside of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path

from lipwright.data.corpus import Corpus
from lipwright.data.features import STEP_HZ
from lipwright.data.files import whole_file
from lipwright.data.manifest import Row
from lipwright.data.segments import FLAWS, NO_SOUND, OTHER_SOUND, SHORT
from lipwright.data.splits import VALIDATION_SHARE
from lipwright.data.sync import CONFIDENT
from lipwright.pipeline.charts import course, histogram, strip
from lipwright.pipeline.excerpts import Still, measure_clips, take_samples, take_stills
from lipwright.pipeline.intake import CORRECTED_FROM_S, ENDED, LEAST_CORRECTED_MS
from lipwright.pipeline.page import MOST_ROWS, box, compose, file_name, head, section, time_of
from lipwright.pipeline.tally import by_reason, by_speaker, length_s, many, per_second, span, split_s, why

REPORT = "report.html"

MOST_STILLS = 12
"""Of what was kept, and of what was left out."""

SAMPLES = 2

PAGE = Path(__file__).with_suffix(".html")


def is_current(corpus: Corpus) -> bool:
    """Return whether the report is there, and no older than the manifest that it tells of."""
    report, manifest = corpus.folder / REPORT, corpus.folder / "manifest.jsonl"
    return report.exists() and report.stat().st_mtime_ns >= manifest.stat().st_mtime_ns


def write_report(corpus: Corpus, hashes: Mapping[str, str] | None = None) -> Path:
    """Write `report.html` into a corpus folder, whole or not at all.

    Parameters
    ----------
    corpus
    hashes
        The sha256 of sources, by path, that have just been read; of others it is taken before they are shown.

    Returns
    -------
    Path
        Of the page.
    """
    known: dict[str, str | None] = {**(hashes or {})}
    sources: dict[str, list[Row]] = defaultdict(list)
    for row in corpus.rows:
        sources[row["path"]].append(row)
    rejected = [row for row in corpus.rows if row["start_s"] is None]
    left = [row for row in corpus.rows if row["status"] != "ok" and row["start_s"] is not None]
    cut = {path: rows for path, rows in sources.items() if rows[0]["start_s"] is not None}
    shown = [row for row in left + rejected if ENDED not in row["reason"]]  # that would end us, too
    sections = [
        _head(corpus, len(sources), rejected, left),
        _reasons(corpus.usable, left),
        _rejected(rejected),
        _stills("Kept", "From the middle of what was kept.", take_stills(corpus.usable, MOST_STILLS, known)),
        _stills("Left out", "From the middle of what was left out.", take_stills(shown, MOST_STILLS, known)),
        _samples(corpus),
        _measurements(corpus, cut),
        _speakers(corpus.usable),
        _sources(cut),
        _foot(corpus),
    ]
    page = compose(PAGE, f"{corpus.folder.resolve().name}: corpus report", sections)
    path = corpus.folder / REPORT
    with whole_file(path) as partial:
        partial.write_bytes(page)
    return path


# Words ----------------------------------------------------------------------------------------------------------------


def _share(part: float, of: float) -> str:
    return f"{part / of:.1%}" if of else "–"


def _why(row: Row) -> str:
    return escape(why(row))


def _style(reason: str | None) -> str:
    """Return the class that gives a reason its colour."""
    known = [*FLAWS, SHORT, NO_SOUND, OTHER_SOUND]
    return "kept" if reason is None else f"r{known.index(reason) if reason in known else len(known)}"


def _chip(reason: str | None) -> str:
    return f'<i class="chip {_style(reason)}"></i>'


def _more(count: int, what: str) -> str:
    return f'<p class="note after">{many(count, f"more {what}")}, in <code>manifest.jsonl</code>.</p>' if count > 0 else ""


# Sections -------------------------------------------------------------------------------------------------------------


def _head(corpus: Corpus, sources: int, rejected: Sequence[Row], left: Sequence[Row]) -> str:
    """Say the most important in two sentences, and in numbers."""
    usable = corpus.usable
    kept_s, left_s = length_s(usable), length_s(left)
    speakers = len({row["speaker"] for row in usable})
    of = f"{sources - len(rejected):,} of {many(sources, 'video')}"
    lede = f"{time_of(kept_s)} of speech by {many(speakers, 'speaker')}, from {of}."
    if not usable:
        lede = f"Nothing that can be learned from, in {many(sources, 'video')}."
    if left:
        lede += f" {time_of(left_s)} {'was' if left_s < 2 else 'were'} left out."
    if rejected:
        lede += f" {many(len(rejected), 'video')} cannot be used at all."
    numbers = [
        ("Kept", time_of(kept_s), _share(kept_s, kept_s + left_s)),
        ("Left out", time_of(left_s), _share(left_s, kept_s + left_s)),
        ("For training", time_of(split_s(usable, "train")), ""),
        ("For validation", time_of(split_s(usable, "validation")), ""),
        ("Videos", f"{sources:,}", f"{len(rejected):,} rejected"),
        ("Speakers", f"{speakers:,}", ""),
        ("Clips", f"{len(usable):,}", ""),
    ]
    return head("Corpus report", corpus.folder.resolve().name, lede, numbers)


def _reasons(usable: Sequence[Row], left: Sequence[Row]) -> str:
    """Draw the time kept and left out, by reason."""
    bars = [(None, length_s(usable)), *by_reason(left)]
    total, longest = sum(length for _, length in bars), max(length for _, length in bars)
    if not total:
        return ""
    rows = "".join(
        f'<tr><td class="name">{_chip(reason)}{escape(reason or "kept")}</td>'
        f'<td class="bar"><i class="{_style(reason)}" style="width:{100 * length / longest:.2f}%"></i></td>'
        f'<td class="n">{time_of(length)}</td><td class="n">{_share(length, total)}</td></tr>\n'
        for reason, length in bars
    )
    note = "Thick: kept. Thin: left out. The colours are the same all over this page."
    return section("Kept and left out", note, f'<table class="reasons">\n{rows}</table>')


def _rejected(rejected: Sequence[Row]) -> str:
    if not rejected:
        return ""
    rows = "".join(
        f'<tr><td class="name">{file_name(row["path"])}</td><td class="why">{_why(row)}</td></tr>\n'
        for row in rejected[:MOST_ROWS]
    )
    note = "Videos of which nothing can be used. Their time is not in the numbers above."
    table = f"<table><thead><tr><th>Video</th><th>Why</th></tr></thead>\n<tbody>{rows}</tbody></table>"
    return section("Rejected videos", note, box(table) + _more(len(rejected) - MOST_ROWS, "video"))


def _stills(title: str, note: str, stills: Sequence[Still]) -> str:
    if not stills:
        return ""
    figures = "\n".join(
        f'<figure><img src="{s.uri}" width="{s.width}" height="{s.height}" alt="">'
        f"<figcaption>{file_name(s.row['path'])}<br>{span(s.row)}"
        + (f"<br>{_chip(s.row['reason'] if s.row['start_s'] is not None else '')}{_why(s.row)}" if s.row["reason"] else "")
        + "</figcaption></figure>"
        for s in stills
    )
    return section(title, note, f'<div class="stills">\n{figures}\n</div>')


def _samples(corpus: Corpus) -> str:
    samples = take_samples(corpus, SAMPLES)
    if not samples:
        return ""
    figures = "\n".join(
        f'<figure class="sample" data-seconds="{len(s.opening) / STEP_HZ}">'
        f"{course({'kept': s.opening}, s.valid, 1 / STEP_HZ, loudness=s.loudness, what='opening of the mouth')}"
        f'<audio controls preload="metadata" src="{s.uri}"></audio><figcaption>{file_name(s.row["path"])}, '
        f"{span(s.row | {'start_s': s.start_s, 'end_s': s.start_s + len(s.opening) / STEP_HZ})}</figcaption></figure>"
        for s in samples
    )
    note = (
        "How far the mouth opens, in distances between the outer corners of the eyes, above how loud it is. "
        "Play it: lips that open with the vowels and close with b, m and p were well measured. Gaps: the mouth is not seen."
    )
    return section("See and hear", note, figures)


def _speakers(usable: Sequence[Row]) -> str:
    most_first = by_speaker(usable)
    if not most_first:
        return ""
    rows = "".join(
        f'<tr><td class="name"><bdi>{escape(speaker)}</bdi></td><td class="n">{len({r["path"] for r in rows}):,}</td>'
        f'<td class="n">{len(rows):,}</td><td class="n">{time_of(length_s(rows))}</td>'
        f'<td class="n">{time_of(split_s(rows, "train"))}</td><td class="n">{time_of(split_s(rows, "validation"))}</td></tr>\n'
        for speaker, rows in most_first[:MOST_ROWS]
    )
    heads = "".join(f'<th class="n">{name}</th>' for name in ("Videos", "Clips", "Kept", "Training", "Validation"))
    note = (
        f"The last {VALIDATION_SHARE:.0%} of each speaker's time, after a gap of a second, is for validation. Most time first."
    )
    table = f'<table class="speakers"><thead><tr><th>Speaker</th>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>'
    return section("Speakers", note, box(table) + _more(len(most_first) - MOST_ROWS, "speaker"))


def _sources(cut: dict[str, list[Row]]) -> str:
    """Tell of each video what was made of it, and where; those that lost most come first."""
    if not cut:
        return ""

    def lost(rows: list[Row]) -> float:
        return length_s(r for r in rows if r["status"] != "ok") / (length_s(rows) or 1)

    worst_first = sorted(cut.values(), key=lambda rows: (-lost(rows), rows[0]["path"]))
    bodies = "".join(_source(rows) for rows in worst_first[:MOST_ROWS])
    heads = "".join(f'<th class="n">{name}</th>' for name in ("Frames/s", "Kept", "Left out", "Face", "Lag"))
    note = (
        "Face: share of the frames whose face can be used. Lag: by how much the picture comes after the sound, and how sure "
        f"that is (in brackets; from {CONFIDENT:g} on it is). Those that lost most come first."
    )
    table = f'<table class="sources"><thead><tr><th>Video</th><th>Speaker</th>{heads}</tr></thead>\n{bodies}</table>'
    return section("Videos", note, table + _more(len(cut) - MOST_ROWS, "video"))


def _source(rows: list[Row]) -> str:
    first, left = rows[0], [r for r in rows if r["status"] != "ok"]
    frames = sum(r["frames"] for r in rows)
    face = sum(r["frames"] * r["face_rate"] for r in rows)
    cells = [
        ("frames/s", per_second(first["rate"])),
        ("kept", time_of(length_s(r for r in rows if r["status"] == "ok"))),
        ("left out", time_of(length_s(left))),
        ("face", _share(face, frames)),
        ("lag", _lag(first)),
    ]
    whole_s = max(max(r["end_s"] for r in rows), 0.01)
    stretches = [
        (r["start_s"], r["end_s"], _style(r["reason"]), f"{span(r)} {r['reason'] or 'kept'}")
        for r in sorted(rows, key=lambda r: r["start_s"])
    ]
    reasons = ", ".join(f"{_chip(reason)}{escape(reason)} {time_of(length)}" for reason, length in by_reason(left))
    return (
        f'<tbody><tr><td class="name">{file_name(first["path"])}</td>'
        f'<td data-of="speaker"><bdi>{escape(first["speaker"])}</bdi></td>'
        + "".join(f'<td class="n" data-of="{of}">{value}</td>' for of, value in cells)
        + f'</tr><tr><td class="strip" colspan="7">{strip(stretches, whole_s)}'
        f"<small><span>{reasons or 'all of it kept'}</span><span>{time_of(whole_s)}</span></small></td></tr></tbody>\n"
    )


def _lag(row: Row) -> str:
    if row.get("lag_ms") is None:
        return "–"
    words = f"{row['lag_ms']:+.0f} ms".replace("-", "−") + f" <small>({row['lag_confidence']:.1f})</small>"
    return f"{words} <small>corrected</small>" if row["lag_corrected"] else words


def _measurements(corpus: Corpus, cut: dict[str, list[Row]]) -> str:
    """Draw histograms of the lags of videos, and of the clips' faces."""
    charts = []
    lags = [rows[0] for rows in cut.values() if rows[0].get("lag_ms") is not None]
    if lags:
        sure = {style: [r["lag_ms"] for r in lags if (r["lag_confidence"] >= CONFIDENT) == is_sure]
                for style, is_sure in (("sure", True), ("unsure", False))}  # fmt: skip
        note = (
            f"Videos by how much the picture comes after the sound, ms. Hollow: not sure. Beyond the dotted "
            f"±{LEAST_CORRECTED_MS:g} ms it is corrected, where it is sure and comes from {CORRECTED_FROM_S:g} s of speech."
        )
        marks = (-LEAST_CORRECTED_MS, LEAST_CORRECTED_MS)
        charts.append(("Lag", note, histogram(sure, "ms", "videos", least_step=10, marks=marks)))
    sizes_px, yaws_deg = measure_clips(corpus)
    if sizes_px:
        some = "" if len(sizes_px) == len(corpus.usable) else f" {len(sizes_px):,} of {many(len(corpus.usable), 'clip')}."
        note = f"Clips by the distance between the outer corners of the eyes, pixels (median of a clip).{some}"
        charts.append(("Size of the face", note, histogram({"kept": sizes_px}, "px", "clips", least_step=5)))
        note = f"Clips by where the face looks, degrees (median of a clip): positive to the picture's right.{some}"
        charts.append(("Turn of the head", note, histogram({"kept": yaws_deg}, "°", "clips", least_step=2)))
    if not charts:
        return ""
    figures = "\n".join(f'<div><h3>{title}</h3><p class="note">{note}</p>{chart}</div>' for title, note, chart in charts)
    return section("Measurements", "How many have which value.", f'<div class="charts">\n{figures}\n</div>')


def _foot(corpus: Corpus) -> str:
    stated = ((name, value) for part in ("features", "segments") for name, value in corpus.settings.get(part, {}).items())
    settings = " · ".join(f"{escape(name)} {escape(str(value))}" for name, value in stated)
    others = len(corpus.stale)
    older = (
        f" {many(others, 'row')} of the manifest {'was' if others == 1 else 'were'} made with other settings." if others else ""
    )
    return (
        f"<footer><p>Lipwright {escape(version('lipwright'))} · settings {corpus.hash} · tracker "
        f"{escape(str(corpus.settings.get('tracker', '–')))} · {settings}.{older}</p>"
        "<p>This page holds pictures and sound of the people in the footage.</p></footer>"
    )
