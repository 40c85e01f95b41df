"""Cues: one drawn mouth after another, for 2D animation and for players.

`HOLD_S` keeps each long enough to be seen; they follow one another without a gap, from 0 to the end.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

from lipwright.data.files import whole_file
from lipwright.pipeline.formats.take import Take
from lipwright.pipeline.visemes import PRESTON_BLAIR, RHUBARB

PAPAGAYO_RATE = Fraction(24)
"""Frames a second where there is no video."""


def write_rhubarb_tsv(take: Take, out: Path) -> None:
    """Write as Rhubarb's ``tsv``: start and mouth a line; the last line is the end, and closed."""
    lines = [f"{cue.start_s:.2f}\t{cue.name}\n" for cue in take.cues(RHUBARB)]
    _write("".join(lines) + f"{take.duration_s:.2f}\tX\n", out)


def write_rhubarb_xml(take: Take, out: Path) -> None:
    """Write as Rhubarb's ``xml``."""
    root = ElementTree.Element("rhubarbResult")
    about = ElementTree.SubElement(root, "metadata")
    ElementTree.SubElement(about, "soundFile").text = take.name
    ElementTree.SubElement(about, "duration").text = f"{take.duration_s:.2f}"
    cues = ElementTree.SubElement(root, "mouthCues")
    for cue in take.cues(RHUBARB):
        times = {"start": f"{cue.start_s:.2f}", "end": f"{cue.end_s:.2f}"}
        ElementTree.SubElement(cues, "mouthCue", times).text = cue.name
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    _write(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n', out)


def write_rhubarb_json(take: Take, out: Path) -> None:
    """Write as Rhubarb's ``json``, a line a cue."""
    cues = [
        f'    {{ "start": {cue.start_s:.2f}, "end": {cue.end_s:.2f}, "value": "{cue.name}" }}' for cue in take.cues(RHUBARB)
    ]
    about = f'    "soundFile": {json.dumps(take.name)},\n    "duration": {take.duration_s:.2f}\n'
    body = ",\n".join(cues)
    _write(f'{{\n  "metadata": {{\n{about}  }},\n  "mouthCues": [\n{body}\n  ]\n}}\n', out)


def write_moho(take: Take, out: Path) -> None:
    """Write Moho's switch data, as Papagayo exports them: frame, counted from 1, and mouth; at the end, rest."""
    rate, shown = take.rate or PAPAGAYO_RATE, dict[int, str]()
    for cue in take.cues(PRESTON_BLAIR):
        shown.setdefault(1 + int(Fraction(round(100 * cue.start_s), 100) * rate), cue.name)
    end = max(1 + int(Fraction(round(100 * take.duration_s), 100) * rate), max(shown) + 1)
    lines = [f"{frame} {name}\n" for frame, name in [*shown.items(), (end, "rest")]]
    _write("MohoSwitch1\n" + "".join(lines), out)


def write_webvtt(take: Take, out: Path) -> None:
    """Write WebVTT of metadata: each cue's text is JSON that names the mouth by Rhubarb's letters."""
    cues = [f"{_clock(cue.start_s)} --> {_clock(cue.end_s)}\n{json.dumps({'mouth': cue.name})}\n" for cue in take.cues(RHUBARB)]
    _write("\n".join(["WEBVTT\n", *cues]), out)


def _clock(time_s: float) -> str:
    minutes, ms = divmod(round(1000 * time_s), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"


def _write(text: str, out: Path) -> None:
    with whole_file(out) as partial:
        partial.write_text(text, encoding="utf-8")
