# SPDX-License-Identifier: Apache-2.0
"""Certificates that `cryptography` cannot read, each in another way: its errors have no common base, and none of them
may escape."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator

import pytest
from attest_rig import crl, leaf, maker, root, rsa_key
from chips import Chip
from piv_rig import Token, f9
from piv_rig import root as yubico
from shop import Shop

from tallystick.authority import tpm_pins
from tallystick.authority.correspondence import containers
from tallystick.codec import cbor
from tallystick.errors import TallystickError

_VERSION = b"\xa0\x03\x02\x01\x02"  # of a certificate: version 3
_LIST_VERSION = b"\x02\x01\x01"  # of a revocation list: version 2


def other_version(der: bytes, version: bytes = _VERSION) -> bytes:
    """The same, of a version there is not: for that `InvalidVersion` is raised, which is no ValueError."""
    at = der.index(version) + len(version) - 1
    return der[:at] + b"\x07" + der[at + 1 :]


def changed(der: bytes) -> Iterator[bytes]:
    """The same with one byte changed, each in turn, in two ways."""
    for at in range(len(der)):
        for bits in (0x01, 0x84):
            yield der[:at] + bytes([der[at] ^ bits]) + der[at + 1 :]


def pem(kind: str, der: bytes) -> bytes:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n".encode()


class Forged(Chip):
    """A chip that sends the certificate of its endorsement key with one byte changed."""

    def evidence(self, challenge: bytes) -> bytes:
        """What it says for a request."""
        parts = cbor.decode(super().evidence(challenge))
        return cbor.encode(parts | {1: [other_version(one) for one in parts[1]]})


def test_a_tpms_certificate_that_cannot_be_read_proves_nothing_and_is_answered(shop: Shop) -> None:
    tpm_pins.add(shop.office, [root().der, maker().der])
    code = shop.entitle().code.reveal()
    result = Forged(shop).ask(code)
    assert (result.kind, result.charged) == ("update", 1)
    (warning,) = result.warnings
    assert warning.startswith("its level is L0")
    assert warning.endswith("(certificate_form)")
    assert [one.level for one in containers(shop.office)] == [0]


@pytest.mark.parametrize("which", [0, 1], ids=["of the key", "of slot F9"])
def test_a_tokens_certificate_that_cannot_be_read_proves_nothing_and_is_answered(sqlite_shop: Shop, which: int) -> None:
    tpm_pins.add(sqlite_shop.office, [yubico().der], books=tpm_pins.PIV)
    token = Token(sqlite_shop)
    pair = [token.attestation.der(), f9().der]
    pair[which] = other_version(pair[which])
    result = token.ask(sqlite_shop.entitle().code.reveal(), {"piv": cbor.encode(pair)})
    assert (result.kind, result.charged) == ("update", 1)
    (warning,) = result.warnings
    assert warning.startswith("its level is L1")
    assert warning.endswith("(certificate_form)")


def test_nothing_escapes_where_pins_are_looked_up(sqlite_shop: Shop) -> None:
    tpm_pins.add(sqlite_shop.office, [root().der, maker().der])
    good = leaf(rsa_key("EK"))
    strange = [*changed(good[:400]), *changed(good), other_version(good), b"", secrets.token_bytes(400)]
    sqlite_shop.office.read(lambda work: tpm_pins.concerning(work, strange))
    found = sqlite_shop.office.read(lambda work: tpm_pins.concerning(work, [*strange, good]))
    assert found[tpm_pins.ROOT] == (root().der,)


def test_what_cannot_be_read_is_not_pinned_and_said_to_be_malformed(sqlite_shop: Shop) -> None:
    revoked = crl(root(), maker().der)
    certificate, listed = other_version(root().der), other_version(revoked, _LIST_VERSION)
    for file in (certificate, listed, pem("CERTIFICATE", certificate), pem("X509 CRL", listed)):
        with pytest.raises(TallystickError) as caught:
            tpm_pins.add(sqlite_shop.office, [file])
        assert caught.value.code == "malformed"
        assert caught.value.remedy
    assert tpm_pins.pinned(sqlite_shop.office) == ()


@pytest.mark.parametrize("kind", ["CERTIFICATE", "X509 CRL"])
def test_a_file_with_any_byte_changed_is_pinned_or_refused(sqlite_shop: Shop, kind: str) -> None:
    good = maker().der if kind == "CERTIFICATE" else crl(root(), maker().der)
    for der in changed(good):
        for file in (der, pem(kind, der)):
            try:
                read = tpm_pins._parts(file)
            except TallystickError as refused:
                assert refused.code in ("malformed", "usage")
            else:
                assert len(read) == 1
