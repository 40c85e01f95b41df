"""What went wrong, in words for people."""

from __future__ import annotations

from lipwright.data.errors import LipwrightError
from lipwright.models.errors import ModelError


def in_words(error: BaseException) -> str:
    """Say in a line or two what an error is."""
    if isinstance(error, LipwrightError | ModelError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error}"
