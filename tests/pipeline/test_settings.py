"""Every setting has help, and the command line shows it with the setting's own default."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, fields

import pytest

from lipwright.pipeline.settings import TrainSettings, help_of


def test_every_setting_is_described() -> None:
    described = help_of(TrainSettings)
    assert list(described) == [field.name for field in fields(TrainSettings)]
    for text in described.values():
        assert text == text.strip()
        assert text.endswith(".")


def test_a_setting_without_a_docstring_has_no_help() -> None:
    assert help_of(_Half) == {"said": "What it is."}


@dataclass(frozen=True)
class _Half:
    """Half described."""

    said: int = 1
    """What it is."""
    unsaid: int = 2


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainSettings().hidden = 1  # type: ignore[misc]
