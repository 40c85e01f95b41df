"""From the command line: a render that is signed by somebody, and what verify says of it and of what was done to it since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lipwright.data.landmarks import FaceTrack
from lipwright.data.media import file_sha256
from lipwright.data.mouth import track_of


@pytest.fixture(scope="module")
def mouth(talk_track: FaceTrack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mouth") / "mouth.json"
    track_of(talk_track).save(path)
    return path


@pytest.fixture
def words(talk: Any, mouth: Path) -> list[Any]:
    return ["render", "--target", talk.path, "--audio", talk.path, "--mouth", mouth, "--end", 1, "--out"]


def test_a_render_is_signed_and_verified(lipwright: Any, words: list[Any], talk: Any, tmp_path: Path, authority: Any) -> None:
    chain, key = authority.issue()
    consent = tmp_path / "consent.txt"
    consent.write_text("I agree.")
    ran = lipwright(*words, "a.mp4", "--certificate", chain, "--key", key, "--consent", consent, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip().endswith("; signed by Jane Doe")
    ran = lipwright("verify", "a.mp4", "--trust", authority.root, "--consent", consent, "--json", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    (said,) = ran.json["files"]
    assert (said["verdict"], said["signer"], said["consent_matches"]) == ("trusted", "Jane Doe", True)
    ran = lipwright("verify", "a.mp4", cwd=tmp_path)
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0] == "a.mp4: valid"
    assert any(line.startswith("signed by Jane Doe (Studio)") for line in lines)
    assert any(line.startswith(f"source: {talk.path.name}") for line in lines)
    assert any(line.startswith("mouth track: mouth.json, sha256 ") for line in lines)
    assert any(file_sha256(consent) in line for line in lines)

    environment = {"LIPWRIGHT_CERTIFICATE": str(chain), "LIPWRIGHT_KEY": str(key)}
    ran = lipwright(*words, "b.mp4", "--json", cwd=tmp_path, env=environment)
    assert (ran.json["credentials"], ran.json["signer"]) == ("signed", "Jane Doe")
    other = tmp_path / "other.txt"
    other.write_text("I do not.")
    for more in (["--consent", other], ["--trust", words[6]]):
        assert lipwright("verify", "a.mp4", *more, cwd=tmp_path).code == 3

    content = bytearray((tmp_path / "a.mp4").read_bytes())
    content[-9] ^= 1
    (tmp_path / "a.mp4").write_bytes(content)
    ran = lipwright("verify", "a.mp4", cwd=tmp_path)
    assert ran.code == 3
    assert ran.out.startswith("a.mp4: invalid: picture, sound or container were changed after it was signed")
    assert "whole since then" not in ran.out
    assert ran.err == "lipwright: a.mp4: not verified: invalid\n"
    ran = lipwright("verify", "a.mp4", "b.mp4", "gone.mp4", "--json", cwd=tmp_path)
    assert ran.code == 5
    assert [said.get("verdict", "error") for said in ran.json["files"]] == ["invalid", "valid", "error"]


def test_by_default_a_test_certificate_signs(lipwright: Any, words: list[Any], talk: Any, tmp_path: Path) -> None:
    ran = lipwright(*words, "a.mp4", "--label", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip().endswith("; test certificate")
    ran = lipwright("verify", "a.mp4", cwd=tmp_path)
    assert ran.code == 0
    assert "signed with a local test certificate: whole since then, but it proves nothing about who signed" in ran.out
    ran = lipwright(*words, "b.mp4", "--no-provenance", cwd=tmp_path)
    assert ran.code == 0
    assert "b.mp4 gets no content credentials, as asked for" in ran.err
    assert ran.out.strip().endswith("; not signed")
    ran = lipwright("verify", "b.mp4", "--json", cwd=tmp_path)
    assert ran.code == 3
    assert (ran.json["files"][0]["verdict"], ran.json["files"][0]["metadata_synthetic"]) == ("no credentials", True)


def test_what_cannot_be_signed_or_verified_is_refused(
    lipwright: Any, words: list[Any], talk: Any, tmp_path: Path, authority: Any
) -> None:
    from datetime import timedelta

    chain, key = authority.issue(until=timedelta(hours=-1))
    refused = [
        (["--certificate", chain, "--key", key], 3, "chain.pem ran out on"),
        (["--certificate", chain], 3, "give --key"),
        (["--consent", "gone.txt"], 3, "gone.txt does not exist"),
        (["--no-provenance", "--consent", "gone.txt"], 2, "not both"),
        (["--alpha", "--label"], 2, "nothing can be drawn over it"),
    ]
    for more, code, says in refused:
        ran = lipwright(*words, "a.mp4", *more, "--json", cwd=tmp_path)
        assert (ran.code, ran.out) == (code, "")
        assert says in ran.err
        assert len(ran.err.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []
    for name, says in (("gone.mp4", "is not there"), (chain, "is no video")):
        ran = lipwright("verify", name, "--json", cwd=tmp_path)
        assert (ran.code, ran.out) == (3, "")
        assert says in ran.err
