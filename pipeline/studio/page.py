"""The page: its frame, and what keeps it true to the work folder and the jobs.

No state lives in the browser but the project's name. What may be chosen (`Chooser`) and what is shown (`Panel`) follow from the
folder, the jobs and what is chosen; both are computed anew when something may have changed, and sent if it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from lipwright.data.errors import LipwrightError
from lipwright.models.errors import ModelError
from lipwright.pipeline.errors import in_words
from lipwright.pipeline.studio import shown
from lipwright.pipeline.studio.jobs import JobQueue
from lipwright.pipeline.studio.work import FIRST, Project, WorkFolder

EVERY_S = 1.0
"""So often it is looked how far the jobs are."""

TOLD_S = 15.0
"""So long it is told what went wrong."""

CANCELS = """element.addEventListener("click", event => {
  const button = event.target.closest("[data-cancel]");
  if (button) { button.disabled = true; trigger("click", { number: Number(button.dataset.cancel) }); }
});"""

TITLE = "Lipwright studio"

Values = dict[str, Any]
"""What is chosen, by chooser."""


EVENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
"""Of each event. What is chosen comes as it is: Gradio would look it up in the choices that it sent last, which may be others
by then; what is done with it looks itself."""


@dataclass(frozen=True)
class Chooser:
    """Something to choose from.

    Attributes
    ----------
    component
        A dropdown, or boxes to tick.
    choices
        Given the project and what is chosen further up.
    follow
        What is new is chosen at once.
    """

    component: Any
    choices: Callable[[Project, Values], list[Any]]
    follow: bool = True

    @property
    def many(self) -> bool:
        """Say whether several can be chosen."""
        return isinstance(self.component, gr.CheckboxGroup)

    def choose(self, choices: list[Any], known: list[Any] | None, value: Any) -> Any:
        """Return what is chosen now, if these are the choices, those were, and that was chosen."""
        names = [choice[1] if isinstance(choice, tuple) else choice for choice in choices]
        before = None if known is None else [choice[1] if isinstance(choice, tuple) else choice for choice in known]
        new = [name for name in names if self.follow and (before is None or name not in before)]
        if self.many:
            return [name for name in names if name in new or name in (value or [])]
        if new:
            return new[-1]
        return value if value in names else (names[0] if names else None)


@dataclass(frozen=True)
class Panel:
    """Something that is shown, as HTML, given the project and what is chosen."""

    component: gr.HTML
    show: Callable[[Project, Values], str]


@dataclass
class Frame:
    """What the tabs are built into.

    Attributes
    ----------
    work, jobs
        What they show.
    project
        The component that holds the project's name.
    seen
        What the browser has.
    choosers, panels
        By name; filled by the tabs.
    """

    work: WorkFolder
    jobs: JobQueue
    project: gr.Dropdown
    seen: gr.State
    choosers: dict[str, Chooser] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)

    def choose(self, name: str, component: Any, choices: Callable[[Project, Values], list[Any]], *, follow: bool = True) -> Any:
        """Let something be chosen; return its component."""
        self.choosers[name] = Chooser(component, choices, follow)
        return component

    def show(self, show: Callable[[Project, Values], str], **options: Any) -> gr.HTML:
        """Show something."""
        component = gr.HTML(elem_classes="panel", apply_default_css=False, padding=False, **options)
        self.panels.append(Panel(component, show))
        return component

    def on(self, trigger: Callable[..., Any], do: Callable[..., Any], inputs: Sequence[Any] = (), outputs: Any = None) -> None:
        """Let something be done, given the project and inputs; errors are told in words."""

        @wraps(do)
        def done(name: str, *given: Any) -> Any:
            return do(self.work.project(name), *given)

        self.actions.append(trigger(_in_words(done), [self.project, *inputs], outputs, **EVENT))

    def usual(self, name: str) -> str:
        """Return a project's name if there is such a project, else that of the one that was worked on last."""
        projects = self.work.projects()
        worked_on = (job.project for job in self.jobs.every())
        return next((each for each in (name, *worked_on, FIRST) if each in projects), projects[0])

    def refresh(self, name: str, seen: dict[str, Any], *given: Any) -> list[Any]:
        """Return what the browser is to change: the project's choices, what it has seen, choosers, panels."""
        projects = self.work.projects()
        name = self.usual(name)
        project = self.work.project(name)
        if seen.get("project") != name:
            seen = {"project": name}
        known, now = seen.get("choices", {}), {}
        values: Values = dict(zip(self.choosers, given, strict=True))
        updates = []
        for key, chooser in self.choosers.items():
            choices = now[key] = chooser.choices(project, values)
            value = chooser.choose(choices, known.get(key), values[key])
            changed = choices != known.get(key) or value != values[key]
            updates.append(gr.update(choices=choices, value=value) if changed else gr.skip())
            values[key] = value
        shows, marks = [], {}
        for k, panel in enumerate(self.panels):
            try:
                html = panel.show(project, values)
            except (LipwrightError, ModelError, OSError) as error:
                html = shown.said(in_words(error), "wrong")
            marks[k] = hashlib.sha256(html.encode("utf-8", "replace")).hexdigest()
            shows.append(html if seen.get("marks", {}).get(k) != marks[k] else gr.skip())
        now_seen = {"project": name, "projects": projects, "choices": now, "marks": marks}
        which = gr.skip() if seen.get("projects") == projects else gr.update(choices=projects, value=name)
        return [which, gr.skip() if now_seen == seen else now_seen, *updates, *shows]


def _in_words(do: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function tell in words what goes wrong."""

    @wraps(do)
    def told(*given: Any) -> Any:
        try:
            return do(*given)
        except (LipwrightError, ModelError, OSError) as error:
            raise gr.Error(escape(in_words(error)), duration=TOLD_S, title="Not done", print_exception=False) from None

    return told


def build(work: WorkFolder, jobs: JobQueue) -> gr.Blocks:
    """Build the page."""
    from lipwright.pipeline.studio import tabs

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(f"<h1>{TITLE}</h1>", elem_classes="panel", apply_default_css=False, padding=False)
        remembered = gr.BrowserState("", storage_key="lipwright-project", secret="not a secret")
        with gr.Row(equal_height=False, elem_id="projects"):
            project = gr.Dropdown(
                work.projects(), value=work.projects()[0], label="Project", info="One person and their footage."
            )
            new = gr.Textbox(label="New project", info="Its name, then Enter.", max_lines=1, max_length=60)
        frame = Frame(work, jobs, project, gr.State({}))
        bar = frame.show(lambda project, values: shown.bar(jobs), js_on_load=CANCELS, elem_id="running")
        with gr.Tabs(elem_id="tabs"):
            for build_tab in (tabs.check, tabs.footage, tabs.train, tabs.render, tabs.edit):
                with gr.Tab(build_tab.__name__.capitalize()):
                    build_tab(frame)
        with gr.Accordion("What was done", open=False):
            frame.show(lambda project, values: shown.history(jobs.every(project.name)))

        def cancel(event: gr.EventData) -> None:
            jobs.cancel(int(event.number))

        def remember(name: str) -> Any:
            return gr.update(choices=work.projects(), value=frame.usual(name))

        def create(_: str, name: str) -> tuple[Any, str]:
            made = work.project(name, new=True).name
            return gr.update(choices=work.projects(), value=made), ""

        frame.actions.append(bar.click(cancel, None, None, **EVENT))
        frame.actions.append(new.submit(_in_words(create), [project, new], [project, new], **EVENT))
        inputs = [project, frame.seen, *(chooser.component for chooser in frame.choosers.values())]
        outputs = [*inputs, *(panel.component for panel in frame.panels)]
        options: Any = {**EVENT, "trigger_mode": "always_last"}

        blocks.load(remember, remembered, project, **EVENT).then(frame.refresh, inputs, outputs, **options)
        for action in frame.actions:
            action.then(frame.refresh, inputs, outputs, **options)
        gr.on(
            [project.input, *(chooser.component.input for chooser in frame.choosers.values()), gr.Timer(EVERY_S).tick],
            frame.refresh, inputs, outputs, **options,
        )  # fmt: skip
        project.change(None, project, remembered, js="name => name", **EVENT)
    return blocks.queue(default_concurrency_limit=8)
