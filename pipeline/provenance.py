"""What a rendered file says about itself."""

from __future__ import annotations

from importlib.metadata import version


def synthetic_tags() -> dict[str, str]:
    """Return container metadata that says the mouth is synthetic; players and ffprobe show it."""
    statement = f"Synthetic media: the mouth in this video was generated from audio by Lipwright {version('lipwright')}."
    return {
        "comment": statement,
        "description": statement,
        "synopsis": "synthetic=true; digitalSourceType="
        "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
    }
