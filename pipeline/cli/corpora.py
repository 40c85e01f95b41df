"""The commands for corpora that are there: corpus list, stats, merge, prune, export."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lipwright.pipeline.cli.command import Common, app, columns, command, progress_bar, say, size, tell

CORPUS_HELP = "Folder made by preprocess."

group = typer.Typer(help="Look at corpora, tidy them, put them together, pass them on.", no_args_is_help=True)
app.add_typer(group, name="corpus")
corpus_command = partial(command, group=group)


@corpus_command
def list_(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help=CORPUS_HELP)],
    speaker: Annotated[str | None, typer.Option("--speaker", metavar="NAME", help="Only theirs.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Only what was left out.")] = False,
    *,
    common: Common,
) -> None:
    """Show a corpus row by row: one a segment, or a video that cannot be used."""
    from lipwright.pipeline import list_corpus

    result = list_corpus(corpus, speaker=speaker, rejected=rejected)
    say(_lines(result) if common.json else _listed(result["rows"]))


def _lines(result: dict[str, Any]) -> str:
    """Write the document a row a line, which is several times as fast as laid out, and can be searched by line."""
    rows = ",\n".join(map(json.dumps, result["rows"]))
    return f'{{"corpus": {json.dumps(result["corpus"])}, "rows": [\n{rows}\n]}}'


def _listed(rows: list[dict[str, Any]]) -> str:
    from lipwright.data.sync import CONFIDENT
    from lipwright.pipeline.tally import per_second, span, why

    def lag(row: dict[str, Any]) -> str:
        if row.get("lag_ms") is None:
            return "–"
        if (row.get("lag_confidence") or 0) < CONFIDENT:
            return "?"
        return f"{row['lag_ms']:+.0f}" + ("→0" if row.get("lag_corrected") else "")

    table = [["id", "speaker", "from–to", "s", "rate", "face", "lag ms", "split", "status", "video"]]
    names = {path: Path(path).name for path in {row["path"] for row in rows}}
    for row in rows:
        whole, name = row["start_s"] is None, names[row["path"]]
        parts = [part for part, its in (row["split"] or {}).items() if its]
        table.append(
            [
                row["id"],
                _shown(row["speaker"]),
                span(row),
                "–" if whole else f"{row['end_s'] - row['start_s']:.1f}",
                per_second(row.get("rate")),
                "–" if row.get("face_rate") is None else f"{row['face_rate']:.0%}",
                lag(row),
                "both" if len(parts) == 2 else parts[0] if parts else "–",
                row["status"] if whole or not row["reason"] else row["reason"],
                _shown(f"{name} {why(row)}" if whole else name),
            ]
        )
    return columns(table, left=(0, 1, 8, 9))


def _shown(name: str) -> str:
    """Keep what people call files and speakers on one line, and off the terminal's commands."""
    return name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)


@corpus_command
def stats(
    corpora: Annotated[list[Path], typer.Argument(metavar="CORPUS...", help="Folders made by preprocess.")],
    *,
    common: Common,
) -> None:
    """Show how much is in corpora, of whom, and what was left out."""
    from lipwright.pipeline import measure_corpora

    result = measure_corpora(corpora)
    tell(result, common.json, lambda: _measured(result))


def _measured(result: dict[str, Any]) -> str:
    """Lay the numbers out, a column a corpus, and one for all where there are several; below, what is to be done."""
    from lipwright.pipeline.tally import in_time, many, per_second

    each = result["corpora"]
    every = [*each, result["all"]] if len(each) > 1 else each
    names = [_shown(Path(c["corpus"]).resolve().name) for c in each]
    table = [["", *names, *["in all"][: len(every) - len(each)]]]

    def count(value: int | None) -> str:
        return f"{value:,}" if value else "–"

    def line(name: str, key: str, form: Any = count) -> None:
        table.append([name, *("–" if c[key] is None else form(c[key]) for c in every)])

    def lines(key: str, form: Any, named: Any = _shown) -> None:
        """Write a line for each entry of any, in the order of the last column."""
        for entry in dict.fromkeys(name for c in reversed(every) for name in c[key]):
            table.append([f"  {named(entry)}", *("–" if entry not in c[key] else form(c[key][entry]) for c in every)])

    def lag(key: str, form: str) -> list[str]:
        return ["–" if c["lag"][key] is None else form.format(**c["lag"]) for c in every]

    line("videos", "sources")
    line("  rejected", "rejected")
    line("clips", "clips")
    line("kept", "kept_s", in_time)
    line("  for training", "train_s", in_time)
    line("  for validation", "validation_s", in_time)
    table.append(["left out", *(in_time(sum(c["left_out_s"].values())) for c in every)])
    lines("left_out_s", in_time)
    line("speakers", "speakers")
    lines("most_heard_s", in_time)
    table.append(["videos by frame rate", *("" for _ in every)])
    lines("rates", count, per_second)
    table.append(["picture after sound", *lag("median_ms", "{median_ms:+.0f} ms")])
    table.append(["  90 % of videos", *lag("p5_ms", "{p5_ms:+.0f} … {p95_ms:+.0f} ms")])
    table.append(["  known for sure", *lag("sure", "{sure:,} of {measured:,}")])
    table.append(["  put in sync", *(count(c["lag"]["corrected"]) for c in every)])
    line("on disk", "bytes", size)
    line("  an hour", "mb_per_hour", lambda mb: size(1e6 * mb))
    table.append(["settings", *(c.get("settings_hash", "") for c in every)])
    words = []
    for name, numbers in zip(names, each, strict=True):
        if numbers["stale"]:
            words.append(
                f"{name}: {many(numbers['stale'], 'row')} of other settings, not counted here; "
                "run lipwright preprocess again, or lipwright corpus prune"
            )
        if numbers["missing_clips"]:
            words.append(f"{name}: {many(numbers['missing_clips'], 'clip')} missing; run lipwright preprocess again")
    if result["all"]["twice"]:
        words.append(f"in several of them, and counted once: {many(result['all']['twice'], 'video')}")
    return "\n".join([columns(table), *words])


@corpus_command
def merge(
    corpora: Annotated[list[Path], typer.Argument(metavar="CORPUS...", help="Folders made by preprocess.")],
    out: Annotated[Path, typer.Option("--out", help="Corpus folder to make.")],
    *,
    common: Common,
) -> None:
    """Make one corpus of several. A video that is in several is taken from the first."""
    from lipwright.pipeline import merge_corpora

    with progress_bar(common.quiet) as progress:
        result = merge_corpora(corpora, out, force=common.force, progress=progress)
    tell(result, common.json, lambda: _merged(out, result))


def _merged(out: Path, result: dict[str, Any]) -> str:
    from lipwright.pipeline.tally import in_time, many

    of = f"{many(result['sources'], 'video')}, {many(result['speakers'], 'speaker')}"
    lines = [f"{out}: {many(result['clips'], 'clip')}, {in_time(result['seconds'])} of speech ({of})"]
    if result["twice"]:
        lines.append(f"in several of them, and taken from the first: {many(result['twice'], 'video')}")
    if result["stale"]:
        lines.append(f"left out, as made with other settings: {many(result['stale'], 'row')}")
    if result["copied"]:
        lines.append(f"copied, as a file cannot have two names there: {many(result['copied'], 'clip')}")
    return "\n".join(lines)


@corpus_command
def prune(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help=CORPUS_HELP)],
    speaker: Annotated[
        list[str] | None,
        typer.Option("--speaker", metavar="NAME", help="Take this person out, too; may be given several times."),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Take out, too, what came from videos that are gone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    *,
    common: Common,
) -> None:
    """Take out of a corpus what nobody can use: what was made with other settings, and files left behind."""
    from lipwright.pipeline import prune_corpus

    result = prune_corpus(corpus, speakers=speaker or (), missing=missing, dry_run=dry_run)
    tell(result, common.json, lambda: _pruned(corpus, result))


def _pruned(corpus: Path, result: dict[str, Any]) -> str:
    from lipwright.pipeline.tally import many

    what = []
    if result["rows"]:
        what.append(f"{many(result['rows'], 'row')} ({', '.join(f'{why} {n:,}' for why, n in result['reasons'].items())})")
    if result["clips"]:
        what.append(many(result["clips"], "clip"))
    if result["temporary"]:
        what.append(many(result["temporary"], "temporary file"))
    if not what:
        return f"{corpus}: nothing to remove"
    would = "would be removed" if result["dry_run"] else "removed"
    return f"{corpus}: {would}: {', '.join(what)}; {size(result['bytes'])} freed"


@corpus_command
def export(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help=CORPUS_HELP)],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to make.")],
    arrays: Annotated[bool, typer.Option("--arrays", help="With the arrays of every clip, not the manifest alone.")] = False,
    *,
    common: Common,
) -> None:
    """Write a corpus as a Parquet file, for pandas, Polars, DuckDB and the like."""
    from lipwright.pipeline import export_corpus

    with progress_bar(common.quiet) as progress:
        result = export_corpus(corpus, out, arrays=arrays, force=common.force, progress=progress)
    tell(result, common.json, lambda: _exported(out, result))


def _exported(out: Path, result: dict[str, Any]) -> str:
    from lipwright.pipeline.tally import many

    left = f"; {many(result['stale'], 'row')} of other settings left out" if result["stale"] else ""
    return f"{out}: {many(result['rows'], 'row')}, {size(result['bytes'])}{left}"
