# SPDX-License-Identifier: Apache-2.0
"""Runs under an interpreter that has python-cwt and pycose: JSON jobs in, JSON results out, bytes as hexadecimal.

``test_interop.py`` starts it; nothing of Tallystick is imported here, so what agrees was written by others.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def public_key(job: dict[str, Any]) -> dict[int, Any]:
    import cbor2

    members: dict[int, Any] = cbor2.loads(bytes.fromhex(job["key"]))
    return members


# ------------------------------------------------------------------------------------------------------- python-cwt


def cwt_verify(job: dict[str, Any]) -> str:
    from cwt import COSE, COSEKey

    payload: bytes = COSE.new().decode(bytes.fromhex(job["message"]), COSEKey.new(public_key(job)))
    return payload.hex()


def cwt_sign(job: dict[str, Any]) -> str:
    from cwt import COSE, COSEKey

    key = COSEKey.from_pem(job["pem"], alg=job["name"])
    protected = {1: job["alg"], 4: bytes.fromhex(job["kid"]), 16: job["typ"]}
    message = COSE.new().encode(bytes.fromhex(job["payload"]), key, protected=protected, unprotected={})
    assert isinstance(message, bytes)
    return message.hex()


def _cwt_context() -> list[Any]:
    import cbor2

    return [3, [None, None, None], [None, None, None], [256, cbor2.dumps({1: -25})]]


def cwt_open(job: dict[str, Any]) -> str:
    from cwt import COSE, COSEKey

    key = COSEKey.from_pem(job["pem"], alg="ECDH-ES+HKDF-256", kid=b"")
    message = bytes.fromhex("d860" + job["message"])  # tag 96: COSE_Encrypt
    opened: bytes = COSE.new().decode(message, key, context=_cwt_context())
    return opened.hex()


def cwt_seal(job: dict[str, Any]) -> str:
    from cwt import COSE, COSEKey, Recipient

    members = public_key(job) | {3: -25}
    recipient = Recipient.new(protected={1: -25}, recipient_key=COSEKey.new(members), context=_cwt_context())
    message = COSE.new().encode(
        bytes.fromhex(job["payload"]), protected={1: 3}, unprotected={5: bytes(12)}, recipients=[recipient]
    )
    assert isinstance(message, bytes)
    return message.hex()


# ----------------------------------------------------------------------------------------------------------- pycose


def _pycose_algorithms() -> None:
    """The fully specified numbers of RFC 9864, which pycose 1.1 does not know yet, for the algorithms it has."""
    from pycose.algorithms import CoseAlgorithm, EdDSA, Es256

    @CoseAlgorithm.register_attribute()
    class Esp256(Es256):
        identifier = -9
        fullname = "ESP256"

    @CoseAlgorithm.register_attribute()
    class Ed25519(EdDSA):
        identifier = -19
        fullname = "Ed25519"


def _pycose_key(members: dict[int, Any]) -> Any:
    from pycose.keys import CoseKey

    return CoseKey.from_dict({label: value for label, value in members.items() if label != 3})


def pycose_verify(job: dict[str, Any]) -> str:
    from pycose.messages import Sign1Message

    _pycose_algorithms()
    message = Sign1Message.decode(bytes.fromhex(job["message"]))
    message.key = _pycose_key(public_key(job))
    assert message.verify_signature() is True
    payload: bytes = message.payload
    return payload.hex()


def pycose_sign(job: dict[str, Any]) -> str:
    from pycose.algorithms import CoseAlgorithm
    from pycose.headers import KID, Algorithm
    from pycose.messages import Sign1Message

    _pycose_algorithms()
    header = {Algorithm: CoseAlgorithm.from_id(job["alg"]), KID: bytes.fromhex(job["kid"]), 16: job["typ"]}
    message = Sign1Message(phdr=header, uhdr={}, payload=bytes.fromhex(job["payload"]))
    private = {int(label): bytes.fromhex(value) for label, value in job["private"].items()}
    message.key = _pycose_key(public_key(job) | private)
    encoded: bytes = message.encode()
    return encoded.hex()


def pycose_open(job: dict[str, Any]) -> str:
    from pycose.messages import EncMessage

    message = EncMessage.decode(bytes.fromhex("d860" + job["message"]))
    (recipient,) = message.recipients
    private = {int(label): bytes.fromhex(value) for label, value in job["private"].items()}
    recipient.key = _pycose_key(public_key(job) | private)
    opened: bytes = message.decrypt(recipient)
    return opened.hex()


def pycose_seal(job: dict[str, Any]) -> str:
    from pycose.algorithms import A256GCM, EcdhEsHKDF256
    from pycose.headers import IV, Algorithm, EphemeralKey, StaticKey
    from pycose.keys import EC2Key
    from pycose.messages import EncMessage
    from pycose.messages.recipient import DirectKeyAgreement

    ephemeral = EC2Key.generate_key(crv="P_256")
    public = EC2Key(crv="P_256", x=ephemeral.x, y=ephemeral.y)
    recipient = DirectKeyAgreement(phdr={Algorithm: EcdhEsHKDF256}, uhdr={EphemeralKey: dict(public)})
    recipient.key = ephemeral
    recipient.local_attrs = {StaticKey: _pycose_key(public_key(job))}
    message = EncMessage(
        phdr={Algorithm: A256GCM}, uhdr={IV: bytes(12)}, payload=bytes.fromhex(job["payload"]), recipients=[recipient]
    )
    encoded: bytes = message.encode()
    return encoded.hex()


JOBS = {
    work.__name__: work
    for work in (
        *(cwt_verify, cwt_sign, cwt_open, cwt_seal),
        *(pycose_verify, pycose_sign, pycose_open, pycose_seal),
    )
}


def main() -> None:
    """Do the jobs in order; an exception's text is its result, marked."""
    results = []
    for job in json.load(sys.stdin):
        try:
            results.append(JOBS[job["do"]](job))
        except Exception as cause:
            results.append(f"failed: {type(cause).__name__}: {cause}")
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
