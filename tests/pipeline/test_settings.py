"""Every setting has help, and the command line shows it with the setting's own default."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import pytest

from lipwright.pipeline.settings import RenderSettings, TrainSettings, help_of


@pytest.mark.parametrize("settings", [TrainSettings, RenderSettings])
def test_every_setting_is_described(settings: type) -> None:
    described = help_of(settings)
    assert list(described) == [field.name for field in fields(settings)]
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


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mouth_gain": -0.1}, "mouth gain is -0.1"), ({"mouth_gain": 3.5}, "mouth gain is 3.5"),
        ({"mouth_gain": float("nan")}, "mouth gain is nan"), ({"crf": 52}, "crf is 52"), ({"preset": "warp"}, "preset is warp"),
        ({"start_s": 4.0, "end_s": 4.0}, "start is 4 s, end 4 s"), ({"start_s": -1.0}, "start is -1 s"),
        ({"end_s": 0.0}, "start is 0 s, end 0 s"), ({"start_s": float("nan")}, "start is nan"),
        ({"codec": "vp9"}, "codec is vp9"), ({"alpha": True, "overlay": True}, "alpha"), ({"alpha": True, "crf": 20}, "alpha"),
    ],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RenderSettings(**wrong).check()


def test_settings_in_their_range_pass() -> None:
    for settings in (RenderSettings(), RenderSettings(mouth_gain=0), RenderSettings(crf=51, codec="hevc", start_s=1.5)):
        settings.check()
