"""Corpus → Parquet: one table for pandas, Polars, DuckDB and the like."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lipwright.data.corpus import VERSION, Clip, Corpus
from lipwright.data.errors import CorpusError, MissingPartError, require_new
from lipwright.data.features import FeatureSettings
from lipwright.data.files import sweep, whole_file
from lipwright.data.manifest import Row
from lipwright.pipeline.progress import Progress, told_as

if TYPE_CHECKING:
    import pyarrow

GROUP_BYTES = 32 * 2**20
"""Of arrays, before compression: so much is in memory, and becomes a row group."""

GROUP_ROWS = 50_000
"""And no more rows than these."""

COLUMNS = {
    "id": "string", "path": "string", "sha256": "string", "bytes": "int64", "modified_ns": "int64", "speaker": "string",
    "face": "string",
    "start_s": "float64", "end_s": "float64", "rate": "string", "frames": "int64", "face_rate": "float64",
    "other_sound_s": "float64", "lag_ms": "float64", "lag_confidence": "float64", "lag_corrected": "bool",
    "train_start_s": "float64", "train_end_s": "float64", "validation_start_s": "float64", "validation_end_s": "float64",
    "status": "string", "reason": "string", "settings_hash": "string",
}  # fmt: skip
"""Arrow's types of the manifest's keys; ``split`` is four columns."""

ARRAYS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "features": ("float32", "T", (FeatureSettings().size,)),
    "audio": ("int16", "N", ()),
    "other_sound": ("bool", "T", ()),
    "times_s": ("float64", "F", ()),
    "mouth": ("float32", "F", (40, 3)),
    "rotation": ("float64", "F", (3, 3)),
    "scale": ("float64", "F", ()),
    "shift": ("float64", "F", (3,)),
    "blendshapes": ("float32", "F", (52,)),
    "valid": ("bool", "F", ()),
}
"""Of a clip: type, letter of the first axis, and the shape of what stands at each place of it."""


def export_corpus(
    corpus: Path | str,
    out: Path | str,
    *,
    arrays: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a corpus as a Parquet file, one row a segment or rejected source.

    Parameters
    ----------
    corpus
        Its folder. Rows that were made with other settings are left out.
    out
        File to make, whole or not at all.
    arrays
        Write the arrays of the clips, too; memory does not grow with the corpus.
    force
        Replace `out` if it exists.
    progress
        Called with ("export", rows done, rows in all).

    Returns
    -------
    dict
        ``out``, ``rows``, ``stale`` rows that were left out, ``bytes``.

    Raises
    ------
    MissingPartError
        pyarrow is not installed.
    CorpusError
        It cannot be read, or a clip is missing, broken, or of other shapes than its settings say.
    OutputExistsError
        `out` exists and `force` is false.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingPartError("writing Parquet needs pyarrow: pip install 'lipwright[parquet]'") from None
    source, out = Corpus.load(Path(corpus)), Path(out)
    require_new(out, force)
    rows = source.current
    schema = _schema(source, arrays)
    texts = [name for name, kind in COLUMNS.items() if kind == "string"]  # those repeat; numbers do not
    tell, done = told_as(progress, "export"), 0
    sweep(out)
    with (
        whole_file(out) as partial,
        pyarrow.parquet.ParquetWriter(partial, schema, compression="zstd", use_dictionary=texts) as writer,
    ):
        for group, clips in _groups(source, rows, arrays):
            columns = _columns(group, schema) + (_array_columns(clips, schema) if arrays else [])
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            done += len(group)
            if tell:
                tell(done, len(rows))
    return {"out": str(out), "rows": len(rows), "stale": len(source.stale), "bytes": out.stat().st_size}


def _schema(corpus: Corpus, arrays: bool) -> pyarrow.Schema:
    """Return typed columns; an array's own shape stands with its column."""
    import pyarrow

    fields = [pyarrow.field(name, pyarrow.type_for_alias(kind)) for name, kind in COLUMNS.items()]
    for name, (kind, axis, shape) in _shapes(corpus).items() if arrays else ():
        item = pyarrow.type_for_alias(kind)
        inner = pyarrow.list_(item, int(np.prod(shape))) if shape else item
        stated = {"shape": f"({', '.join([axis, *map(str, shape)])}{'' if shape else ','})", "dtype": kind}
        fields.append(pyarrow.field(name, pyarrow.list_(inner), metadata=stated))
    head = {
        "format": "lipwright-corpus",
        "version": str(VERSION),
        "settings": json.dumps(corpus.settings),
        "settings_hash": corpus.hash,
    }
    return pyarrow.schema(fields, head)


def _shapes(corpus: Corpus) -> dict[str, tuple[str, str, tuple[int, ...]]]:
    try:
        size = FeatureSettings.from_dict(corpus.settings.get("features", {})).size
    except ValueError as error:
        raise CorpusError(f"{corpus.folder} has features of another Lipwright ({error})") from None
    return ARRAYS | {"features": ("float32", "T", (size,))}


def _groups(corpus: Corpus, rows: Sequence[Row], arrays: bool) -> Iterator[tuple[list[Row], list[Clip | None]]]:
    """Yield rows, and their clips if wanted, as many as become a row group."""
    shapes = _shapes(corpus) if arrays else {}
    group: list[Row] = []
    clips: list[Clip | None] = []
    size = 0
    for row in rows:
        clip = None
        if arrays and row["status"] == "ok":
            clip = corpus.load_clip(row["id"])
            for name, (kind, _, shape) in shapes.items():
                values = getattr(clip, name)
                if values.dtype != kind or values.shape[1:] != shape:
                    raise CorpusError(
                        f"{corpus.clip_path(row['id'])} is broken ({name}: {values.dtype} {values.shape}); "
                        "run lipwright preprocess again"
                    )
                size += values.nbytes
        group.append(row)
        clips.append(clip)
        if size >= GROUP_BYTES or len(group) == GROUP_ROWS:
            yield group, clips
            group, clips, size = [], [], 0
    if group:
        yield group, clips


def _columns(rows: Sequence[Row], schema: pyarrow.Schema) -> list[pyarrow.Array]:
    import pyarrow

    flat = [row | _split(row) for row in rows]
    return [pyarrow.array([_told(row.get(name)) for row in flat], schema.field(name).type) for name in COLUMNS]


def _told(value: Any) -> Any:
    """Return what Arrow can hold: names of files need not be Unicode."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _split(row: Row) -> dict[str, float | None]:
    split = row["split"] or {}
    spans = {part: split.get(part) or (None, None) for part in ("train", "validation")}
    return {f"{part}_{end}_s": span[k] for part, span in spans.items() for k, end in enumerate(("start", "end"))}


def _array_columns(clips: Sequence[Clip | None], schema: pyarrow.Schema) -> list[pyarrow.Array]:
    """Return a column an array: a list along its first axis; null where there is no clip."""
    import pyarrow

    columns = []
    for name in ARRAYS:
        parts = [None if clip is None else getattr(clip, name) for clip in clips]
        ends = np.cumsum([0, *(0 if part is None else len(part) for part in parts)])
        kind = schema.field(name).type
        flat = [part.reshape(-1) for part in parts if part is not None]
        items = pyarrow.array(np.concatenate(flat) if flat else [], pyarrow.type_for_alias(ARRAYS[name][0]))
        if pyarrow.types.is_fixed_size_list(kind.value_type):
            items = pyarrow.FixedSizeListArray.from_arrays(items, type=kind.value_type)
        absent = pyarrow.array([part is None for part in parts])
        columns.append(pyarrow.ListArray.from_arrays(pyarrow.array(ends, "int32"), items, type=kind, mask=absent))
    return columns
