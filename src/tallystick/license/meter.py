# SPDX-License-Identifier: Apache-2.0
"""Units that a TPM itself counts: the claim of a license, the challenge of a use, and the proof that answers it.

For each use the application makes a challenge nobody could know before. The TPM answers with one statement, signed by a
restricted key that signs nothing else: in one audit session it was given this challenge, then incremented the counter
once for each unit, then read the counter, twice. `check` computes the digest of exactly these commands again (TPM 2.0
Library, part 1, 19.5 and 19.6; part 2, 10.12.7) and compares the value with the ceiling of the license. So each
challenge that is accepted owns increments of its own, and no more are accepted than lie below the ceiling, whatever the
owner of the machine does. The value is read twice because an answer that is encrypted on its way is
digested encrypted: a cipher text that happens to be a small number must not happen to be it twice.

    meter = { 1: COSE_Key,          ; of the TPM's metering key, ESP256
              2: bstr .size 34,     ; Name of the counter's NV index
              3: uint }             ; ceiling: the value it had when the vendor certified it + all units granted
    proof = [ attest: bstr,         ; TPMS_ATTEST, type TPM_ST_ATTEST_SESSION_AUDIT
              signature: bstr .size 64, value: uint ]
    challenge = SHA-256([purpose: tstr, subject: bstr, units: uint, nonce: bstr .size 32])
    given-back = [units: uint, nonce: bstr .size 32, proof: bstr .cbor proof]   ; purpose GIVE_BACK, subject the license

An older license has a lower ceiling, which gives nobody anything. A lower ceiling takes nothing away, for the older
license can be kept: units leave a meter only by being counted (``GIVE_BACK``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.codec.keys import ESP256, PublicKey
from tallystick.errors import FormatError, error
from tallystick.license.schema import MAX_UNITS, Field, Table, nested, octets, uint
from tallystick.record import Record

EVIDENCE: Final = "tpm-meter"  # the name of what a request says of meters
MAX_METERS: Final = 16  # that a container has, and that an issuer reads in one request
USE: Final = "tallystick units"
GIVE_BACK: Final = "tallystick give-back"
MAX_AT_ONCE: Final = 4096  # units of one proof
NONCE: Final = 32
_NAME: Final = 34  # the number of SHA-256, and a digest
_LIMIT: Final = 1024

# TPM 2.0 Library, part 2: TPM_CC, TPM_GENERATED_VALUE and TPM_ST
_STIR_RANDOM, _NV_INCREMENT, _NV_READ = (code.to_bytes(4) for code in (0x146, 0x134, 0x14E))
_SUCCESS: Final = bytes(4)
_STATEMENT: Final = b"\xffTCG\x80\x16"
_CLOCK_FIRMWARE_EXCLUSIVE: Final = 17 + 8 + 1
_WHOLE_COUNTER: Final = b"\x00\x08\x00\x00"  # eight bytes at offset 0


class MeterClaim(Record):
    """What a license says of its meter.

    Attributes:
        key: signs the proofs.
        counter: Name of the counter, 34 bytes.
        ceiling: the last value a unit may have.
    """

    key: PublicKey
    counter: bytes
    ceiling: int

    @classmethod
    def from_map(cls, claims: Mapping[int, Any]) -> MeterClaim:
        """Read the encoded form.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
            VerificationError: ``bad_key``.
        """
        claim = cls.of(METER.read(claims))
        if claim.key.alg != ESP256:
            raise error("bad_key", "a metering key is on P-256")
        return claim

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return METER.write(self)

    def left(self, count: int) -> int:
        """Tell how many units are left where the counter stands at `count`."""
        return max(0, self.ceiling - count)


METER: Final = Table(
    "meter",
    Field("key", 1, nested(PublicKey.from_cose), True, PublicKey.to_map),
    Field("counter", 2, octets(_NAME, _NAME), True),
    Field("ceiling", 3, uint(MAX_UNITS), True),
)


def challenge_of(purpose: str, subject: bytes, units: int, nonce: bytes) -> bytes:
    """Make the challenge of a use.

    Args:
        purpose: `USE` or `GIVE_BACK`.
        subject: id of the license, or of the message that gives units back.
        units: how many.
        nonce: 32 random bytes, never used before.

    Returns:
        32 bytes.

    Raises:
        UsageError: ``usage``: not a number of units a proof can be about, or another nonce.
    """
    if not 1 <= units <= MAX_AT_ONCE or len(nonce) != NONCE:
        raise error("usage", f"a proof is about 1 to {MAX_AT_ONCE} units, with a nonce of {NONCE} bytes")
    return sha256(cbor.encode([purpose, subject, units, nonce]))


def encode_proof(attest: bytes, signature: bytes, value: int) -> bytes:
    """Write a proof.

    Args:
        attest: TPMS_ATTEST.
        signature: r || s, 64 bytes.
        value: of the counter, as it was read.

    Returns:
        The proof.
    """
    return cbor.encode([attest, signature, value])


def check(proof: bytes, claim: MeterClaim, challenge: bytes, units: int) -> int:
    """Believe a proof that units were counted.

    Args:
        proof: as `encode_proof` writes it; nobody vouches for it.
        claim: of a license whose signature was verified.
        challenge: made by whoever checks, for this proof alone; accepted once.
        units: how many the challenge is about.

    Returns:
        The counter's value after them.

    Raises:
        VerificationError: ``meter_refused``, with the ``reason`` in its details: ``form``, ``signature``, ``commands``
            (it is about other commands, another challenge, counter or number of units) or ``ceiling``.
    """
    try:
        row = cbor.decode(proof, _LIMIT)
    except FormatError as cause:
        raise error("meter_refused", "not a proof of a meter", reason="form") from cause
    match row:
        case [bytes(attest), bytes(signature), int(value)] if type(value) is int and 0 <= value < 1 << 64:
            pass
        case _:
            raise error("meter_refused", "not a proof of a meter", reason="form")
    if not claim.key.verify_raw(attest, signature):
        raise error("meter_refused", "the proof is not signed by the license's meter", reason="signature")
    expected = session_digest(claim.counter, challenge, units, value)
    if attest[:6] != _STATEMENT or attest[_digest_at(attest) :] != b"\x00\x20" + expected:
        raise error("meter_refused", "the proof is about something else", reason="commands")
    if not units <= value <= claim.ceiling:
        message = f"the meter stands at {value}, the license ends at {claim.ceiling}"
        raise error("meter_refused", message, reason="ceiling", value=value, ceiling=claim.ceiling)
    return value


def encode_given_back(units: int, nonce: bytes, proof: bytes) -> bytes:
    """Write down units that were counted to give them back.

    Args:
        units: how many.
        nonce: of the challenge.
        proof: that answers it.
    """
    return cbor.encode([units, nonce, proof])


def units_given_back(entry: bytes) -> int:
    """Read how many units an entry of one's own is about."""
    match cbor.decode(entry, _LIMIT):
        case [int(units), *_]:
            return units
        case _:
            raise error("malformed", "not a proof of a meter")


def given_back(entries: Sequence[bytes], claim: MeterClaim, license_id: bytes) -> int:
    """Add up units that were counted to give them back.

    Args:
        entries: as `encode_given_back` wrote them; nobody vouches for them.
        claim: of the license.
        license_id: 16 bytes.

    Returns:
        How many units.

    Raises:
        VerificationError: ``meter_refused``, with the ``reason`` in its details: as `check`, or ``twice``.
    """
    nonces, total = set[bytes](), 0
    for entry in entries:
        try:
            row = cbor.decode(entry, _LIMIT)
        except FormatError as cause:
            raise error("meter_refused", "not a proof of a meter", reason="form") from cause
        match row:
            case [int(units), bytes(nonce), bytes(proof)] if 1 <= units <= MAX_AT_ONCE and len(nonce) == NONCE:
                check(proof, claim, challenge_of(GIVE_BACK, license_id, units, nonce), units)
            case _:
                raise error("meter_refused", "not a proof of a meter", reason="form")
        if nonce in nonces:
            raise error("meter_refused", "a proof is there twice", reason="twice")
        nonces.add(nonce)
        total += units
    return total


def session_digest(counter: bytes, challenge: bytes, units: int, value: int) -> bytes:
    """Compute the digest of the audit session in which units were counted.

    Args:
        counter: Name of the counter, 34 bytes.
        challenge: 32 bytes.
        units: how many increments.
        value: that was read after them.

    Returns:
        32 bytes.
    """
    stirred = sha256(_STIR_RANDOM + len(challenge).to_bytes(2) + challenge) + sha256(_SUCCESS + _STIR_RANDOM)
    counted = sha256(_NV_INCREMENT + counter + counter) + sha256(_SUCCESS + _NV_INCREMENT)
    answer = b"\x00\x08" + value.to_bytes(8)
    read = sha256(_NV_READ + counter + counter + _WHOLE_COUNTER) + sha256(_SUCCESS + _NV_READ + answer)
    digest = sha256(bytes(32) + stirred)
    for _ in range(units):
        digest = sha256(digest + counted)
    return sha256(sha256(digest + read) + read)


def _digest_at(attest: bytes) -> int:
    """Find where TPMS_SESSION_AUDIT_INFO's digest begins; past the end where the structure ends early."""
    at = len(_STATEMENT)
    for _ in range(2):  # the qualified Name of the signer, and what the caller added
        at += 2 + int.from_bytes(attest[at : at + 2])
    return at + _CLOCK_FIRMWARE_EXCLUSIVE
