# SPDX-License-Identifier: Apache-2.0
"""No message passes for another: every bit flipped, every kind in every place, every vendor, every key use (T2)."""

from __future__ import annotations

from typing import Any

import pytest

from made import FACTORY_KEY, START, Case, Device, Vendor, id16, kinds_of
from tallystick.codec import cbor, cose, kinds
from tallystick.codec.keys import ED25519, ESP256, ML_DSA_44, PS256
from tallystick.codec.kinds import Kind, with_article
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, TallystickError, VerificationError
from tallystick.license.answers import TimeToken
from tallystick.license.messages import open_own, read_request
from tallystick.license.receipts import read_receipt
from tallystick.license.trust import USES, KeyRecord, KeyRing, KeySet, Trust, read_keyset
from tallystick.license.verify import LicenseVerifier

VENDOR, OTHER_VENDOR, DEVICE, OTHER_DEVICE = Vendor("acme"), Vendor("globex"), Device(), Device()
CASES = list(kinds_of(VENDOR, DEVICE))
BY_KIND = {case.kind: case for case in CASES}
SIGNERS = {**VENDOR.keys, "container": DEVICE.identity, "root": VENDOR.root, "factory": FACTORY_KEY}
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.name)
ISSUED = [kind for kind in kinds.ALL if kind.use in {*USES, "root"}]


def refusal(case: Case, message: bytes) -> TallystickError:
    with pytest.raises((FormatError, VerificationError)) as caught:
        case.accept(message)
    return caught.value


# ------------------------------------------------------------------------------------------------------- every bit


@EACH
def test_every_single_bit_flip_is_refused(case: Case) -> None:
    """Exhaustive: header, payload and signature; some 40,000 flips over the thirteen kinds."""
    codes = set()
    case.accept(case.message)
    flipped = bytearray(case.message)
    for bit in range(8 * len(flipped)):
        flipped[bit // 8] ^= 1 << bit % 8
        codes.add(refusal(case, bytes(flipped)).code)
        flipped[bit // 8] ^= 1 << bit % 8
    assert bytes(flipped) == case.message
    assert codes <= {"malformed", "wrong_kind", "unknown_issuer", "bad_signature", "bad_key", "unsupported_version"}
    assert {"malformed", "bad_signature"} <= codes


@pytest.mark.parametrize("alg", [ED25519, PS256, ML_DSA_44])
def test_every_bit_flip_is_refused_under_the_other_algorithms(alg: int) -> None:
    """In the header, the payload and both ends of the signature (a signature of ML-DSA alone has 19,360 bits)."""
    vendor = Vendor(alg=alg)
    message = vendor.sign_license(vendor.license(DEVICE))
    verifier = LicenseVerifier(vendor.ring, DEVICE.thumbprint)
    signature_at = len(message) - len(cose.cut(message)[2])
    places = [*range(signature_at + 16), *range(len(message) - 16, len(message))]
    for at in places if alg != ML_DSA_44 else places[::8]:
        for bit in range(8):
            flipped = bytearray(message)
            flipped[at] ^= 1 << bit
            with pytest.raises((FormatError, VerificationError)):
                verifier.accept(bytes(flipped))
    assert verifier.accept(message).product == "cad"


@EACH
def test_parts_of_two_good_messages_do_not_make_a_third(case: Case) -> None:
    """Header of one, payload of the other, signature of either."""
    signer = SIGNERS[case.kind.use]
    claims = dict(cose.peek(case.message)[1])
    claims[6] = claims.get(6, 0) + 1
    twin = cose.sign(case.kind, claims, signer)
    case.accept(twin)
    (head, body, signature, _), (_, twin_body, twin_signature, _) = cose.cut(case.message), cose.cut(twin)
    for mixed_body, mixed_signature in ((body, twin_signature), (twin_body, signature)):
        mixed = b"\xd2\x84" + cbor.encode(head) + b"\xa0" + cbor.encode(mixed_body) + cbor.encode(mixed_signature)
        assert refusal(case, mixed).code == "bad_signature"


@EACH
@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65), bytes(1000)])
def test_no_constant_passes_for_a_signature(case: Case, signature: bytes) -> None:
    head, body, _, _ = cose.cut(case.message)
    message = b"\xd2\x84" + cbor.encode(head) + b"\xa0" + cbor.encode(body) + cbor.encode(signature)
    assert refusal(case, message).code == "bad_signature"


# ------------------------------------------------------------------------------------------------------ every kind


@EACH
@pytest.mark.parametrize("presented", CASES, ids=lambda case: case.kind.name)
def test_a_kind_is_accepted_only_where_it_belongs(case: Case, presented: Case) -> None:
    """The matrix of all thirteen kinds: only the diagonal passes, and the refusal names both kinds."""
    if case is presented:
        case.accept(presented.message)
        return
    if (case.kind, presented.kind) == (kinds.LICENSE, kinds.GRANT):  # what accepts licenses accepts them through grants
        assert refusal(case, presented.message).code == "wrong_container"
        return
    refused = refusal(case, presented.message)
    assert refused.code == "wrong_kind"
    assert f"this is {with_article(presented.kind.name)};" in refused.message
    assert f"{with_article(case.kind.name)} is needed" in refused.message
    assert refused.remedy == presented.kind.next_step


@EACH
@pytest.mark.parametrize("claimed", kinds.ALL, ids=lambda kind: kind.name)
def test_a_header_cannot_be_exchanged(case: Case, claimed: Kind) -> None:
    """The same payload and signature under every `typ`: the signature covers the kind."""
    if claimed is case.kind:
        return
    header, (_, body, signature, _) = cose.peek(case.message)[0], cose.cut(case.message)
    head = cose.protected_header(header.alg, header.kid, claimed)
    forged = b"\xd2\x84" + cbor.encode(head) + b"\xa0" + cbor.encode(body) + cbor.encode(signature)
    target = BY_KIND[claimed]
    refused = refusal(target, forged)
    wanted = {"bad_signature", "unknown_issuer", "key_use", "malformed", "unsupported_version"}
    assert refused.code in wanted


# ---------------------------------------------------------------------------------------------- every key and its use


def claims_for(kind: Kind, vendor: Vendor = VENDOR, device: Device = DEVICE) -> dict[Any, Any]:
    return cose.peek(next(case for case in kinds_of(vendor, device) if case.kind is kind).message)[1]


@pytest.mark.parametrize("signer", SIGNERS)
@EACH
def test_a_key_signs_only_its_use(case: Case, signer: str) -> None:
    """Seven keys, thirteen kinds: a message passes exactly where the key's use is the kind's."""
    message = cose.sign(case.kind, claims_for(case.kind), SIGNERS[signer])
    if case.kind.use == signer:
        case.accept(message)
        return
    refused = refusal(case, message)
    if case.kind.use in USES and signer in USES:
        assert refused.code == "key_use"
        assert f"a {signer} key signed this {case.kind.name}" in refused.message
    else:
        assert refused.code == "unknown_issuer"


def test_the_key_for_receipts_signs_nothing_yet() -> None:
    """No kind has the use ``receipt``: such a key in a key set gives nobody anything."""
    assert "receipt" in USES
    assert [kind.name for kind in kinds.ALL if kind.use == "receipt"] == []


@pytest.mark.parametrize("kind", ISSUED, ids=lambda kind: kind.name)
def test_a_vendor_does_not_speak_for_another(kind: Kind) -> None:
    """Both ways for each kind a vendor signs; only the diagonal passes."""
    for maker in (VENDOR, OTHER_VENDOR):
        for reader in (VENDOR, OTHER_VENDOR):
            message = next(case for case in kinds_of(maker, DEVICE) if case.kind is kind).message
            case = next(case for case in kinds_of(reader, DEVICE) if case.kind is kind)
            if maker is reader:
                case.accept(message)
            else:
                refused = refusal(case, message)
                assert refused.code == "unknown_issuer"
                assert reader.name in refused.message


def test_a_vendor_cannot_sign_in_anothers_name() -> None:
    license_ = VENDOR.license(DEVICE, vendor="globex")
    with pytest.raises(VerificationError) as caught:
        LicenseVerifier(VENDOR.ring, DEVICE.thumbprint).accept(VENDOR.sign_license(license_))
    assert (caught.value.code, caught.value.details["step"]) == ("wrong_vendor", 4)
    keyset = VENDOR.key_set().replace(vendor="globex")
    with pytest.raises(VerificationError) as caught:
        read_keyset(keyset.sign(VENDOR.root), VENDOR.trust)
    assert (caught.value.code, caught.value.details["step"]) == ("wrong_vendor", 3)


def test_the_same_key_in_two_vendors_key_sets_still_speaks_for_one() -> None:
    """A vendor that puts another's license key into its own key set gains nothing: `iss` is signed."""
    keys = (KeyRecord(VENDOR.keys["license"].public_key, USES.index("license")),)
    thief = KeyRing(KeySet("globex", START, id16(1), 1, keys))
    with pytest.raises(VerificationError) as caught:
        LicenseVerifier(thief, DEVICE.thumbprint).accept(BY_KIND[kinds.LICENSE].message)
    assert caught.value.code == "wrong_vendor"


# -------------------------------------------------------------------------------------------------- every container


def test_a_license_for_another_container_is_refused() -> None:
    with pytest.raises(VerificationError) as caught:
        LicenseVerifier(VENDOR.ring, OTHER_DEVICE.thumbprint).accept(BY_KIND[kinds.LICENSE].message)
    assert (caught.value.code, caught.value.details["step"]) == ("wrong_container", 6)


def test_a_request_proves_the_key_it_names() -> None:
    """Rule R56: somebody else's key in `cnf`, however it is signed, is refused."""
    claims = claims_for(kinds.REQUEST)
    with pytest.raises(VerificationError) as caught:
        read_request(cose.sign(kinds.REQUEST, claims, OTHER_DEVICE.identity))
    assert caught.value.code == "unknown_issuer"
    head = cose.protected_header(ESP256, DEVICE.thumbprint, kinds.REQUEST)  # the victim's id, the thief's signature
    body = cbor.encode(head) + b"\x40" + cbor.encode(cbor.encode(claims))
    signature = OTHER_DEVICE.identity.sign(b"\x84\x6aSignature1" + body)
    message = b"\xd2\x84" + cbor.encode(head) + b"\xa0" + cbor.encode(cbor.encode(claims)) + cbor.encode(signature)
    with pytest.raises(VerificationError) as caught:
        read_request(message)
    assert caught.value.code == "bad_signature"


def test_a_receipt_counts_only_for_the_container_that_signed_it() -> None:
    key = DEVICE.identity.public_key
    other = DEVICE.receipt(container=OTHER_DEVICE.thumbprint).sign(DEVICE.identity)
    with pytest.raises(VerificationError) as caught:
        read_receipt(other, key)
    assert caught.value.code == "wrong_container"
    with pytest.raises(VerificationError) as caught:
        read_receipt(OTHER_DEVICE.receipt().sign(OTHER_DEVICE.identity), key)
    assert caught.value.code == "unknown_issuer"


def test_an_own_message_signed_by_another_container_is_refused() -> None:
    message = cose.sign(kinds.STATE, {1: "acme"}, OTHER_DEVICE.identity)
    with pytest.raises(VerificationError, match="not signed by the container it names"):
        open_own(message, kinds.STATE, DEVICE.identity.public_key)


# ------------------------------------------------------------------------------------------------------ duplicates


def test_one_key_with_two_uses_signs_both_and_no_more() -> None:
    key = SoftwareKey.generate()
    keys = tuple(KeyRecord(key.public_key, USES.index(use)) for use in ("license", "time"))
    ring = KeyRing(KeySet("acme", START, id16(1), 1, keys))
    assert ring.open(TimeToken("acme", START, id16(2)).sign(key), kinds.TIME)
    assert ring.open(VENDOR.refusal(DEVICE).sign(key), kinds.REFUSAL)
    with pytest.raises(VerificationError) as caught:
        ring.open(cose.sign(kinds.STATUS_LIST, {}, key), kinds.STATUS_LIST)
    assert caught.value.code == "key_use"


def test_an_empty_key_set_trusts_nobody() -> None:
    ring = KeyRing(KeySet("acme", START, id16(1), 9, ()))
    with pytest.raises(VerificationError) as caught:
        ring.open(BY_KIND[kinds.TIME].message, kinds.TIME)
    assert caught.value.code == "unknown_issuer"
    assert Trust("acme", VENDOR.root.public_key) == VENDOR.trust
