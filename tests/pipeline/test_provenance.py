"""What a finished file says of itself is signed last, and read back: whole files are valid, changed ones are not."""

from __future__ import annotations

import errno
import http.server
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from lipwright.data.errors import Cancelled, InputError, LipwrightError, MissingPartError
from lipwright.data.media import file_sha256, probe
from lipwright.pipeline import sealing
from lipwright.pipeline.certificate import TEST_NAME, certificate_for, load_certificate
from lipwright.pipeline.provenance import sealer_for, synthetic_tags
from lipwright.pipeline.render.roles import Script
from lipwright.pipeline.settings import Credentials, RenderSettings
from lipwright.pipeline.verify import INVALID, NONE, TRUSTED, VALID, in_words, verify_file

Make = Callable[..., Any]
DAY = timedelta(days=1)


# Certificates ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("own-cache")
    monkeypatch.setenv("LIPWRIGHT_CACHE", str(folder))
    return folder


def test_the_local_certificate_is_kept_for_its_owner_alone_and_says_what_it_is(own_cache: Path) -> None:
    first = certificate_for()
    (file,) = own_cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.name == TEST_NAME
    assert "TEST" in TEST_NAME
    assert first.file is None
    assert certificate_for() == first
    (link,) = x509.load_pem_x509_certificates(first.chain)
    assert "TEST" in link.issuer.rfc4514_string()


@pytest.mark.parametrize("broken", ["not PEM", "another key"])
def test_a_local_certificate_that_cannot_sign_is_made_anew(own_cache: Path, authority: Any, broken: str) -> None:
    first = certificate_for()
    (file,) = own_cache.iterdir()
    file.write_bytes(b"x" if broken == "not PEM" else authority.private(ec.generate_private_key(ec.SECP256R1())) + first.chain)
    again = certificate_for()
    assert again.chain != first.chain
    assert certificate_for() == again


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"since": -3 * DAY, "until": -DAY}, "ran out on"),
        ({"since": DAY}, "is valid from"),
        ({"ca": True}, "begins with a certificate authority"),
        ({"purpose": None}, "extended key usage: none"),
        ({"purpose": ExtendedKeyUsageOID.SERVER_AUTH}, "emailProtection"),
        ({"signs": False}, "not for digital signatures"),
        ({"name": "Authority"}, "self-signed"),
    ],
)
def test_a_certificate_that_may_not_sign_is_refused(authority: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        load_certificate(*authority.issue(**how))
    assert "chain.pem" in str(told.value)


def test_a_key_that_does_not_fit_or_cannot_be_read_is_refused(authority: Any, tmp_path: Path) -> None:
    chain, key = authority.issue()
    other = tmp_path / "other.pem"
    for content, words in (
        (authority.private(ec.generate_private_key(ec.SECP256R1())), "is not the key of"),
        (authority.private(ec.generate_private_key(ec.SECP256R1()), b"secret"), "has a password"),
        (b"-----BEGIN", "is not a PEM private key"),
        (chain.read_bytes(), "is not a PEM private key"),
    ):
        other.write_bytes(content)
        with pytest.raises(InputError, match=words) as told:
            load_certificate(chain, other)
        assert "other.pem" in str(told.value)
    for missing, words in (((chain, tmp_path / "no.pem"), "no.pem does not exist"), ((tmp_path, key), "cannot be read")):
        with pytest.raises(InputError, match=words):
            load_certificate(*missing)


def test_a_chain_that_is_no_chain_is_refused(authority: Any, tmp_path: Path, new_authority: Make) -> None:
    chain, key = authority.issue()
    other = new_authority(tmp_path, "Authority")
    (own, _) = x509.load_pem_x509_certificates(chain.read_bytes())
    chain.write_bytes(authority.pem(own, other.own))
    with pytest.raises(InputError, match="was not issued by"):
        load_certificate(chain, key)
    chain.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a PEM certificate chain"):
        load_certificate(chain, key)


def test_what_only_the_library_finds_wrong_is_told_before_work(authority: Any, tmp_path: Path) -> None:
    chain, key = authority.issue(key=ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(InputError, match=r"chain\.pem \(Jane Doe\) cannot sign"):
        sealer_for(tmp_path / "out.mp4", Credentials(chain, key))


def test_a_key_is_not_shown(authority: Any) -> None:
    assert "PRIVATE KEY" not in repr(load_certificate(*authority.issue()))


def test_a_certificate_comes_with_its_key(authority: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, key = authority.issue()
    with pytest.raises(InputError, match=r"give --key"):
        certificate_for(chain)
    with pytest.raises(InputError, match=r"give --certificate"):
        certificate_for(key=key)
    monkeypatch.setenv("LIPWRIGHT_CERTIFICATE", str(chain))
    with pytest.raises(InputError, match="LIPWRIGHT_KEY"):
        certificate_for()
    monkeypatch.setenv("LIPWRIGHT_KEY", str(key))
    assert certificate_for().name == "Jane Doe"


# Signing --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def seal(tmp_path: Path, wav: Make, tone: Make) -> Make:
    """Return a function that signs a file into another, as a render of a target does: `seal(whole, out, …)` → the output."""

    def run(
        whole: Path, out: str | Path = "out.mp4", credentials: Credentials | None = Credentials(), target: Path | None = None,
        progress: Any = None, scripts: Any = None,
    ) -> Path:  # fmt: skip
        path, target = tmp_path / out, target or whole
        sound = tmp_path / "speech.wav"
        scripts = scripts or [Script(None, sound if sound.exists() else wav(tone(0.5), name="speech.wav"), None, None, None)]
        sealer = sealer_for(path, credentials)
        act = sealer.seal(target, file_sha256(target), scripts, Fraction(12, 25), RenderSettings(), progress)
        assert act is not None
        act(whole, path)
        return path

    return run


def _packets(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        return [
            (p.stream_index, p.pts, p.dts, p.duration, p.time_base, p.is_keyframe, bytes(p))
            for p in container.demux()
            if p.size
        ]


def _boxes(content: bytes) -> dict[str, int]:
    """Return where each of a file's own boxes begins."""
    at, boxes = 0, {}
    while at < len(content):
        boxes[content[at + 4 : at + 8].decode()] = at
        at += int.from_bytes(content[at : at + 4], "big")
    return boxes


@pytest.mark.parametrize("name", ["bars.mp4", "bars.m4v", "bars.mov"])
def test_a_signed_file_has_the_packets_and_tags_of_the_unsigned(
    seal: Make, bars: Make, wav: Make, tone: Make, name: str
) -> None:
    whole = bars(name=name, audio=probe(wav(tone(0.48, 44100), 44100)), tags=synthetic_tags(), start=Fraction(1, 25))
    signed = seal(whole, f"signed{whole.suffix}")
    assert _packets(signed) == _packets(whole)
    boxes = _boxes(signed.read_bytes())
    assert boxes["moov"] < boxes["mdat"]
    with av.open(str(whole)) as before, av.open(str(signed)) as after:
        assert after.metadata == before.metadata
        assert after.duration == before.duration
    assert verify_file(signed)["verdict"] == VALID


def test_what_a_file_says(seal: Make, bars: Make, tmp_path: Path, authority: Any) -> None:
    record = tmp_path / "jane's consent.txt"
    record.write_text("I, Jane, agree.")
    chain, key = authority.issue()
    whole = bars(tags=synthetic_tags())
    signed = seal(whole, credentials=Credentials(chain, key, record))
    said = verify_file(signed, trust=authority.root, consent=record)
    assert said["verdict"] == TRUSTED
    assert (said["signer"], said["organisation"], said["test_certificate"]) == ("Jane Doe", "Studio", False)
    assert said["made_with"].startswith("Lipwright 0")
    assert abs(datetime.fromisoformat(said["made_at"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert [(s["name"], s["relationship"]) for s in said["sources"]] == [
        ("bars.mp4", "parentOf"),
        ("speech.wav", "componentOf"),
    ]
    assert (
        "From 0.00 s to 0.48 s, where it is seen, the mouth of the largest face was generated by the model 'base'"
        in said["changes"][0]
    )
    render = said["render"]
    assert render["source"]["sha256"] == file_sha256(whole)
    assert render["mouths"][0]["audio"]["sha256"] == file_sha256(tmp_path / "speech.wav")
    from lipwright.models.lipsync import BASE

    model = {"kind": "model", "name": "base", "sha256": file_sha256(BASE / "model.safetensors")}
    assert render["mouths"][0]["driver"] == model
    assert said["consent"] == {"format": "text/plain", "sha256": file_sha256(record)}
    assert said["consent_matches"] is True
    assert said["metadata_synthetic"] is True
    content = signed.read_bytes()
    assert b"jane's consent" not in content
    assert b"agree" not in content
    assert str(tmp_path).encode() not in content
    assert b"compositeWithTrainedAlgorithmicMedia" in content
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert verify_file(signed, consent=other)["consent_matches"] is False


def test_two_people_and_other_footage_are_named(seal: Make, bars: Make, wav: Make, tone: Make, tmp_path: Path) -> None:
    track, bank = tmp_path / "mouth.json", bars(name="bank.mp4")
    track.write_text("{}")
    left, right = (wav(tone(0.3, hz=hz), name=f"{hz}.wav") for hz in (300, 500))
    scripts = [Script("left", left, None, track, None), Script("right", right, None, None, bank)]
    said = verify_file(seal(bars(), scripts=scripts))
    assert said["verdict"] == VALID
    assert [s["name"] for s in said["sources"]] == ["bars.mp4", "300.wav", "500.wav", "bank.mp4"]
    assert [mouth["face"] for mouth in said["render"]["mouths"]] == ["left", "right"]
    assert [mouth["driver"]["kind"] for mouth in said["render"]["mouths"]] == ["mouth track", "model"]
    assert said["render"]["mouths"][1]["bank"]["sha256"] == file_sha256(bank)
    assert (
        "the face at the left was painted after the mouth track 'mouth.json', beside the sound '300.wav'" in said["changes"][0]
    )
    assert "the face at the right was generated by the model 'base' to say '500.wav'" in said["changes"][0]
    assert len([line for line in in_words(said) if line.startswith(("model: ", "mouth track: "))]) == 2


@pytest.mark.parametrize("odd", [{"mouths": 3}, {"mouths": [1]}, {"mouths": [{"driver": {"name": 4}}]}, {}])
def test_what_only_looks_like_ours_is_not_taken_for_it(
    seal: Make, bars: Make, odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lipwright.pipeline import sealing
    from lipwright.pipeline.manifest import CONSENT_LABEL, RENDER_LABEL

    build = sealing._builder

    def other(definition: dict[str, Any]) -> Any:
        own = [each for each in definition["assertions"] if each["label"] != RENDER_LABEL]
        own += [{"label": label, "data": odd, "created": True} for label in (RENDER_LABEL, CONSENT_LABEL)]
        return build(definition | {"assertions": own})

    monkeypatch.setattr(sealing, "_builder", other)
    said = verify_file(seal(bars()))
    assert (said["verdict"], said["render"], said["consent"]) == (VALID, None, None)
    assert in_words(said)[-1] == "consent: no record is named"


def test_who_is_trusted_is_for_the_reader_to_say(
    seal: Make, bars: Make, authority: Any, tmp_path: Path, new_authority: Make
) -> None:
    signed = seal(bars(), credentials=Credentials(*authority.issue()))
    assert verify_file(signed)["verdict"] == VALID
    assert verify_file(signed, trust=authority.root)["verdict"] == TRUSTED
    assert verify_file(signed, trust=new_authority(tmp_path, "Other").root)["verdict"] == VALID
    (tmp_path / "no.pem").write_text("no")
    for name, words in (("no.pem", "holds no PEM"), ("gone.pem", "does not exist")):
        with pytest.raises(InputError, match=words):
            verify_file(signed, trust=tmp_path / name)


@pytest.mark.parametrize("kind", ["p384", "rsa", "ed25519"])
def test_other_kinds_of_keys_sign(seal: Make, bars: Make, authority: Any, kind: str) -> None:
    key: Any = {
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[kind]()
    signed = seal(bars(), credentials=Credentials(*authority.issue(key=key)))
    assert verify_file(signed, trust=authority.root)["verdict"] == TRUSTED


def test_a_chain_with_an_authority_between_leads_to_the_root(
    seal: Make, bars: Make, authority: Any, tmp_path: Path, new_authority: Make
) -> None:
    between = new_authority(tmp_path, "Between")
    chain, key = between.issue()
    (own, _) = x509.load_pem_x509_certificates(chain.read_bytes())
    chain.write_bytes(authority.pem(own, authority.certify("Between", between.key.public_key(), ca=True), authority.own))
    signed = seal(bars(), credentials=Credentials(chain, key))
    assert verify_file(signed, trust=authority.root)["verdict"] == TRUSTED


def test_a_source_with_credentials_keeps_its_own(seal: Make, bars: Make, authority: Any) -> None:
    once = seal(bars(), "once.mp4", Credentials(*authority.issue()))
    twice = seal(bars(name="new.mp4"), "twice.mp4", target=once)
    said = verify_file(seal(bars(name="newer.mp4"), "thrice.mp4", target=twice))
    assert said["verdict"] == VALID
    assert said["test_certificate"] is True
    source = said["sources"][0]
    assert source["name"] == "twice.mp4"
    assert source["credentials"]["verdict"] == VALID
    assert source["credentials"]["signer"] == TEST_NAME
    content = (twice.parent / "thrice.mp4").read_bytes()
    assert b"once.mp4" in content
    assert b"Jane Doe" in content


def test_a_source_that_was_changed_is_told(seal: Make, bars: Make) -> None:
    once = seal(bars(), "once.mp4")
    content = bytearray(once.read_bytes())
    content[-50] ^= 1
    once.write_bytes(content)
    said = verify_file(seal(bars(name="new.mp4"), "twice.mp4", target=once))
    assert said["verdict"] == VALID
    assert said["sources"][0]["credentials"]["verdict"] == INVALID
    assert any("changed after it was signed" in line for line in in_words(said))


@pytest.mark.parametrize("kind", ["mkv", "mkv called mp4", "broken credentials", "cut off"])
def test_a_source_that_cannot_hold_credentials_is_still_named(seal: Make, bars: Make, kind: str) -> None:
    if kind.startswith("mkv"):
        target = bars(name="target.mkv")
        target = target.rename(target.with_suffix(".mp4")) if "mp4" in kind else target
    else:
        target = seal(bars(), "target.mp4")
        content = bytearray(target.read_bytes())
        content[content.find(b"jumb") + 2] ^= 1
        target.write_bytes(content if kind == "broken credentials" else content[:-100])
    said = verify_file(seal(bars(name="new.mp4"), target=target))
    assert said["verdict"] == VALID
    note = None if kind.startswith("mkv") else "its own credentials could not be read"
    assert said["sources"][0] == {"name": target.name, "relationship": "parentOf", "credentials": None, "note": note}
    assert f"source: {target.name}, {note or 'no credentials of its own'}" in in_words(said)


def test_a_source_under_another_name_keeps_its_credentials(seal: Make, bars: Make) -> None:
    target = seal(bars(), "target.mp4")
    target = target.rename(target.with_suffix(".mkv"))
    assert verify_file(seal(bars(name="new.mp4"), target=target))["sources"][0]["credentials"]["verdict"] == VALID


def test_names_that_are_not_unicode_are_signed_as_far_as_they_are(seal: Make, bars: Make, tmp_path: Path) -> None:
    target = bars(name="target.mp4").rename(tmp_path / os.fsdecode(b"t\xff.mp4"))
    said = verify_file(seal(bars(name="new.mp4"), target=target))
    assert said["verdict"] == VALID
    assert said["sources"][0]["name"] == "t\N{REPLACEMENT CHARACTER}.mp4"


def test_a_reading_that_is_interrupted_says_nothing(seal: Make, bars: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    file, act = seal(bars()), sealing._Watched._do

    def slowly(self: Any, *values: Any) -> Any:
        time.sleep(0.05)
        return act(self, *values)

    monkeypatch.setattr(sealing._Watched, "_do", slowly)
    interrupt = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        verify_file(file)
    interrupt.join()


# What was changed -----------------------------------------------------------------------------------------------------


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a byte of the picture": (lambda c: _flipped(c, _boxes(c)["mdat"] + 400), "content hash mismatch"),
    "a byte of the last packet": (lambda c: _flipped(c, len(c) - 1), "content hash mismatch"),
    "a time": (lambda c: _flipped(c, c.find(b"stts", _boxes(c)["moov"]) + 15), "content hash mismatch"),
    "the tags": (lambda c: c.replace(b"Synthetic media", b"Authentic media"), "content hash mismatch"),
    "what is said": (lambda c: c.replace(b"the largest face", b"the other person"), "statement hash mismatch"),
    "the agent": (lambda c: _flipped(c, c.rfind(b"Lipwright", 0, _boxes(c)["moov"])), ""),
    "the signature": (lambda c: _flipped(c, c.rfind(b"\x58\x40", 0, _boxes(c)["moov"]) + 9), "broken signature"),
    "a box of the credentials": (lambda c: _flipped(c, c.find(b"jumb") + 2), "damaged"),
    "bytes at the end": (lambda c: c + b"1", ""),
    "a box at the end": (lambda c: c + (16).to_bytes(4, "big") + b"mdat12345678", ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_not_valid(seal: Make, bars: Make, change: str) -> None:
    signed = seal(bars(frames=40, tags=synthetic_tags()))
    act, words = CHANGES[change]
    content = signed.read_bytes()
    signed.write_bytes(act(content))
    assert signed.read_bytes() != content
    said = verify_file(signed)
    assert said["verdict"] == INVALID
    assert said["reasons"]
    assert words in said["reasons"][0]
    assert in_words(said)[0].startswith(f"{signed}: invalid: ")


def test_a_file_that_was_cut_off_is_not_valid(seal: Make, bars: Make) -> None:
    content = (signed := seal(bars(frames=40))).read_bytes()
    for share in (0.99, 0.7, 0.3):
        signed.write_bytes(content[: int(share * len(content))])
        try:
            assert verify_file(signed)["verdict"] == INVALID
        except InputError as error:  # nor a video that can be read
            assert signed.name in str(error)


def test_a_certificate_that_has_run_out_is_told_when_reading(seal: Make, bars: Make, authority: Any) -> None:
    import time

    signed = seal(bars(), credentials=Credentials(*authority.issue(until=timedelta(seconds=3))))
    assert verify_file(signed)["verdict"] == VALID
    time.sleep(4.2)  # certificates count whole seconds
    said = verify_file(signed)
    assert said["verdict"] == INVALID
    assert "has run out" in said["reasons"][0]


def test_a_copy_without_credentials_may_keep_the_tags(seal: Make, bars: Make, tmp_path: Path) -> None:
    signed, copy = seal(bars(tags=synthetic_tags())), tmp_path / "copy.mp4"
    with av.open(str(signed)) as old, av.open(str(copy), "w") as new:
        new.metadata.update(old.metadata)
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    said = verify_file(copy)
    assert (said["verdict"], said["metadata_synthetic"]) == (NONE, True)
    assert "its metadata say that it is synthetic" in in_words(said)[1]
    plain = verify_file(bars(name="plain.mp4"))
    assert (plain["verdict"], plain["metadata_synthetic"]) == (NONE, False)
    matroska = verify_file(bars(name="bars.mkv", tags=synthetic_tags()))
    assert (matroska["verdict"], matroska["metadata_synthetic"]) == (NONE, True)
    assert matroska["reasons"] == ["files of this kind hold none"]


def test_a_list_of_other_files_is_not_followed(bars: Make, tmp_path: Path) -> None:
    bars(name="secret.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(InputError, match="no video that can be read"):
        verify_file(tmp_path / "list.mp4")


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "empty.mp4", "gone.mp4", "."):
        with pytest.raises(InputError, match=str(tmp_path / name)):
            verify_file(tmp_path / name)


def test_nothing_is_fetched_and_nothing_that_was_read_commands_a_terminal(
    seal: Make, bars: Make, tmp_path: Path, authority: Any
) -> None:
    """A file whose credentials are said to lie elsewhere; and one whose source has a name that moves the cursor."""
    import c2pa

    from lipwright.pipeline.sealing import SETTINGS

    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        certificate, whole, remote = certificate_for(), bars(), tmp_path / "remote.mp4"
        made = {"action": "c2pa.created", "digitalSourceType": "http://c2pa.org/digitalsourcetype/empty"}
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [made]}, "created": True}
        with c2pa.Builder({"assertions": [actions]}, context=c2pa.Context.from_dict(SETTINGS)) as builder:
            builder.set_no_embed()
            builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/manifest.c2pa")
            info = c2pa.C2paSignerInfo(certificate.algorithm, certificate.chain, certificate.key, None)
            with c2pa.Signer.from_info(info) as signer, whole.open("rb") as old, remote.open("w+b") as new:
                builder.sign(signer, "video/mp4", old, new)
        said = verify_file(remote)
        assert said["verdict"] in (NONE, INVALID)
        assert verify_file(seal(bars(name="new.mp4"), target=remote))["verdict"] == VALID
        server.shutdown()
    assert asked == []
    odd = whole.rename(tmp_path / "\x1b[2Jodd.mp4")
    lines = in_words(verify_file(seal(odd, "odd.mp4")))
    assert any("?[2Jodd.mp4" in line for line in lines)
    assert all(line.isprintable() for line in lines)


# What ends early ------------------------------------------------------------------------------------------------------


def test_a_signing_that_is_stopped_ends_at_once(
    seal: Make, bars: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lipwright.pipeline import sealing

    monkeypatch.setattr(sealing, "TOLD_EVERY_S", 0.0)

    def stop(*_: object) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        seal(bars(frames=60, size=(640, 480), crf=0), progress=stop)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("sign")] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told(bars: Make, tmp_path: Path, seal: Make) -> None:
    out = tmp_path / "out.mp4"
    out.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space") as told:
        seal(bars())
    assert told.value.errno == errno.ENOSPC


def test_a_file_that_cannot_be_signed_is_told(seal: Make, tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"nothing")
    with pytest.raises(LipwrightError, match="--no-provenance"):
        seal(tmp_path / "none.mp4")


MEMORY = """
import resource, sys
from pathlib import Path
from lipwright.pipeline.certificate import certificate_for
from lipwright.pipeline.manifest import Ingredient, Manifest
from lipwright.pipeline.sealing import sign
from lipwright.pipeline.verify import verify_file
for name in sys.argv[1:]:
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["source"]}}
    said = [{"label": "c2pa.actions.v2", "data": {"actions": [opened]}, "created": True}]
    manifest = Manifest({"format": "video/mp4", "assertions": said}, (Ingredient("source", Path(name), "parentOf"),))
    sign(certificate_for(), manifest, Path(name), Path(name + ".mp4"))
    assert verify_file(name + ".mp4")["verdict"] == "valid"
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 1024))
"""


def test_memory_does_not_grow_with_the_file(bars: Make) -> None:
    """The library's own settings would take twice the size of the larger one."""
    small, large = bars(name="small.mp4"), bars(name="large.mp4")
    content, longer = bytearray(large.read_bytes()), 200 << 20
    at = _boxes(bytes(content))["mdat"]
    content[at : at + 4] = (len(content) - at + longer).to_bytes(4, "big")
    large.write_bytes(content)
    os.truncate(large, len(content) + longer)
    ran = subprocess.run([sys.executable, "-c", MEMORY, small, large], capture_output=True, text=True, check=True)
    first, second = map(int, ran.stdout.split())
    assert second - first < 60, f"{first} MB, then {second} MB"


# What is asked for ----------------------------------------------------------------------------------------------------


def test_what_cannot_hold_credentials_gets_none(tmp_path: Path, authority: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("out.mkv", "folder"):
        assert sealer_for(tmp_path / name, Credentials()).told["credentials"] is None
        with pytest.raises(InputError, match="choose one of these, or give no certificate"):
            sealer_for(tmp_path / name, Credentials(*authority.issue()))
    assert [record.levelname for record in caplog.records] == ["INFO"] * 2
    assert "out.mkv gets no content credentials: .mkv holds none" in caplog.text
    assert sealer_for(tmp_path / "out.mp4", None).told["unsigned"] == "left out, as asked for"
    assert caplog.records[-1].levelname == "WARNING"


@pytest.mark.parametrize("missing", ["c2pa", "cryptography"])
def test_without_the_extra_nothing_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: Make, missing: str, authority: Any, own_cache: Path
) -> None:
    chain, key = authority.issue()
    monkeypatch.setitem(sys.modules, missing, None)
    told = sealer_for(tmp_path / "out.mp4", Credentials()).told
    assert told["credentials"] is None
    assert "pip install 'lipwright[provenance]'" in str(told["unsigned"])
    with pytest.raises(MissingPartError, match="provenance"):
        sealer_for(tmp_path / "out.mp4", Credentials(chain, key))
    with pytest.raises(MissingPartError, match="provenance"):
        verify_file(bars())
    assert not list(own_cache.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.txt", None, "does not exist"),
        ("empty.txt", b" \n", "is empty"),
        ("photo.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "neither text"),
        ("zero.txt", b"a\0b", "neither text"),
        (".", None, "cannot be read"),
    ],
)
def test_a_consent_record_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        sealer_for(tmp_path / "out.mp4", Credentials(consent=tmp_path / name))


CONSENT = {
    "a.txt": ("text/plain", "Einverständnis für alles. ".encode() * 9000),
    "a.json": ("application/json", b"{}"),
    "a": ("application/pdf", b"%PDF-1.7\n\xff"),
}


@pytest.mark.parametrize("name", CONSENT)
def test_a_consent_record_is_named_by_kind_and_hash(tmp_path: Path, name: str) -> None:
    record, (kind, content) = tmp_path / name, CONSENT[name]
    record.write_bytes(content)
    sealer = sealer_for(tmp_path / "out.mp4", Credentials(consent=record))
    assert sealer.consent == {"format": kind, "sha256": file_sha256(record)}
