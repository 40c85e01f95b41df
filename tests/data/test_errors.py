"""The error tree: what a caller can catch, and the exit code that each error becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lipwright.data import errors
from lipwright.data.errors import Cancelled, InputError, LipwrightError, MissingPartError, OutputExistsError, require_new

TREE = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]


@pytest.mark.parametrize("error", TREE)
def test_every_error_is_ours_and_has_the_code_of_its_branch(error: type[LipwrightError]) -> None:
    assert issubclass(error, LipwrightError)
    branches = {InputError: 3, MissingPartError: 4, Cancelled: 130}
    assert error.exit_code == next((code for branch, code in branches.items() if issubclass(error, branch)), 1)
    assert str(error("a.mp4 is empty")) == "a.mp4 is empty"


@pytest.mark.parametrize("error", TREE)
def test_the_tree_in_the_docstring_is_whole(error: type[LipwrightError]) -> None:
    assert f"{error.__name__} " in (errors.__doc__ or "")


def test_an_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    require_new(out, force=False)
    out.touch()
    with pytest.raises(OutputExistsError, match=r"out\.mp4 already exists.*--force"):
        require_new(out, force=False)
    require_new(out, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_the_folder_of_an_output_must_be_there(tmp_path: Path, force: bool) -> None:
    with pytest.raises(InputError, match="none"):
        require_new(tmp_path / "none" / "out.mp4", force)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        require_new(tmp_path / "file" / "out.mp4", force)


def test_a_bare_name_stands_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_new(Path("out.mp4"), force=False)
