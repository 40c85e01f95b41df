"""Several corpora, trained on as one: the same features, and each source once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lipwright.data.corpus import Corpus
from lipwright.data.errors import CorpusError, InputError
from lipwright.data.features import FeatureSettings
from lipwright.data.manifest import Row


def open_corpora(folders: Path | str | Sequence[Path | str]) -> list[Corpus]:
    """Open one corpus or several.

    Raises
    ------
    CorpusError
        One is missing or broken, or has other features than the first.
    InputError
        None is named.
    """
    corpora = [Corpus.load(Path(folder)) for folder in ([folders] if isinstance(folders, Path | str) else folders)]
    if not corpora:
        raise InputError("no corpus is named; name one that lipwright preprocess made, or several")
    first = corpora[0]
    for other in corpora[1:]:
        if other.settings["features"] != first.settings["features"]:
            raise CorpusError(f"{other.folder} has other features than {first.folder}; preprocess one of them anew")
    return corpora


def feature_settings(corpora: Sequence[Corpus]) -> FeatureSettings:
    """Return what the features were computed with; `CorpusError` if this Lipwright cannot."""
    try:
        return FeatureSettings.from_dict(corpora[0].settings["features"])
    except ValueError as error:
        raise CorpusError(f"{corpora[0].folder} was made with other feature settings ({error}); preprocess anew") from None


def pooled(corpora: Sequence[Corpus]) -> tuple[list[tuple[Corpus, Row]], int]:
    """Return the rows that can be trained on, and how many sources are in several corpora: they count in the first of these."""
    rows: list[tuple[Corpus, Row]] = []
    seen: set[str] = set()
    twice: set[str] = set()
    for corpus in corpora:
        usable = corpus.usable
        own = {row["sha256"] for row in usable}
        rows += [(corpus, row) for row in usable if row["sha256"] not in seen]
        twice |= own & seen
        seen |= own
    return rows, len(twice)


def origin(corpora: Sequence[Corpus]) -> dict[str, Any]:
    """Return what `Config` keeps of corpora."""
    sources = [{k: row[k] for k in ("path", "sha256", "speaker")} for _, row in pooled(corpora)[0]]
    return {"corpora": [str(corpus.folder.resolve()) for corpus in corpora], "sources": sources}
