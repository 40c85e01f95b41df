"""What a mouth can be written as: for editing, for rigs, for 2D animation, and the network itself."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """The formats of ``lipwright export`` (`docs/formats.md`, "Exports")."""

    track = "track"
    json = "json"
    csv = "csv"
    arkit_csv = "arkit-csv"
    oculus = "oculus"
    rhubarb_tsv = "rhubarb-tsv"
    rhubarb_xml = "rhubarb-xml"
    rhubarb_json = "rhubarb-json"
    moho = "moho"
    webvtt = "webvtt"
    onnx = "onnx"
