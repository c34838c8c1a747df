# SPDX-License-Identifier: Apache-2.0
"""A real TPM in software: swtpm with endorsement keys certified by a certification authority of its own.

Evidence is gathered here by `tpm2_pytss` directly, command by command as the specification of the evidence has it, so
that the verifier is not tested against the code that feeds it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey

os.environ.setdefault("TSS2_LOG", "all+NONE")
import tpm2_pytss as t

STARTING_S = 60.0
RSA_EK, RSA_EK_CERTIFICATE = 0x81010001, 0x01C00002
ECC_EK, ECC_EK_CERTIFICATE = 0x81010016, 0x01C00016
SRK = 0x81000001
COUNTER, CHAIN = 0x01800100, 0x01800101


@dataclass(frozen=True)
class Prepared:
    """A TPM as it leaves its factory.

    Attributes:
        state: the folder of its state, to be copied.
        root: certificate of the factory's root, DER.
        issuer: certificate that signed the endorsement keys', DER.
    """

    state: Path
    root: bytes
    issuer: bytes


def prepare(folder: Path, swtpm_setup: str, localca: str) -> Prepared:
    """Make a TPM and its factory, all of it in one folder.

    Args:
        folder: empty.
        swtpm_setup: the program.
        localca: the program that signs certificates.
    """
    state, ca = folder / "state", folder / "ca"
    state.mkdir()
    ca.mkdir()
    lines = (
        ("statedir", ca),
        ("signingkey", ca / "key.pem"),
        ("issuercert", ca / "issuer.pem"),
        ("certserial", ca / "n"),
    )
    (ca / "ca.conf").write_text("".join(f"{name} = {path}\n" for name, path in lines), encoding="ascii")
    options = "--platform-manufacturer Fedora\n--platform-version 2.1\n--platform-model QEMU\n"
    (ca / "ca.options").write_text(options, encoding="ascii")
    setup = {
        "create_certs_tool": localca,
        "create_certs_tool_config": ca / "ca.conf",
        "create_certs_tool_options": ca / "ca.options",
        "active_pcr_banks": "sha256",
    }
    (ca / "setup.conf").write_text("".join(f"{name} = {value}\n" for name, value in setup.items()), encoding="ascii")
    command = [swtpm_setup, "--tpm2", "--tpmstate", str(state), "--create-ek-cert", "--lock-nvram"]
    command += ["--config", str(ca / "setup.conf"), "--logfile", str(folder / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (folder / "log").read_text()
    return Prepared(state, _der(ca / "swtpm-localca-rootca-cert.pem"), _der(ca / "issuer.pem"))


def _der(path: Path) -> bytes:
    from attest_rig import Encoding
    from cryptography.x509 import load_pem_x509_certificate

    return load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


class Machine:
    """A running TPM with a container's key, attestation key, counter and chain in it."""

    def __init__(self, tpm: Any) -> None:
        self.tpm = tpm
        self.srk = self._storage_root()
        private, self.ck_public, *_ = tpm.create(self.srk, t.TPM2B_SENSITIVE_CREATE(), _signing(_CONTAINER))
        self.ck = tpm.load(self.srk, private, self.ck_public)
        self.key = PublicKey.from_p256_point(_point(self.ck_public))
        thumbprint = self.key.thumbprint
        template = _signing(_CONTAINER | t.TPMA_OBJECT.RESTRICTED)
        template.publicArea.unique.ecc.x = hashlib.sha256(b"tallystick AK" + thumbprint).digest()
        self.ak, self.ak_public, *_ = tpm.create_primary(
            t.TPM2B_SENSITIVE_CREATE(), template, t.ESYS_TR.ENDORSEMENT
        )  # fmt: skip
        self.counter = self._index(COUNTER, t.TPM2_NT.COUNTER, 8, b"tallystick counter" + thumbprint)
        tpm.nv_increment(self.counter)
        self.chain = self._index(CHAIN, t.TPM2_NT.EXTEND, 32, b"tallystick chain" + thumbprint)
        tpm.nv_extend(self.chain, b"digest of a state")

    def evidence(self, challenge: bytes, *, ecc: bool = False, chain: bool = True) -> bytes:
        """Gather evidence, with the endorsement key of one kind or the other."""
        handle, certificate = (ECC_EK, ECC_EK_CERTIFICATE) if ecc else (RSA_EK, RSA_EK_CERTIFICATE)
        parts: dict[int, Any] = {
            1: [self._nv(certificate)],
            2: self.public(handle).marshal(),
            3: self.ak_public.publicArea.marshal(),
            4: self.ck_public.publicArea.marshal(),
            5: _pair(self.tpm.certify(self.ck, self.ak, challenge, _BY_KEY)),
            6: self._nv_public(self.counter),
            7: _pair(self.tpm.nv_certify(self.ak, self.counter, challenge, _BY_KEY, 8, 0)),
        }
        if chain:
            parts[8] = self._nv_public(self.chain)
            parts[9] = _pair(self.tpm.nv_certify(self.ak, self.chain, challenge, _BY_KEY, 32, 0))
        return cbor.encode(parts)

    def activate(self, id_object: bytes, encrypted_secret: bytes, *, ecc: bool = False) -> bytes:
        """Open a credential with the attestation key."""
        return activate(self.tpm, self.ak, id_object, encrypted_secret, ecc=ecc)

    def public(self, handle: int) -> Any:
        """TPMT_PUBLIC of a persistent key."""
        return self.tpm.read_public(self.tpm.tr_from_tpmpublic(handle))[0].publicArea

    def _storage_root(self) -> Any:
        with suppress(t.TSS2_Exception):
            return self.tpm.tr_from_tpmpublic(SRK)
        attributes = _CONTAINER & ~t.TPMA_OBJECT.SIGN_ENCRYPT | t.TPMA_OBJECT.RESTRICTED | t.TPMA_OBJECT.DECRYPT
        template = t.TPM2B_PUBLIC.parse("ecc256:aes128cfb", objectAttributes=attributes)
        made, *_ = self.tpm.create_primary(t.TPM2B_SENSITIVE_CREATE(), template, t.ESYS_TR.OWNER)
        kept = self.tpm.evict_control(t.ESYS_TR.OWNER, made, SRK)
        self.tpm.flush_context(made)
        return kept

    def _index(self, handle: int, kind: int, size: int, marked: bytes) -> Any:
        attributes = t.TPMA_NV.parse("authread|authwrite|ownerread|noda") | kind << t.TPMA_NV.TPM2_NT_SHIFT
        policy = hashlib.sha256(marked).digest()
        area = t.TPMS_NV_PUBLIC(
            nvIndex=handle, nameAlg=t.TPM2_ALG.SHA256, attributes=attributes, authPolicy=policy, dataSize=size
        )  # fmt: skip
        made = self.tpm.nv_define_space(b"auth", t.TPM2B_NV_PUBLIC(nvPublic=area))
        self.tpm.tr_set_auth(made, b"auth")
        return made

    def _nv(self, handle: int) -> bytes:
        index = self.tpm.tr_from_tpmpublic(handle)
        size = self.tpm.nv_read_public(index)[0].nvPublic.dataSize
        return b"".join(
            bytes(self.tpm.nv_read(index, min(512, size - at), at, auth_handle=t.ESYS_TR.RH_OWNER))
            for at in range(0, size, 512)
        )

    def _nv_public(self, index: Any) -> bytes:
        return bytes(self.tpm.nv_read_public(index)[0].nvPublic.marshal())


def activate(tpm: Any, ak: Any, id_object: bytes, encrypted_secret: bytes, *, ecc: bool = False) -> bytes:
    """Open a credential (TPM2_ActivateCredential) with a loaded key."""
    ek, password = tpm.tr_from_tpmpublic(ECC_EK if ecc else RSA_EK), t.ESYS_TR.PASSWORD
    blob, sealed = t.TPM2B_ID_OBJECT(credential=id_object), t.TPM2B_ENCRYPTED_SECRET(secret=encrypted_secret)
    if ecc:  # of the templates that are used with their authorization value, which is empty
        return bytes(tpm.activate_credential(ak, ek, blob, sealed, session1=password, session2=password))
    none = t.TPMT_SYM_DEF(algorithm=t.TPM2_ALG.NULL)
    session = tpm.start_auth_session(t.ESYS_TR.NONE, t.ESYS_TR.NONE, t.TPM2_SE.POLICY, none, t.TPM2_ALG.SHA256)
    try:
        empty = t.TPM2B_NONCE()
        tpm.policy_secret(t.ESYS_TR.ENDORSEMENT, session, empty, t.TPM2B_DIGEST(), empty, 0)
        return bytes(tpm.activate_credential(ak, ek, blob, sealed, session1=password, session2=session))
    finally:
        with suppress(t.TSS2_Exception):  # the TPM ends a session that authorized a command
            tpm.flush_context(session)


_CONTAINER = (
    t.TPMA_OBJECT.FIXEDTPM
    | t.TPMA_OBJECT.FIXEDPARENT
    | t.TPMA_OBJECT.SENSITIVEDATAORIGIN
    | t.TPMA_OBJECT.USERWITHAUTH
    | t.TPMA_OBJECT.SIGN_ENCRYPT
    | t.TPMA_OBJECT.NODA
)
_BY_KEY = t.TPMT_SIG_SCHEME(scheme=t.TPM2_ALG.NULL)


def _signing(attributes: int) -> Any:
    template = t.TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256", objectAttributes=attributes)
    template.publicArea.parameters.eccDetail.symmetric.algorithm = t.TPM2_ALG.NULL
    return template


def _point(public: Any) -> bytes:
    parts = (public.publicArea.unique.ecc.x, public.publicArea.unique.ecc.y)
    return b"\x04" + b"".join(bytes(part).rjust(32, b"\0") for part in parts)


def _pair(stated: tuple[Any, Any]) -> list[bytes]:
    return [bytes(stated[0]), bytes(stated[1].marshal())]


@contextmanager
def running(prepared: Prepared, swtpm: str) -> Iterator[Any]:
    """Start a copy of a TPM and connect to it; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tally-tpm-", dir="/tmp"))  # short: socket paths end at 107 bytes
    shutil.copytree(prepared.state, folder / "state")
    path = folder / "s"
    command = [swtpm, "socket", "--tpm2", "--tpmstate", f"dir={folder / 'state'}"]
    command += ["--server", f"type=unixio,path={path}", "--ctrl", f"type=unixio,path={path}.ctrl"]
    command += ["--flags", "not-need-init,startup-clear", "--log", f"file={folder / 'log'}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        connection = _connected(path, process)
        try:
            yield connection
        finally:
            connection.close()
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(folder)


def _connected(path: Path, process: subprocess.Popen[bytes]) -> Any:
    for _ in range(int(STARTING_S / 0.005)):
        with suppress(t.TSS2_Exception):
            if path.exists():
                return t.ESAPI(f"swtpm:path={path}")
        with suppress(subprocess.TimeoutExpired):  # waits, and ends early where it died
            process.wait(0.005)
            break
    raise AssertionError("swtpm did not start")
