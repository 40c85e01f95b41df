"""Evaluation → page: what was judged, how good it is beside the baselines, where over time, and to be seen and heard.

One file that fetches nothing. However many videos there are, it shows `MOST_DRAWN` of them over time, a minute of each, and
the `BEST` best and worst moments of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipwright.data.errors import InputError, require_new
from lipwright.data.files import sweep, whole_file
from lipwright.data.media import file_sha256
from lipwright.models.lipsync import BASE, WEIGHTS
from lipwright.pipeline.charts import clock
from lipwright.pipeline.curves import DRAWN_S, Curves
from lipwright.pipeline.moments import MOMENT_S, Moment, film, moments_of
from lipwright.pipeline.page import MOST_ROWS, box, compose, data_uri, file_name, head, section, time_of
from lipwright.pipeline.progress import Progress
from lipwright.pipeline.render.bank import Bank
from lipwright.pipeline.require import MASK, MOUTH, PICTURE, SYNCNET
from lipwright.pipeline.require import in_words as threshold_in_words
from lipwright.pipeline.result import Footage
from lipwright.pipeline.tally import many

if TYPE_CHECKING:
    from lipwright.pipeline.evaluate import Take

REPORT = "report.html"
PAGE = Path(__file__).with_suffix(".html")
MARK = '<meta name="generator" content="Lipwright evaluate">'
"""By which a page is known to be one of these."""

MOST_DRAWN = 12
"""Of more videos, those are drawn over time whose `lmd_ratio` is highest."""

BEST = 3
"""So many best moments, and so many worst, of all videos."""

BASELINES = {"ridge": "Ridge", "mean_mouth": "Mean mouth"}


class Scorecard:
    """The page of an evaluation: it is given the videos as they are judged, and written at the end.

    Entered, it makes its folder, since what cannot be written is better known before the work; an error removes it.

    Parameters
    ----------
    folder
        To be made.
    force
        Replace an earlier page.

    Raises
    ------
    OutputExistsError
        `folder` exists and `force` is false.
    InputError
        It holds anything but such a page.
    """

    def __init__(self, folder: Path, force: bool) -> None:
        require_new(folder, force, "--report")
        if folder.exists():
            _require_page(folder)
        self._folder, self._made = folder, False
        self._curves: list[Curves] = []
        self._moments: list[Moment] = []

    def __enter__(self) -> Scorecard:
        self._made = not self._folder.exists()
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._made:
            with suppress(OSError):
                self._folder.rmdir()

    def add(self, take: Take) -> None:
        """Keep what is shown of a video."""
        curves = Curves.of(take)
        self._curves.append(curves)
        found = moments_of(take.media, take.sha256, take.track, take.samples, curves.distance["model"], curves.valid, take.said)
        ranked = sorted([*self._moments, *found], key=lambda moment: moment.lmd)
        self._moments = ranked[:BEST] + ranked[max(len(ranked) - BEST, BEST) :]

    def write(self, result: Mapping[str, Any], model: Path, footage: Footage, progress: Progress | None = None) -> Path:
        """Write `report.html`, whole or not at all, and return its path.

        Parameters
        ----------
        result
            What `evaluate_model` returns.
        model
            The model's folder.
        footage
            Where mouths are taken from.
        """
        judged = [clip for clip in result["clips"] if "error" not in clip]
        name = "base model" if model == BASE else model.resolve().name
        sha256 = file_sha256(model / WEIGHTS)
        page = compose(
            PAGE,
            f"{name}: evaluation",
            [
                self._head(name, result, judged),
                _thresholds(result.get("require", []), judged),
                _metrics(result["mean"], judged),
                _syncnet(result["mean"].get("syncnet")),
                _videos(result["clips"], {curves.path: curves.length_s for curves in self._curves}),
                *self._films(footage, progress),
                self._over_time(judged),
                _foot(name, sha256),
            ],
        )
        with whole_file(self._folder / REPORT) as partial:
            partial.write_bytes(page)
        return self._folder / REPORT

    def _head(self, name: str, result: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> str:
        mean, total_s = result["mean"], sum(curves.length_s for curves in self._curves)
        each = "each " if len(judged) > 1 else ""
        lede = (
            f"{many(len(judged), 'video')}, {time_of(total_s)}, {each}driven by its own sound and compared with its own mouth."
        )
        if seen := sum(clip["seen"] for clip in judged):
            which = (
                "It was"
                if len(judged) == 1
                else "All were"
                if seen == len(judged)
                else f"{seen} of them {'was' if seen == 1 else 'were'}"
            )
            lede += f" <b>{which} trained on: that flatters the model.</b>"
        if failed := len(result["clips"]) - len(judged):
            lede += f" {many(failed, 'more video')} could not be judged."
        ridge = mean["baselines"]["ridge"]
        numbers = [
            ("Aperture r", _number(mean["aperture_r"]), f"ridge {_number(ridge['aperture_r'])}"),
            ("Error, mean mouth = 1", _number(mean["lmd_ratio"]), f"ridge {_number(ridge['lmd_ratio'])}"),
            ("Picture after sound", f"{_number(mean['lag_ms'], 0)} ms", ""),
        ]
        if required := result.get("require"):
            met = sum(each["pass"] for each in required)
            style = "pass" if met == len(required) else "miss"
            numbers.append(("Required", f'<span class="{style}">{met} of {len(required)} met</span>', ""))
        return head("Evaluation", name, lede, numbers)

    def _films(self, footage: Footage, progress: Progress | None) -> Iterable[str]:
        count = len(self._moments)
        best = min(BEST, (count + 1) // 2)
        parts = (("Best moments", self._moments[:best]), ("Worst moments", self._moments[best:][::-1]))
        if not count:
            note = f"None: no {MOMENT_S} seconds show a mouth that speaks, from end to end."
            yield section("Best and worst moments", note, "")
        banks: dict[str, Bank] = {}
        done = 0
        for title, moments in parts:
            figures = []
            for moment in moments:
                figures.append(_film(moment, footage, banks, progress))
                done += 1
                if progress:
                    progress("film moments", done, count)
            if figures:
                note = _film_note(footage) if moments is parts[0][1] else "Shown in the same way."
                yield section(title, note, f'<div class="films">\n{"".join(figures)}\n</div>')

    def _over_time(self, judged: Sequence[Mapping[str, Any]]) -> str:
        ratio = {clip["path"]: clip["lmd_ratio"] for clip in judged}
        worst_first = sorted(self._curves, key=lambda curves: -(ratio.get(curves.path) or 0))
        shown = self._curves if len(self._curves) <= MOST_DRAWN else worst_first[:MOST_DRAWN]
        left = len(self._curves) - len(shown)
        note = (
            "Above: how far the mouth opens, in distances between the outer corners of the eyes, and how loud it is. "
            "Below: the mean distance of the 40 points, second by second. Gaps: the mouth is not seen."
        )
        if any(curves.length_s > DRAWN_S for curves in shown):
            note += f" Of the opening, the first {DRAWN_S} s are drawn."
        if left:
            note += f" The {MOST_DRAWN} videos that the model does worst on; {left:,} are not drawn."
        return section("Over time", note, "\n".join(curves.drawn() for curves in shown))


def _require_page(folder: Path) -> None:
    """Refuse to replace anything but an empty folder, or one that holds such a page alone."""
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not the folder of a report; choose another --report")
    page = folder / REPORT
    sweep(page)
    names = {path.name for path in folder.iterdir()}
    if names - {REPORT} or (names and MARK not in page.read_text("utf-8", "replace")[:2000]):
        other = min(names - {REPORT}, default=REPORT)
        raise InputError(f"{folder} holds other files ({other}) than an evaluation's report; choose another --report")


# Parts ----------------------------------------------------------------------------------------------------------------


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f'<data value="{value!r}">{value:.{digits}f}</data>'.replace(">-", ">−")


def _thresholds(required: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td class="{"pass" if each["pass"] else "miss"}">{"met" if each["pass"] else "missed"}</td>'
        f'<td class="why">{escape(threshold_in_words(each))}</td></tr>\n'
        for each in required
    )
    note = f"Of the mean over {many(len(judged), 'video')}; of a lag the mean of its absolute value."
    return section("Required", note, f'<table class="lines required"><tbody>\n{rows}</tbody></table>') if rows else ""


def _metrics(mean: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> str:
    columns = {"Model": mean} | {title: mean["baselines"][who] for who, title in BASELINES.items()}
    metrics = MOUTH
    if painted := mean.get("render"):
        columns |= {"Painted: measured": painted, "Painted: model": painted["model"], "Source untouched": painted["untouched"]}
        metrics = MOUTH | PICTURE | MASK
    rows = "".join(
        f'<tr><td class="name"><code>{name}</code></td><td>{metric.good}</td>'
        + "".join(
            f'<td class="n">{_number(column.get(name), 1 if name == "lag_ms" else 3)}</td>' for column in columns.values()
        )
        + "</tr>\n"
        for name, metric in metrics.items()
    )
    heads = "".join(f'<th class="n">{name}</th>' for name in columns)
    note = f"Mean over {many(len(judged), 'video')}. " if len(judged) > 1 else ""
    note += "Ridge: a linear regression on the sound around. Mean mouth: always the mean of the training."
    if painted:
        note += (
            " Painted: the mouth of three seconds before on each frame, tracked again; “measured” judges the painting alone, "
            "“model” all of it, “source untouched” is what doing nothing gets."
        )
    table = f"<table><thead><tr><th>Metric</th><th>Good</th>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return section("Metrics", note, f'<div class="wide metrics lines" tabindex="0">{table}</div>')


def _syncnet(mean: Mapping[str, Any] | None) -> str:
    if mean is None:
        return ""
    rows = "".join(
        f'<tr><td class="name"><code>{name}</code></td><td>{metric.good}</td>'
        + "".join(f'<td class="n">{_number(mean[which].get(name))}</td>' for which in ("source", "result"))
        + "</tr>\n"
        for name, metric in SYNCNET.items()
    )
    note = (
        "LSE-D: the least distance between sound and picture. LSE-C: by how much it is less than at other lags. The crops come "
        "from Lipwright's own face tracks: compare the result with its source, and with published numbers only roughly."
    )
    heads = '<th>Metric</th><th>Good</th><th class="n">Source</th><th class="n">Result</th>'
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return section("SyncNet", note, f'<div class="wide lines" tabindex="0">{table}</div>')


SHOWN = ("aperture_r", "width_r", "lmd_ratio", "lag_ms", "closure_f1", "jitter_ratio")


def _videos(clips: Sequence[Mapping[str, Any]], lengths_s: Mapping[str, float]) -> str:
    rows = []
    for clip in clips[:MOST_ROWS]:
        if "error" in clip:
            rest = f'<td class="why" colspan="{len(SHOWN) + 2}">{escape(clip["error"])}</td>'
        else:
            cells = "".join(f'<td class="n">{_number(clip[name], 1 if name == "lag_ms" else 3)}</td>' for name in SHOWN)
            rest = f'<td>{"yes" if clip["seen"] else "no"}</td><td class="n">{time_of(lengths_s[clip["path"]])}</td>{cells}'
        rows.append(f'<tr><td class="name">{file_name(clip["path"])}</td>{rest}</tr>\n')
    heads = "".join(f'<th class="n"><code>{name}</code></th>' for name in SHOWN)
    heads = f'<th>Video</th><th>Trained on</th><th class="n">Length</th>{heads}'
    table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{''.join(rows)}</tbody></table>"
    more = len(clips) - MOST_ROWS
    after = f'<p class="note after">{many(more, "more video")}, in what <code>--json</code> prints.</p>' if more > 0 else ""
    return section("Videos", "The model's numbers of each.", box(table) + after)


def _film(moment: Moment, footage: Footage, banks: dict[str, Bank], progress: Progress | None) -> str:
    words = (
        f"{file_name(str(moment.media.path))}, {clock(moment.start_s)} to {clock(moment.start_s + MOMENT_S)}, "
        f"mean distance {_number(moment.lmd)}"
    )
    try:
        if moment.sha256 not in banks:
            banks[moment.sha256] = footage.bank(moment.media, moment.track, moment.sha256, progress)
        source = data_uri("video/mp4", film(moment, banks[moment.sha256]))
        shown = f'<video controls preload="metadata" playsinline src="{source}"></video>'
    except InputError as error:
        shown = f'<p class="note">No film: {escape(str(error))}</p>'
    return f"<figure>{shown}<figcaption>{words}</figcaption></figure>\n"


def _film_note(footage: Footage) -> str:
    taken = "of each video itself: the same footage that is judged, so teeth and skin look better than on new footage"
    if footage.other is not None:
        taken = f"of {file_name(str(footage.other))}"
    elif footage.first_part:
        taken = "of the first 75 % of each video: moments in there look better than on new footage"
    return (
        "Left what was filmed, then the same frames with the model's mouth, then that with the lips drawn over it: orange what "
        f"the model says, blue what was filmed. Painted from mouths {taken}."
    )


def _foot(model: str, sha256: str) -> str:
    return (
        f"<footer><p>Lipwright {escape(version('lipwright'))} · {escape(model)} · sha256 of its weights {sha256}</p>"
        "<p>This page holds pictures and sound of the people in the videos. The results are synthetic: their mouths were "
        "generated from sound. Ask the people shown before you pass it on.</p></footer>"
    )
