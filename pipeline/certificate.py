"""Who signs: the user's certificate, looked at before any work is spent, or a local one that says that it is for tests.

What a certificate must be follows the C2PA specification, "Trust model" (X.509 certificates): not a certificate authority, for
digital signatures, for e-mail protection, document signing or content credentials, issued by somebody else.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipwright.data.cache import cache_folder
from lipwright.data.errors import InputError
from lipwright.data.files import whole_file

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

log = logging.getLogger(__name__)

CERTIFICATE_VARIABLE, KEY_VARIABLE = "LIPWRIGHT_CERTIFICATE", "LIPWRIGHT_KEY"

TEST_NAME = "Lipwright TEST certificate: proves nothing about the signer"
TEST_AUTHORITY = "Lipwright TEST authority, made on the same machine"
TEST_ORGANISATION = "Lipwright local TEST, nobody in particular"
TEST_FILE = "test_certificate.pem"
TEST_DAYS = 3650
"""Without a time stamp, which would take a network, a signature is valid as long as its certificate."""

PURPOSES = {
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.36": "documentSigning",
    "1.3.6.1.4.1.62558.2.1": "C2PA claim signing",
}
"""Extended key usages of which a certificate must have one."""


@dataclass(frozen=True)
class Certificate:
    """A certificate that can sign, its chain, and its key.

    Attributes
    ----------
    chain, key
        PEM: the signer's own certificate first, without the root; and PKCS #8.
    algorithm
        As C2PA names it.
    name
        Whose it is: the certificate's common name, or else its organisation.
    file
        Where it is from; None: made by `test_certificate`.
    """

    chain: bytes
    key: bytes = field(repr=False)  # else it would stand in logs
    algorithm: str
    name: str
    file: Path | None


def certificate_for(chain: Path | str | None = None, key: Path | str | None = None) -> Certificate:
    """Return the certificate that is given, here or by `LIPWRIGHT_CERTIFICATE` and `LIPWRIGHT_KEY`, else the local test one.

    Raises
    ------
    InputError
        The one that is asked for cannot be used.
    """
    chain = chain or os.environ.get(CERTIFICATE_VARIABLE) or None
    key = key or os.environ.get(KEY_VARIABLE) or None
    if chain is None and key is None:
        return test_certificate()
    if key is None:
        raise InputError(f"{chain} cannot sign without its private key; give --key KEY.pem or set {KEY_VARIABLE}")
    if chain is None:
        raise InputError(f"{key} is a key without a certificate; give --certificate CHAIN.pem or set {CERTIFICATE_VARIABLE}")
    return load_certificate(Path(chain), Path(key))


def load_certificate(chain: Path, key: Path) -> Certificate:
    """Read a certificate chain (the signer's own first) and its private key, both PEM, and see that they can sign now.

    Raises
    ------
    InputError
        They cannot: which file, why, and what to do.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        links = x509.load_pem_x509_certificates(_read(chain, "certificate chain"))
    except ValueError as error:
        raise InputError(
            f"{chain} is not a PEM certificate chain ({error}); its parts begin with -----BEGIN CERTIFICATE-----"
        ) from None
    _require_signer(chain, links)
    try:
        private: Any = load_pem_private_key(_read(key, "private key"), None)
    except TypeError:
        raise InputError(
            f"{key} has a password, which nobody is there to type; write one without: openssl pkcs8 -topk8 -nocrypt"
        ) from None
    except ValueError as error:
        reason = str(error).split(". ")[0]
        raise InputError(f"{key} is not a PEM private key ({reason}); it begins with -----BEGIN PRIVATE KEY-----") from None
    if private.public_key() != links[0].public_key():
        raise InputError(f"{key} is not the key of {chain} ({name_of(links[0])}); give the two that belong together")
    return _certificate(links, private, chain)


def name_of(certificate: X509) -> str:
    """Return whose a certificate is."""
    from cryptography.x509.oid import NameOID

    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if named := certificate.subject.get_attributes_for_oid(kind):
            return str(named[0].value)
    return certificate.subject.rfc4514_string() or "nobody named"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a {what} in PEM") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a {what} in PEM") from None


def _require_signer(path: Path, links: list[X509]) -> None:
    """Refuse a chain whose first certificate C2PA lets sign nothing, or nothing now."""
    from cryptography.exceptions import InvalidSignature

    own, now = links[0], datetime.now(UTC)
    if now > own.not_valid_after_utc:
        raise InputError(f"{path} ran out on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")
    if now < own.not_valid_before_utc:
        raise InputError(
            f"{path} is valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; wait, or set this machine's clock"
        )
    given = {extension.oid.dotted_string: extension.value for extension in own.extensions}
    if getattr(given.get("2.5.29.19"), "ca", False):
        raise InputError(
            f"{path} begins with a certificate authority ({name_of(own)}); the signer's own certificate comes first"
        )
    if own.issuer == own.subject:
        raise InputError(f"{path} is self-signed ({name_of(own)}), which C2PA does not take; have it issued by an authority")
    if not getattr(given.get("2.5.29.15"), "digital_signature", False):
        raise InputError(f"{path} is not for digital signatures (key usage); have one issued that is")
    purposes = [usage.dotted_string for usage in given.get("2.5.29.37", ())]
    if not set(purposes) & set(PURPOSES):
        has = ", ".join(purposes) or "none"
        raise InputError(
            f"{path} is for no use that C2PA takes (extended key usage: {has}); it needs {' or '.join(PURPOSES.values())}"
        )
    for link, above in pairwise(links):
        try:
            link.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature):
            raise InputError(
                f"{path}: {name_of(link)} was not issued by {name_of(above)}, which follows it; put them in order"
            ) from None


def _certificate(links: list[X509], private: Any, file: Path | None) -> Certificate:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    sent = [link for link in links if link.issuer != link.subject] or links  # whoever trusts a root has it
    return Certificate(
        chain=b"".join(link.public_bytes(Encoding.PEM) for link in sent),
        key=private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        algorithm=_algorithm(private),
        name=name_of(links[0]),
        file=file,
    )


def _algorithm(private: Any) -> str:
    """Return the signature algorithm that goes with a key, in C2PA's list of those allowed."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(private, EllipticCurvePrivateKey):
        return {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}.get(private.curve.name, private.curve.name)
    if isinstance(private, RSAPrivateKey):
        return "ps256"
    return "ed25519" if isinstance(private, Ed25519PrivateKey) else type(private).__name__


def test_certificate() -> Certificate:
    """Return the certificate of the cache, which says in its names that it is for tests; made if none can sign.

    The authority that issued it is thrown away at once: nobody can be asked to trust it.
    """
    from cryptography.x509 import load_pem_x509_certificates

    file = cache_folder() / TEST_FILE
    for _ in range(2):
        try:
            pem = file.read_bytes()
            links = load_pem_x509_certificates(pem)
            _require_signer(file, links)
            return _certificate(links, _own_key(pem, links), None)
        except FileNotFoundError:
            log.info("a local test certificate is made: %s", file)
        except (ValueError, InputError) as error:
            log.info("a local test certificate is made anew: %s (%s)", file, error)
        _make(file)
    raise InputError(f"{file} cannot be used, though it was made now; look at this machine's clock, or remove the file")


def _own_key(pem: bytes, links: list[X509]) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private: Any = load_pem_private_key(pem, None)
    if private.public_key() != links[0].public_key():
        raise ValueError("its key is another one's")
    return private


def _make(file: Path) -> None:
    """Make an authority, a certificate, and a key, and keep the latter two."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    authority, own = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    issued = _issue(own.public_key(), authority)
    private = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with whole_file(file) as partial:
        partial.touch(0o600)
        partial.write_bytes(private + issued.public_bytes(Encoding.PEM))


def _issue(public: Any, authority: Any) -> X509:
    """Issue a certificate for tests to a public key, by an authority's private one."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(common: str) -> x509.Name:
        parts = ((NameOID.ORGANIZATION_NAME, TEST_ORGANISATION), (NameOID.COMMON_NAME, common))
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])

    now = datetime.now(UTC)
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    usage = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return (
        x509.CertificateBuilder(named(TEST_AUTHORITY), named(TEST_NAME), public, x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=TEST_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, SHA256())
    )
