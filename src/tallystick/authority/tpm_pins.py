# SPDX-License-Identifier: Apache-2.0
"""The certificates by which a vendor believes TPMs: roots of their makers, authorities in between, revocation lists.

A maker's name in a certificate proves nothing: whoever pins a root has compared its fingerprint with the maker's own
word. A root that is no maker's, as that of a virtual TPM, may be pinned as well; it is the vendor who says how far a
machine's host is believed.

What is pinned for YubiKeys stands in books of its own (`PIV`), kept by the same functions: who is believed
about the one is not believed about the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tallystick.authority.attest.certificates import Certificate
from tallystick.authority.office import Office, Work
from tallystick.authority.plain import one_line
from tallystick.authority.schema_piv import PIV_ROOT
from tallystick.authority.schema_tpm import TPM_ROOT
from tallystick.authority.sql import sa
from tallystick.errors import FormatError, TallystickError, error

ROOT, INTERMEDIATE, CRL = "root", "intermediate", "crl"
MAX_FILE: Final = 4 << 20  # a bundle of every maker's certificates has 200 kB; a revocation list may be larger
_MAX_SUBJECT: Final = 256
_LEAST_DIGITS: Final = 4
_BLOCK: Final = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----.*?-----END \1-----", re.DOTALL)
_MAKERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "advanced micro devices": "AMD",
        "amdtpm": "AMD",
        "atmel": "Atmel",
        "infineon": "Infineon",
        "intel": "Intel",
        "nationz": "Nationz",
        "nuvoton": "Nuvoton",
        "qualcomm": "Qualcomm",
        "stmicroelectronics": "STMicroelectronics",
        "trusted platform module": "STMicroelectronics",  # by GlobalSign, for its chips
    }
)


@dataclass(frozen=True, slots=True)
class Books:
    """Where certificates are pinned, and for what.

    Attributes:
        table: of them.
        topic: what they are for: the command below ``tally vendor``, and the beginning of lines in the audit log.
        makers: what is found in subjects, folded -> the maker.
    """

    table: sa.Table
    topic: str
    makers: Mapping[str, str]


TPM: Final = Books(TPM_ROOT, "tpm", _MAKERS)
PIV: Final = Books(PIV_ROOT, "piv", MappingProxyType({"yubico": "Yubico"}))


@dataclass(frozen=True, slots=True)
class Pinned:
    """A certificate or revocation list on the books.

    Attributes:
        id: SHA-256 of it, hexadecimal: the fingerprint to compare.
        kind: ``root``, ``intermediate`` or ``crl``.
        subject: whose; of a revocation list, its issuer.
        maker: the maker whose name it bears; empty for a name not known here.
        added_at: seconds since 1970.
    """

    id: str
    kind: str
    subject: str
    maker: str
    added_at: int


def add(office: Office, files: Iterable[bytes], *, as_root: bool = False, books: Books = TPM) -> tuple[Pinned, ...]:
    """Pin certificates and revocation lists; what is pinned already stays.

    Args:
        office: whose.
        files: contents: one DER structure, or any number in PEM.
        as_root: certificates that others signed are pinned as roots, too: nothing above them is asked for.
        books: where.

    Returns:
        What they hold, in order.

    Raises:
        FormatError: ``malformed`` for a file that holds none of them.
        UsageError: ``usage`` for a certificate that is no certification authority's, or has a weak key.
        StorageError: the database refuses.
    """
    found, table = [one for file in files for one in _parts(file)], books.table

    def change(work: Work) -> tuple[Pinned, ...]:
        for kind, subject, der in found:
            key, wanted = sha256(der).digest(), ROOT if as_root and kind == INTERMEDIATE else kind
            known = work.find(table, id=key)
            if known is None:
                work.insert(table, id=key, kind=wanted, subject=subject, der=der, added_at=work.now)
            elif known.kind != wanted:
                work.update(table, {"id": key}, kind=wanted)
            if known is None or known.kind != wanted:
                work.audit(f"{books.topic}.root.add", key.hex(), kind=wanted, subject=subject)
        keys = dict.fromkeys(sha256(der).digest() for _, _, der in found)
        return tuple(_pinned(books, work.one(table, "certificate", id=key)) for key in keys)

    return office.write(change)


def pinned(office: Office, books: Books = TPM) -> tuple[Pinned, ...]:
    """List what is pinned, by subject.

    Args:
        office: whose.
        books: where.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(books.table).order_by(books.table.c.subject, books.table.c.id)
    return office.read(lambda work: tuple(_pinned(books, row) for row in work.db.execute(query)))


def find(office: Office, key: str, books: Books = TPM) -> Pinned:
    """Find what is pinned under an id.

    Args:
        office: whose.
        key: its id, or the beginning of it.
        books: where.

    Raises:
        AuthorityError: ``record_not_found``.
        UsageError: ``ambiguous`` where several ids begin with it.
        StorageError: the database cannot be read.
    """
    return office.read(lambda work: _pinned(books, _find(work, key, books)))


def remove(office: Office, key: str, books: Books = TPM) -> Pinned:
    """Pin something no more: it counts for nothing from the next request on.

    Args:
        office: whose.
        key: its id, or the beginning of it.
        books: where.

    Returns:
        What was pinned.

    Raises:
        AuthorityError: ``record_not_found``.
        UsageError: ``ambiguous`` where several ids begin with it.
        StorageError: the database refuses.
    """

    def change(work: Work) -> Pinned:
        row = _find(work, key, books)
        work.db.execute(sa.delete(books.table).where(books.table.c.id == row.id))
        work.audit(f"{books.topic}.root.remove", row.id.hex(), kind=row.kind, subject=row.subject)
        return _pinned(books, row)

    return office.write(change)


def concerning(work: Work, certificates: Iterable[bytes], books: Books = TPM) -> Mapping[str, tuple[bytes, ...]]:
    """Find what is pinned of the issuers of certificates, and of theirs: reading everything would take longer than
    everything else about a request.

    Args:
        work: the transaction.
        certificates: DER, of nobody in particular.
        books: where.

    Returns:
        DER, by kind: `ROOT`, `INTERMEDIATE`, `CRL`.
    """
    columns = books.table.c
    rows = work.db.execute(sa.select(columns.kind, columns.subject, columns.der)).all()
    names: set[str] = set()
    todo = list(certificates)
    while todo:
        issuer = _issuer(todo.pop())
        if issuer not in names:
            names.add(issuer)
            todo += [row.der for row in rows if row.subject == issuer and row.kind != CRL]
    found = [row for row in rows if row.subject in names]
    return {kind: tuple(row.der for row in found if row.kind == kind) for kind in (ROOT, INTERMEDIATE, CRL)}


def _issuer(der: bytes) -> str:
    try:
        return _name(x509.load_der_x509_certificate(der).issuer)
    except Exception:  # the library's classes for what it cannot read have no common base
        return ""


def _parts(data: bytes) -> list[tuple[str, str, bytes]]:
    """Kind, subject and DER of everything in a file."""
    blocks = list(_BLOCK.finditer(data))
    if not blocks:
        return [_read("the file", lambda: _part(data))]
    return [_read(f"part {number} of the file", partial(_block, block)) for number, block in enumerate(blocks, 1)]


def _block(block: re.Match[bytes]) -> tuple[str, str, bytes]:
    if block[1] == b"CERTIFICATE":
        return _part(x509.load_pem_x509_certificate(block[0]).public_bytes(Encoding.DER))
    return _list(x509.load_pem_x509_crl(block[0]))


def _read(what: str, read: Callable[[], tuple[str, str, bytes]]) -> tuple[str, str, bytes]:
    try:
        return read()
    except TallystickError:
        raise
    except Exception as cause:  # as above
        message = f"{what} is neither a certificate nor a revocation list, or is not well formed"
        remedy = "Download it again from its maker, or leave that part out; DER and PEM are taken."
        raise error("malformed", message, remedy) from cause


def _part(der: bytes) -> tuple[str, str, bytes]:
    try:
        certificate = Certificate.parse(der)
    except FormatError:
        return _list(x509.load_der_x509_crl(der))
    subject = _name(certificate.parsed.subject)
    if not certificate.authority:
        raise error("usage", f"{subject} is not a certification authority", "Pin the authority above it.")
    if not certificate.sound_key:
        raise error("usage", f"the key of {subject} is too weak to be believed")
    root = certificate.names_issuer(certificate) and certificate.issued_by(certificate)
    return ROOT if root else INTERMEDIATE, subject, certificate.der


def _list(crl: x509.CertificateRevocationList) -> tuple[str, str, bytes]:
    return CRL, _name(crl.issuer), crl.public_bytes(Encoding.DER)


def _name(name: x509.Name) -> str:
    return one_line(name.rfc4514_string())[:_MAX_SUBJECT] or "nobody by name"


def _find(work: Work, key: str, books: Books) -> sa.Row[Any]:
    wanted = key.replace(":", "").lower()
    rows = [row for row in work.db.execute(sa.select(books.table)) if row.id.hex().startswith(wanted)]
    if len(wanted) < _LEAST_DIGITS or not rows:
        remedy = f"See `tally vendor {books.topic} root list`."
        raise error("record_not_found", f"nothing is pinned as {key[:64]!r}", remedy)
    if len(rows) > 1:
        shown = ", ".join(row.id.hex()[:16] for row in rows[:3])
        raise error("ambiguous", f"{len(rows)} ids begin with {key[:64]}: {shown}")
    return rows[0]


def _pinned(books: Books, row: sa.Row[Any]) -> Pinned:
    folded = row.subject.casefold()
    maker = next((maker for name, maker in books.makers.items() if name in folded), "")
    return Pinned(row.id.hex(), row.kind, row.subject, maker, row.added_at)
