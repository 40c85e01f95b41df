"""The one error that models raise."""

from __future__ import annotations


class ModelError(Exception):
    """A model folder is missing, empty, broken, or was made for other features or by another version."""
