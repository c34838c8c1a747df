# SPDX-License-Identifier: Apache-2.0
"""A container's two key pairs and its sealed secret: made, loaded, used."""

from __future__ import annotations

from typing import Final

from tallystick.backends.tpm.chip import Chip, answer
from tallystick.backends.tpm.library import ESAPI, ESYS_TR, TPM2_ALG, TPM2_RC, TPM2_RH, TPM2_ST, TSS2_Exception
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.record import Blob
from tallystick.backends.tpm.storage import StorageKey
from tallystick.backends.tpm.templates import BASE, POINT, area_bytes, ecc_template, raw_signature
from tallystick.codec.digest import sha256
from tallystick.errors import TallystickError, error

_SCHEME: Final = t.TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)  # the key's own; a re-proof should cost one command, no more
_NO_TICKET: Final = t.TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
_LAYER, _MARSHALLING, _OF_PARAMETER = 0xFF0000, 0x090000, 0x0000C0  # of response codes: TPM 2.0 Library, part 2, 6.6


def create_key(chip: Chip, parent: StorageKey, attributes: int, auth: bytes) -> Blob:
    """Make a P-256 key below the SRK.

    Args:
        chip: the TPM.
        parent: the SRK.
        attributes: `SIGNING` or `AGREEING`.
        auth: what its user must know; empty for nothing.

    Returns:
        The key.

    Raises:
        BackendError: the TPM refuses.
    """
    sensitive = t.TPM2B_SENSITIVE_CREATE(t.TPMS_SENSITIVE_CREATE(userAuth=auth))
    return chip.run(lambda esys: _create(esys, parent, sensitive, ecc_template(attributes)), again=True)


def seal(chip: Chip, parent: StorageKey, secret: bytes, auth: bytes) -> Blob:
    """Seal up to 128 bytes below the SRK.

    Args:
        chip: the TPM.
        parent: the SRK.
        secret: the bytes.
        auth: what its user must know; empty for nothing.

    Returns:
        The sealed object.

    Raises:
        BackendError: the TPM refuses.
    """
    area = t.TPMT_PUBLIC(
        type=TPM2_ALG.KEYEDHASH,
        nameAlg=TPM2_ALG.SHA256,
        objectAttributes=BASE,
        parameters=t.TPMU_PUBLIC_PARMS(
            keyedHashDetail=t.TPMS_KEYEDHASH_PARMS(scheme=t.TPMT_KEYEDHASH_SCHEME(scheme=TPM2_ALG.NULL))
        ),
    )
    sensitive = t.TPM2B_SENSITIVE_CREATE(t.TPMS_SENSITIVE_CREATE(userAuth=auth, data=secret))
    return chip.run(lambda esys: _create(esys, parent, sensitive, t.TPM2B_PUBLIC(publicArea=area)), again=True)


def unseal(chip: Chip, parent: StorageKey, blob: Blob, auth: bytes) -> bytes:
    """Undo `seal`.

    Args:
        chip: the TPM.
        parent: the SRK.
        blob: what `seal` returned.
        auth: as there.

    Returns:
        The bytes.

    Raises:
        LockedError: ``chip_changed``, ``tampered``, ``secret_wrong``, ``secret_needed``.
        BackendError: the TPM does not answer.
    """

    def open_it(esys: ESAPI) -> bytes:
        with chip.loaded(esys, load(esys, parent, blob, auth)) as handle:
            return bytes(esys.unseal(handle, session1=parent.session(esys)))

    with_secret = bool(auth)
    try:
        return chip.run(open_it, again=True)
    except TallystickError as reason:
        raise _explained(reason, with_secret) from reason


def load(esys: ESAPI, parent: StorageKey, blob: Blob, auth: bytes) -> ESYS_TR:
    """Load a key or sealed object; it carries no secret in the clear.

    Args:
        esys: the library's object.
        parent: the SRK.
        blob: the key.
        auth: what its user must know.

    Returns:
        Its handle, to be flushed.

    Raises:
        LockedError: ``tampered``: no key the TPM made.
    """
    above = parent.at(esys)
    try:
        area, _ = t.TPMT_PUBLIC.unmarshal(blob.public)
        handle = esys.load(above, t.TPM2B_PRIVATE(blob.private), t.TPM2B_PUBLIC(publicArea=area))
    except TSS2_Exception as reason:
        code = int(reason.rc)
        if code & _LAYER == _MARSHALLING or (not code & _LAYER and code & _OF_PARAMETER == _OF_PARAMETER):
            raise error(
                "tampered", "the TPM does not know a key kept in the container's files: it was changed"
            ) from reason
        raise
    if auth:
        esys.tr_set_auth(handle, auth)
    return handle


def sign(esys: ESAPI, key: ESYS_TR, message: bytes, session: ESYS_TR) -> bytes:
    """Sign with a loaded key.

    Args:
        esys: the library's object.
        key: an ECDSA key.
        message: hashed here with SHA-256.
        session: authorizes it.

    Returns:
        r || s, 64 bytes.
    """
    digest = t.TPM2B_DIGEST(sha256(message))
    return raw_signature(esys.sign(key, digest, in_scheme=_SCHEME, validation=_NO_TICKET, session1=session))


def agree(esys: ESAPI, key: ESYS_TR, peer: bytes, session: ESYS_TR) -> bytes:
    """Run ECDH with a loaded key.

    Args:
        esys: the library's object.
        key: an agreement key.
        peer: 65 bytes, a point on P-256.
        session: encrypts the answer on its way.

    Returns:
        The 32-byte x coordinate.
    """
    point = t.TPMS_ECC_POINT(x=t.TPM2B_ECC_PARAMETER(peer[1:33]), y=t.TPM2B_ECC_PARAMETER(peer[33:]))
    shared = esys.ecdh_zgen(key, t.TPM2B_ECC_POINT(point=point), session1=session)
    return bytes(shared.point.x).rjust(POINT, b"\0")


def _create(esys: ESAPI, parent: StorageKey, sensitive: t.TPM2B_SENSITIVE_CREATE, template: t.TPM2B_PUBLIC) -> Blob:
    session = parent.session(esys)
    private, public, *_ = esys.create(parent.at(esys), sensitive, template, session1=session)
    return Blob(area_bytes(public), bytes(private))


def _explained(reason: TallystickError, with_secret: bool) -> TallystickError:
    """Tell a wrong user secret from a missing one."""
    if answer(reason) in (TPM2_RC.BAD_AUTH, TPM2_RC.AUTH_FAIL):
        if with_secret:
            return error("secret_wrong", "the user secret is not the one this container was created with")
        return error("secret_needed", "this container was created with a user secret")
    return reason
