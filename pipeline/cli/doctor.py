"""The command that looks at the machine: doctor."""

from __future__ import annotations

from typing import Any

from lipwright.pipeline.cli.command import EXIT_MISSING, Common, Failure, columns, command, size, tell


@command
def doctor(*, common: Common) -> None:
    """Say what is installed here, what is missing, and how to get it."""
    from lipwright.pipeline import examine

    result = examine()
    tell(result, common.json, lambda: _seen(result))
    if result["problems"]:
        raise Failure(EXIT_MISSING, "\n".join(result["problems"]))


def _seen(result: dict[str, Any]) -> str:
    cache = result["cache"]
    room = f"{cache['folder']}, {size(cache['bytes'])}; {size(cache['free_bytes'])} free" if cache else "none"
    rows = [
        ["Lipwright", f"{result['lipwright']} on Python {result['python']}, {result['system']}, {result['cores']} cores"],
        ["networks run on", "; ".join(f"{device['kind']} ({device['name']})" for device in result["devices"]) or "nothing"],
        ["writes", ", ".join(codec for codec, there in result["encoders"].items() if there) or "nothing"],
        ["landmark model", result["landmark_model"] or "none"],
        ["cache", room],
    ]
    packages = [[package["name"], package["version"] or "missing", package["needs"]] for package in result["packages"]]
    extras = []
    for extra in result["extras"]:
        have = ", ".join(f"{package['name']} {package['version']}" for package in extra["packages"] if package["version"])
        extras.append([f"[{extra['name']}]", extra["use"], extra["install"] or have])
    parts = [columns(rows, (0, 1)), columns(packages, (0, 1, 2)), columns(extras, (0, 1, 2))]
    if not result["problems"]:
        parts.append("\n".join(["all that Lipwright needs is here", *result["notes"]]))
    return "\n\n".join(parts)
