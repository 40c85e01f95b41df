"""What a file says about how it was made, and whether that can be believed: content credentials (C2PA), read and checked.

Nothing goes over a network. What is read was written by strangers: it is shown as text, and nothing that it names is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lipwright.data.errors import InputError, MediaError, MissingPartError
from lipwright.data.media import open_media
from lipwright.pipeline.certificate import TEST_NAME
from lipwright.pipeline.manifest import AGENT, CONSENT_LABEL, RENDER_LABEL, consent_of
from lipwright.pipeline.provenance import EXTRA, missing_part, synthetic_tags

TRUSTED, VALID, INVALID, NONE = "trusted", "valid", "invalid", "no credentials"
"""Verdicts: signed by somebody who is trusted; whole, signed by whomever; not what was signed; nothing to check."""

CANNOT_HOLD = "files of this kind hold none"
ELSEWHERE = "they are said to lie at an address, which is not fetched"

EMPTY: dict[str, Any] = {
    "path": None,
    "verdict": NONE,
    "reasons": [],
    "codes": [],
    "signer": None,
    "organisation": None,
    "test_certificate": False,
    "trust": None,
    "made_with": None,
    "made_at": None,
    "changes": [],
    "sources": [],
    "render": None,
    "consent": None,
    "consent_matches": None,
    "metadata_synthetic": None,
}
"""What is told of a file without content credentials."""

SHAPES: dict[str, Any] = {
    RENDER_LABEL: {"mouths": [{"driver": {"kind": str, "name": str, "sha256": str}}]},
    CONSENT_LABEL: {"format": str, "sha256": str},
}
"""What has to be in our own assertions to be read as such."""

UNTRUSTED = "signingCredential.untrusted"

WORDS = {
    "assertion.bmffHash.mismatch": "picture, sound or container were changed after it was signed (content hash mismatch)",
    "assertion.dataHash.mismatch": "its content was changed after it was signed (content hash mismatch)",
    "assertion.hashedURI.mismatch": "what its credentials say was changed after it was signed (statement hash mismatch)",
    "claimSignature.mismatch": "the signature does not fit what is signed (broken signature)",
    "claimSignature.missing": "its credentials bear no signature",
    "signingCredential.expired": "the signer's certificate has run out, and no time stamp says that it was signed before",
    "signingCredential.invalid": "the signer's certificate is not one that may sign content credentials",
    "claimSignature.outsideValidity": "it was signed when the signer's certificate was not valid",
}
"""What C2PA's status codes mean; others are told in the library's words."""


def verify_file(path: Path | str, *, trust: Path | str | None = None, consent: Path | str | None = None) -> dict[str, Any]:
    """Read and check the content credentials of a file.

    Parameters
    ----------
    path
        Any file that C2PA knows: MP4, MOV, and others.
    trust
        Certificates of the authorities that are trusted, PEM; without, nobody is.
    consent
        A consent record, to compare with the one that was signed.

    Returns
    -------
    dict
        ``path``; ``verdict``, one of `TRUSTED`, `VALID`, `INVALID`, `NONE`; ``reasons``, what is wrong, in words, and
        ``codes``, as C2PA has it; ``signer`` and ``organisation``, ``test_certificate``; ``trust``, the authorities that were
        given; ``made_with``, ``made_at`` (as the signer says); ``changes``, in words; ``sources``, each with ``name``,
        ``relationship``, ``note`` and its own ``credentials`` (None, or ``verdict``, ``reasons``, ``signer``, ``made_with``);
        ``render``, Lipwright's own record, with all hashes; ``consent``, and ``consent_matches``, whether it is the one given
        (None: none was); ``metadata_synthetic``.

    Raises
    ------
    InputError
        A file is missing, or is nothing that holds content credentials or a video.
    MissingPartError
        The extra ``provenance`` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; give a video file")
    asked = None if consent is None else consent_of(Path(consent))
    found, problem = _read(path, trust)
    result: dict[str, Any] = EMPTY | {"path": str(path), "metadata_synthetic": _marked(path), "trust": trust and str(trust)}
    if found is not None:
        return result | _told(found, asked)
    if result["metadata_synthetic"] is None:
        raise InputError(f"{path} is no video that can be read, and holds no content credentials that can ({problem or NONE})")
    if problem and problem.startswith((CANNOT_HOLD, ELSEWHERE)):
        return result | {"reasons": [problem]}
    return result | (
        {"verdict": INVALID, "reasons": [f"the file or its credentials are damaged ({problem})"]} if problem else {}
    )


def _read(path: Path, trust: Path | str | None) -> tuple[dict[str, Any] | None, str | None]:
    """Return what the library reads; or None, and what is damaged, if anything is."""
    if missing := missing_part():
        raise MissingPartError(f"content credentials need {missing}; {EXTRA}")
    import c2pa

    from lipwright.pipeline.sealing import read, said

    anchors = None if trust is None else _anchors(Path(trust))
    try:
        return read(path, anchors), None
    except c2pa.C2paError.ManifestNotFound:
        return None, None
    except c2pa.C2paError.NotSupported:
        return None, CANNOT_HOLD
    except c2pa.C2paError as error:
        return None, f"{ELSEWHERE}: {said(error)}" if "remote manifest" in str(error) else said(error)


def _anchors(path: Path) -> str:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        pem = path.read_bytes()
        load_pem_x509_certificates(pem)
        return pem.decode()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the certificates of trusted authorities, PEM") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no PEM certificates ({error}); give those of trusted authorities") from None


def _marked(path: Path) -> bool | None:
    """Return whether the metadata say that a video is synthetic, as `synthetic_tags` has it; None if it is no media."""
    try:
        with open_media(path) as container:
            said = " ".join(container.metadata.values())
    except MediaError:
        return None
    return any(tag in said for tag in ("synthetic=true", synthetic_tags()["comment"].partition(":")[0]))


def _told(found: dict[str, Any], consent: dict[str, str] | None) -> dict[str, Any]:
    manifests = found.get("manifests", {})
    own = manifests.get(found.get("active_manifest"), {})
    statements = [(each["label"], each["data"]) for each in own.get("assertions", [])]
    actions = [action for label, data in statements if label.startswith("c2pa.actions") for action in data.get("actions", [])]
    edits = [action for action in actions if action["action"] not in ("c2pa.opened", "c2pa.placed")]
    failures = [each for each in found.get("validation_status", []) if each["code"] != UNTRUSTED]
    verdict = {"Trusted": TRUSTED, "Valid": VALID}.get(found.get("validation_state", ""), INVALID)
    signature = own.get("signature_info") or {}
    render, recorded = (_checked([data for own, data in statements if own == label], shape) for label, shape in SHAPES.items())
    result = {
        "verdict": verdict,
        "reasons": list(dict.fromkeys(_meaning(each) for each in failures)),
        "codes": [each["code"] for each in failures],
        "signer": _signer(own),
        "organisation": signature.get("issuer"),
        "test_certificate": signature.get("common_name") == TEST_NAME,
        "made_with": _maker(own),
        "made_at": signature.get("time") or next((action["when"] for action in edits if action.get("when")), None),
        "changes": [action.get("description") or action["action"] for action in edits],
        "sources": [_source(each, manifests) for each in own.get("ingredients", [])],
        "render": render,
        "consent": recorded,
    }
    if consent is not None:
        result["consent_matches"] = recorded is not None and recorded["sha256"] == consent["sha256"]
    return result


def _checked(said: list[Any], shape: Any) -> Any:
    """Return what our own assertion says; None unless it is one, of the shape that we give it: anybody may write some."""
    return said[0] if len(said) == 1 and _has_shape(said[0], shape) else None


def _has_shape(said: Any, shape: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(said, dict) and all(_has_shape(said.get(key), part) for key, part in shape.items())
    if isinstance(shape, list):
        return isinstance(said, list) and all(_has_shape(each, shape[0]) for each in said)
    return isinstance(said, shape)


def _meaning(status: dict[str, Any]) -> str:
    return WORDS.get(status["code"]) or f"{status.get('explanation') or 'not as it should be'} ({status['code']})"


def _signer(manifest: dict[str, Any]) -> str | None:
    signature = manifest.get("signature_info") or {}
    return signature.get("common_name") or signature.get("issuer")


def _maker(manifest: dict[str, Any]) -> str | None:
    made = (manifest.get("claim_generator_info") or [{}])[0]
    return " ".join(filter(None, (made.get("name"), made.get("version")))) or manifest.get("claim_generator")


def _source(ingredient: dict[str, Any], manifests: dict[str, Any]) -> dict[str, Any]:
    """Say what a file was made from, and what was found of that one's own credentials when it was used."""
    credentials = None
    if (label := ingredient.get("active_manifest")) in manifests:
        failed = ingredient.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
        wrong = [each for each in failed if each["code"] != UNTRUSTED]
        credentials = {
            "verdict": INVALID if wrong else VALID,
            "reasons": [_meaning(each) for each in wrong],
            "signer": _signer(manifests[label]),
            "made_with": _maker(manifests[label]),
        }
    told = {"name": ingredient.get("title"), "relationship": ingredient.get("relationship")}
    return told | {"credentials": credentials, "note": ingredient.get("description")}


def in_words(result: dict[str, Any]) -> list[str]:
    """Say what was found, a line each; without what a terminal would take for more than text."""
    lines = [result["error"]] if "error" in result else _lines(result)
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _lines(result: dict[str, Any]) -> list[str]:
    verdict, signer = result["verdict"], result["signer"]
    lines = [f"{result['path']}: {verdict}" + (f": {'; '.join(result['reasons'])}" if result["reasons"] else "")]
    if verdict == NONE:
        mark = result["metadata_synthetic"]
        lines.append(
            "its metadata say that it is synthetic, which anybody can write or remove"
            if mark
            else "nor do its metadata say that it is synthetic"
        )
        lines.append("copying or converting a file drops its credentials; nothing follows from there being none")
        return lines
    if signer is None:
        return lines
    if result["test_certificate"]:
        whole = "" if verdict == INVALID else "whole since then, but "
        lines.append(f"signed with a local test certificate: {whole}it proves nothing about who signed")
    else:
        by = signer if result["organisation"] in (None, signer) else f"{signer} ({result['organisation']})"
        unknown = f"no authority in {result['trust']} vouches for them" if result["trust"] else "not looked up: see --trust"
        known = {TRUSTED: f", for whom an authority in {result['trust']} vouches", INVALID: ""}.get(verdict, f" ({unknown})")
        lines.append(f"signed by {by}{known}")
    if verdict == INVALID:
        lines.append("what follows is what it says, and may be false")
    lines.append(
        f"made with {result['made_with']}" + (f", by its own clock at {result['made_at']}" if result["made_at"] else "")
    )
    lines += [f"changed: {change}" for change in result["changes"]]
    for source in result["sources"]:
        what = "source" if source["relationship"] == "parentOf" else "part"
        own = source["credentials"]
        has = source["note"] or "no credentials of its own"
        if own is not None:
            has = f"credentials of its own, {own['verdict']}, signed by {own['signer']}, made with {own['made_with']}"
            has += f": {'; '.join(own['reasons'])}" if own["reasons"] else ""
        lines.append(f"{what}: {source['name']}, {has}")
    for mouth in (result["render"] or {}).get("mouths", []):
        lines.append(f"{mouth['driver']['kind']}: {mouth['driver']['name']}, sha256 {mouth['driver']['sha256']}")
    if result["consent"]:
        matches = {None: "", True: ", the one given", False: ", NOT the one given"}[result["consent_matches"]]
        lines.append(
            f"consent: a record is named ({result['consent']['format']}, sha256 {result['consent']['sha256']}){matches}"
        )
    elif (result["made_with"] or "").startswith(AGENT):
        lines.append("consent: no record is named")
    return lines
