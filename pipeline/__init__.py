"""The jobs, as plain functions: the command line, the studio and Python users all call these."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "check_videos": "check",
    "preprocess_corpus": "preprocess",
    "list_corpus": "corpora",
    "measure_corpora": "corpora",
    "merge_corpora": "corpora",
    "prune_corpus": "corpora",
    "export_corpus": "parquet",
    "train_model": "train",
    "render_video": "render",
    "render_jobs": "jobs",
    "evaluate_model": "evaluate",
    "inspect_runs": "inspect",
    "export_mouth": "export",
    "LiveMouth": "stream",
    "LiveServer": "server",
    "open_studio": "studio",
    "verify_file": "verify",
    "make_demo": "demo",
    "examine": "doctor",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Load a job when it is asked for: they bring torch and MediaPipe, which take seconds to import."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
