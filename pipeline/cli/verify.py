"""The command that looks at finished files: verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lipwright.pipeline.cli.command import EXIT_INPUT, EXIT_SOME_FAILED, Common, Failure, command, tell


@command
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Videos.")],
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust", metavar="ANCHORS.pem", help="Authorities that are trusted; then whoever they do not vouch for fails."
        ),
    ] = None,
    consent: Annotated[
        Path | None,
        typer.Option("--consent", metavar="FILE", help="A consent record; then a file that names no or another one fails."),
    ] = None,
    *,
    common: Common,
) -> None:
    """Say what files say about how they were made, and whether they are as they were signed."""
    from lipwright.data.errors import InputError
    from lipwright.pipeline import verify_file
    from lipwright.pipeline.verify import in_words

    results: list[dict[str, Any]] = []
    for file in files:
        try:
            results.append(verify_file(file, trust=trust, consent=consent))
        except InputError as error:
            if len(files) == 1:
                raise
            results.append({"path": str(file), "error": str(error)})
    failed = [f"{result['path']}: {why}" for result in results if (why := _wrong(result, trust))]
    tell({"files": results}, common.json, lambda: "\n\n".join("\n".join(in_words(result)) for result in results))
    if failed:
        code = EXIT_SOME_FAILED if len(failed) < len(files) else EXIT_INPUT
        raise Failure(code, "\n".join(failed))


def _wrong(result: dict[str, Any], trust: Path | None) -> str | None:
    """Say why a file is not verified."""
    from lipwright.pipeline.verify import TRUSTED, VALID

    verdict = result.get("verdict")
    if verdict not in (TRUSTED, VALID):
        return f"not verified: {verdict or 'cannot be read'}"
    if trust is not None and verdict != TRUSTED:
        return f"not verified: nobody in {trust} vouches for who signed it"
    if result["consent_matches"] is False:
        return "not verified: it names no record of consent, or another one"
    return None
