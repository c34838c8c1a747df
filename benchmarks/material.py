# SPDX-License-Identifier: Apache-2.0
"""The same right in every format that is compared: one product, two features, an end, a licensee."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tallystick.codec import cose, kinds
from tallystick.codec.keys import ED25519, ESP256, ML_DSA_44, PS256
from tallystick.codec.signing import SoftwareKey
from tallystick.license.model import Feature, License, Terms
from tallystick.license.policy import Facts
from tallystick.license.trust import KeyRecord, KeyRing, KeySet, Trust, read_keyset
from tallystick.license.verify import LicenseVerifier

NOW = 1_800_000_000
EXPIRES = 1_900_000_000
FACTS = Facts(1_850_000_000, "pdf")
ALGORITHMS = {"ESP256": ESP256, "Ed25519": ED25519, "PS256": PS256, "ML-DSA-44": ML_DSA_44}
CLAIMS: dict[str, Any] = {
    "iss": "acme",
    "sub": "render",
    "iat": NOW,
    "nbf": NOW,
    "exp": EXPIRES,
    "jti": "5f0c1d3c0b3a4c7e9a1d2b3c4d5e6f70",
    "features": ["pdf", "sim"],
    "licensee": "Acme Ltd.",
}


class Issued:
    """A vendor with one license key of an algorithm, a container and a license for it."""

    def __init__(self, alg: int) -> None:
        root, self.key, self.container = SoftwareKey.generate(), SoftwareKey.generate(alg), SoftwareKey.generate()
        self.trust = Trust("acme", root.public_key)
        self.keyset = KeySet("acme", NOW, os.urandom(16), 1, (KeyRecord(self.key.public_key, 0),)).sign(root)
        self.ring = KeyRing(read_keyset(self.keyset, self.trust))
        self.thumbprint = self.container.public_key.thumbprint
        self.message = self.license_message()

    def license_message(self) -> bytes:
        """Sign one more license for the container."""
        license_ = License(
            "acme",
            "render",
            NOW,
            os.urandom(16),
            self.thumbprint,
            os.urandom(16),
            0,
            Terms(not_before=NOW, expires=EXPIRES, units=1_000_000),
            {"pdf": Feature(), "sim": Feature()},
            licensee="Acme Ltd.",
        )
        return cose.sign(kinds.LICENSE, license_.to_claims(), self.key)

    def verifier(self) -> LicenseVerifier:
        """Make a verifier that has accepted nothing yet."""
        return LicenseVerifier(self.ring, self.thumbprint)


def keygen_file(private: ed25519.Ed25519PrivateKey) -> str:
    """Make a license file in Keygen's format ``base64+ed25519``: signed over ``license/`` and the payload."""
    meta = {"expiry": "2030-03-17T17:46:40.000Z"}
    payload = {"data": {"type": "licenses", "attributes": CLAIMS}, "meta": meta}
    enc = base64.b64encode(json.dumps(payload).encode()).decode()
    signature = base64.b64encode(private.sign(f"license/{enc}".encode())).decode()
    body = base64.b64encode(json.dumps({"enc": enc, "sig": signature, "alg": "base64+ed25519"}).encode()).decode()
    return f"-----BEGIN LICENSE FILE-----\n{body}\n-----END LICENSE FILE-----\n"


def check_keygen_file(text: str, public: ed25519.Ed25519PublicKey) -> bool:
    """Verify and read such a file as Keygen's examples do."""
    body = json.loads(base64.b64decode(text.split("-----")[2]))
    public.verify(base64.b64decode(body["sig"]), f"license/{body['enc']}".encode())
    attributes = json.loads(base64.b64decode(body["enc"]))["data"]["attributes"]
    return bool(attributes["exp"] > FACTS.now >= attributes["nbf"] and "pdf" in attributes["features"])


def cryptolens_response(private: rsa.RSAPrivateKey) -> tuple[str, str]:
    """Make a stored Cryptolens response and the public key in its XML form."""
    license_key = {
        "ProductId": 1, "ID": 1, "Key": "AAAAA-BBBBB-CCCCC-DDDDD", "Created": NOW, "Expires": EXPIRES, "Period": 365,
        "F1": True, "F2": True, "F3": False, "F4": False, "F5": False, "F6": False, "F7": False, "F8": False,
        "Notes": "", "Block": False, "GlobalId": 1, "Customer": None, "ActivatedMachines": [], "TrialActivation": False,
        "MaxNoOfMachines": 1, "AllowedMachines": "", "DataObjects": [], "SignDate": NOW, "Reseller": None,
    }  # fmt: skip
    raw = json.dumps(license_key).encode()
    signature = private.sign(raw, padding.PKCS1v15(), hashes.SHA256())
    response = {
        "licenseKey": base64.b64encode(raw).decode(),
        "signature": base64.b64encode(signature).decode(),
        "result": 0,
        "message": "",
    }
    numbers = private.public_key().public_numbers()
    modulus = base64.b64encode(numbers.n.to_bytes(256)).decode()
    return json.dumps(response), f"<RSAKeyValue><Modulus>{modulus}</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>"


def pem_pair(alg: str) -> tuple[Any, Any]:
    """Make a key pair for the JWT peers."""
    if alg == "ESP256":
        private: Any = ec.generate_private_key(ec.SECP256R1())
    elif alg == "Ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        private = rsa.generate_private_key(65537, 2048)
    return private, private.public_key()
