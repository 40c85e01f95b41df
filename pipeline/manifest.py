"""What a rendered file says about itself, in the terms of C2PA: what it was made from, what was changed, by what.

The C2PA specification 2.1: "Actions" (c2pa.opened, c2pa.placed, c2pa.edited, with regions of time), "Ingredient"; the kind of
source is of IPTC's vocabulary. What that has no words for, hashes above all, stands in assertions of our own.
"""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipwright.data.errors import InputError
from lipwright.data.media import file_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from lipwright.pipeline.render.roles import Script
    from lipwright.pipeline.settings import RenderSettings

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

AGENT = "Lipwright"

RENDER_LABEL, CONSENT_LABEL = "org.lipwright.render", "org.lipwright.consent"

FORMATS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}
"""Outputs that can hold content credentials."""

FACES = {
    None: "the largest face",
    "largest": "the largest face",
    "left": "the face at the left",
    "right": "the face at the right",
    "track": "the face that was followed",
}

HEAD_BYTES = 1 << 16
"""So much of a consent record tells what it is."""


@dataclass(frozen=True)
class Ingredient:
    """A file that something was made from.

    Attributes
    ----------
    label
        What the manifest's actions call it.
    relationship
        ``parentOf``: it is what was changed. ``componentOf``: it is a part of the result.
    """

    label: str
    path: Path
    relationship: str

    @property
    def name(self) -> str:
        """What it is called."""
        return name_of(self.path)

    @property
    def format(self) -> str | None:
        """Its MIME type, by its content; None where it is of no kind that can hold credentials."""
        with self.path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp":
            return "video/quicktime" if head[8:] == b"qt  " else "video/mp4"
        if head[:4] == b"RIFF":
            return {b"WAVE": "audio/wav", b"AVI ": "video/avi"}.get(head[8:])
        return "audio/mpeg" if head[:3] == b"ID3" or head[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2") else None


def name_of(path: Path) -> str:
    """Return what a file is called, without its folder; what is not Unicode is ``�``."""
    return os.fsencode(path.absolute().name).decode("utf-8", "replace")


def agent() -> dict[str, str]:
    """Return who makes the files: this program, and which version."""
    return {"name": AGENT, "version": version("lipwright")}


def consent_of(path: Path) -> dict[str, str]:
    """Return what is said of a consent record: what kind of file it is, and its hash.

    Neither what it says nor its name: both may name people, and the video goes where the record should not.

    Raises
    ------
    InputError
        It is not there, empty, or none of text, JSON and PDF.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the record of consent") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the record of consent") from None
    if not head.strip():
        raise InputError(f"{path} is empty; give the record of consent")
    kind = (
        "application/pdf"
        if head.startswith(b"%PDF-")
        else "application/json"
        if path.suffix.lower() == ".json"
        else "text/plain"
    )
    if kind != "application/pdf":
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise InputError(f"{path} is neither text (UTF-8), nor JSON, nor PDF; give the record of consent as one of these")
    return {"format": kind, "sha256": file_sha256(path)}


@dataclass(frozen=True)
class Manifest:
    """What is to be signed: C2PA's definition of a manifest, and the files that it names."""

    definition: dict[str, Any]
    ingredients: tuple[Ingredient, ...]


def manifest_of(
    out: Path,
    target: Path,
    sha256: str,
    scripts: Sequence[Script],
    length_s: Fraction,
    settings: RenderSettings,
    consent: dict[str, str] | None = None,
) -> Manifest:
    """Put together what a render says about itself.

    Parameters
    ----------
    out
        What it will be called.
    target, sha256
        The source video, and its hash.
    scripts
        Who in it is given what to say, by which model or mouth track.
    length_s
        How long the result is.
    settings
        How it is shown.
    consent
        As `consent_of` gives it.
    """
    hashes = {target: sha256}

    def named(path: Path, hashed: Path | None = None) -> dict[str, str]:
        hashed = hashed or path
        if hashed not in hashes:
            hashes[hashed] = file_sha256(hashed)
        return {"name": name_of(path), "sha256": hashes[hashed]}

    ingredients, mouths, changes = [Ingredient("source", target, "parentOf")], [], []
    for k, script in enumerate(scripts):
        ingredients.append(Ingredient(f"sound{k}", script.audio, "componentOf"))
        if script.bank is not None:
            ingredients.append(Ingredient(f"bank{k}", script.bank, "componentOf"))
        mouth: dict[str, Any] = {"face": script.face or "largest", "audio": named(script.audio)}
        if script.mouth is not None:
            mouth["driver"] = {"kind": "mouth track"} | named(script.mouth)
            by = f"painted after the mouth track '{name_of(script.mouth)}', beside the sound"
        else:
            from lipwright.models.lipsync import BASE

            folder = script.model or BASE
            mouth["driver"] = {"kind": "model"} | named(folder, folder / "model.safetensors")
            by = f"generated by the model '{mouth['driver']['name']}' to say"
        if script.bank is not None:
            mouth["bank"] = named(script.bank)
        mouths.append(mouth)
        when = f"From 0.00 s to {float(length_s):.2f} s, where it is seen"
        changes.append(f"{when}, the mouth of {FACES[script.face]} was {by} '{name_of(script.audio)}'.")
    end = f"{float(length_s):.3f}"
    region = [{"type": "temporal", "time": {"type": "npt", "start": "0", "end": end}}]
    more = []
    if settings.alpha:
        more.append("The mouth is shown alone, as a layer for editors.")
    elif settings.retime:
        more.append("Frames of the source may be held, skipped or shown again, so that the head rests in pauses.")
    edited = {
        "action": "c2pa.edited",
        "when": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "softwareAgent": agent(),
        "digitalSourceType": DIGITAL_SOURCE_TYPE,
        "description": " ".join(changes + more),
        "changes": [{"description": change, "region": region} for change in changes],
    }
    opened, *placed = (
        {"action": "c2pa.placed" if k else "c2pa.opened", "parameters": {"ingredientIds": [each.label]}}
        for k, each in enumerate(ingredients)
    )
    render = {"synthetic": True, "source": named(target), "mouths": mouths, "length_s": float(end), "label": settings.label}
    assertions = [
        {"label": "c2pa.actions.v2", "data": {"actions": [opened, *placed, edited]}, "created": True},
        {"label": RENDER_LABEL, "data": render, "created": True},
    ]
    if consent is not None:
        assertions.append({"label": CONSENT_LABEL, "data": consent, "created": True})
    definition = {
        "claim_generator_info": [agent()],
        "title": name_of(out),
        "format": FORMATS[out.suffix.lower()],
        "assertions": assertions,
    }
    return Manifest(definition, tuple(ingredients))
