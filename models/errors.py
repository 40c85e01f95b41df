"""The one error that models raise."""

from __future__ import annotations


class ModelError(Exception):
    """A model folder is missing, empty, broken or made for other features; or the device to run it on is not there."""
