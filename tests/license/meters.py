# SPDX-License-Identifier: Apache-2.0
"""A counter as a TPM keeps it, in Python: for tests of whoever believes its proofs."""

from __future__ import annotations

from hashlib import sha256

from tallystick.codec.signing import SoftwareKey
from tallystick.license.meter import MeterClaim, encode_given_back, encode_proof

NAME = b"\x00\x0b" + bytes(range(32))


class Meter:
    """A meter that counts, and states what it is told to state.

    Attributes:
        value: where it stands.
    """

    def __init__(self, value: int = 7) -> None:
        self.key = SoftwareKey.generate()
        self.value = value

    def claim(self, units: int) -> MeterClaim:
        """The claim of a license for so many units from here."""
        return MeterClaim(self.key.public_key, NAME, self.value + units)

    def digest(self, challenge: bytes, units: int, value: int, chain: str = "cirr", counter: bytes = NAME) -> bytes:
        """The session digest of a chain of commands: challenge, increments, readings; written from the TPM's words."""

        def run(code: int, command: bytes, answer: bytes) -> bytes:
            number = code.to_bytes(4, "big")
            return sha256(number + command).digest() + sha256(bytes(4) + number + answer).digest()

        steps = {
            "c": run(0x146, len(challenge).to_bytes(2, "big") + challenge, b""),
            "i": run(0x134, counter + counter, b""),
            "r": run(0x14E, counter + counter + b"\0\x08\0\0", b"\0\x08" + value.to_bytes(8, "big")),
        }
        digest = bytes(32)
        for step in chain.replace("i", "i" * units):
            digest = sha256(digest + steps[step]).digest()
        return digest

    def attest(self, digest: bytes, *, magic: bytes = b"\xffTCG", kind: int = 0x8016, extra: bytes = b"") -> bytes:
        """TPMS_ATTEST about an audit session."""
        signer = b"\x00\x0b" + bytes(32)
        clock = (1000).to_bytes(8, "big") + bytes(8) + b"\x01"
        sized = [len(part).to_bytes(2, "big") + part for part in (signer, extra, digest)]
        return magic + kind.to_bytes(2, "big") + sized[0] + sized[1] + clock + bytes(8) + b"\x01" + sized[2]

    def prove(self, challenge: bytes, units: int = 1) -> bytes:
        """Count and prove."""
        self.value += units
        return self.stated(self.attest(self.digest(challenge, units, self.value)))

    def stated(self, attest: bytes, value: int | None = None) -> bytes:
        """A proof that says this."""
        return encode_proof(attest, self.key.sign(attest), self.value if value is None else value)

    def give_back(self, challenge: bytes, units: int, nonce: bytes) -> bytes:
        """Count to give back."""
        return encode_given_back(units, nonce, self.prove(challenge, units))
