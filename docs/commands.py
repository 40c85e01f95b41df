"""The directive ``commands``: every command of ``lipwright`` and its options, as ``--help`` says them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from typer import Context
from typer.main import get_command

from lipwright.pipeline.cli import app
from lipwright.pipeline.cli.command import Common

COMMON = {field.name for field in fields(Common)}
"""Options that every command has; they are said once."""


def _of_group(group: Any, path: str) -> Iterator[str]:
    """Yield the Markdown of a group's commands, and of the groups below it."""
    for name, command in group.commands.items():
        below = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _of_group(command, below)
        else:
            yield from _of_command(command, below)


def _of_command(command: Any, path: str) -> Iterator[str]:
    context = Context(command, info_name=path)
    own = [parameter for parameter in command.params if parameter.name not in COMMON]
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f"## {path}", command.help, f"```\n{path} {usage}\n```", f"```{{program}} {path}\n```")
    yield from (_of_parameter(parameter, context) for parameter in own)


def _of_parameter(parameter: Any, context: Any) -> str:
    name, told = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        return f"`{name}`: {told}"
    return f"````{{option}} {name}\n{told}\n````"


class Commands(SphinxDirective):
    """All commands, a section each; the options that all of them have come first."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        group: Any = get_command(app)
        some = next(iter(group.commands.values()))
        context = Context(some)
        parts = ["## Options of every command", "```{program} lipwright\n```"]
        parts += [_of_parameter(each, context) for each in some.params if each.name in COMMON]
        parts += _of_group(group, "lipwright")
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
