# SPDX-License-Identifier: Apache-2.0
"""NV indices: the two that only move forward, and reading what makers left there.

An index is never *orderly*: such counters jump after an unclean stop. Its Name is recorded after the first write, which
changes it (WRITTEN is a part of it). Its policy is a marker no policy attribute ever uses: SHA-256 over what it is for
and the container's identity, so that the Name says whose index it is. Nothing here tries a write a second time: who
does not know whether it happened reads. Sources: TCG TPM 2.0 Library, part 1 (37), part 2 (13); observed: a counter
cannot be read before its first increment, and goes on at its highest value when it is defined anew.
"""

from __future__ import annotations

from typing import Final

from tallystick.backends.tpm.chip import Chip, answer
from tallystick.backends.tpm.library import ESAPI, ESYS_TR, TPM2_ALG, TPM2_NT, TPM2_RC, TPMA_NV
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.storage import StorageKey
from tallystick.codec.digest import sha256
from tallystick.errors import TallystickError, error

COUNTER: Final = TPM2_NT.COUNTER
CHAIN: Final = TPM2_NT.EXTEND
SIZES: Final = {COUNTER: 8, CHAIN: 32}
OWNER_INDICES: Final = 0x01800000  # to 0x01BFFFFF: "Registry of Reserved TPM 2.0 Handles and Localities", table 3
MARKERS: Final = {COUNTER: b"tallystick counter", CHAIN: b"tallystick chain"}
_ATTRIBUTES: Final = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.NO_DA
_PIECE: Final = 512  # bytes read at once: every TPM allows that


class Index:
    """One NV index of a container.

    Args:
        chip: the TPM.
        storage: the SRK; its session carries the authorization.
        kind: `COUNTER` or `CHAIN`.
        number: of the index.
        auth: 32 secret bytes; empty until they are known: then it can only be removed.
        name: recorded after its first write; empty while it is made.
        marker: the word in its policy that says what it is for; that of its kind if empty.
    """

    def __init__(
        self,
        chip: Chip,
        storage: StorageKey,
        kind: TPM2_NT,
        number: int,
        auth: bytes,
        name: bytes = b"",
        marker: bytes = b"",
    ) -> None:
        self._marker = marker or MARKERS[kind]
        self._chip = chip
        self._storage = storage
        self.kind = kind
        self.number = number
        self._auth = auth
        self.name = name
        self._owner_reads = not chip.has_owner_password  # in the clear: its password would be

    def define(self, thumbprint: bytes) -> None:
        """Make the index.

        Args:
            thumbprint: identity of the container.

        Raises:
            BackendError: ``chip_full``: no room; ``backend_failed``.
        """
        public = t.TPMS_NV_PUBLIC(
            nvIndex=self.number,
            nameAlg=TPM2_ALG.SHA256,
            attributes=_ATTRIBUTES | self.kind << TPMA_NV.TPM2_NT_SHIFT,
            authPolicy=sha256(self._marker + thumbprint),
            dataSize=SIZES[self.kind],
        )

        def make(esys: ESAPI) -> None:
            session = self._storage.session(esys)
            whole = t.TPM2B_NV_PUBLIC(nvPublic=public)
            self._chip.patient(lambda: esys.nv_define_space(self._auth, whole, ESYS_TR.OWNER, session1=session))

        try:
            self._chip.as_owner(make)
        except TallystickError as reason:
            if answer(reason) == TPM2_RC.NV_SPACE:
                raise error("chip_full", "the TPM has no room for another index") from reason
            raise

    def settle(self) -> None:
        """Record the Name, after the first write."""
        self._chip.forget(self._key)
        self.name = self._chip.run(lambda esys: bytes(esys.tr_get_name(self._handle(esys))), again=True)

    def read(self, *, proven: bool) -> bytes:
        """Read its contents.

        Args:
            proven: by a session that only this TPM can have answered in; else whoever sits on the bus could lie.

        Returns:
            8 or 32 bytes.

        Raises:
            LockedError: ``anchor_lost``, ``anchor_redefined``, ``chip_changed``.
            BackendError: the TPM does not answer, or refuses.
        """
        size = SIZES[self.kind]
        if not proven and self._owner_reads:
            try:
                return self._chip.run(
                    lambda esys: bytes(esys.nv_read(self._handle(esys), size, auth_handle=ESYS_TR.OWNER)), again=True
                )
            except TallystickError as reason:
                if answer(reason) not in (TPM2_RC.BAD_AUTH, TPM2_RC.AUTH_FAIL):
                    raise
                self._owner_reads = False  # the TPM has an owner password, and it is not known here
        try:
            return self._chip.run(
                lambda esys: bytes(esys.nv_read(self._handle(esys), size, session1=self._storage.session(esys))),
                again=True,
            )
        except TallystickError as reason:
            if answer(reason) not in (TPM2_RC.BAD_AUTH, TPM2_RC.AUTH_FAIL, TPM2_RC.NV_RANGE):
                raise
            whose = f"index {self.number:#x} does not take what the file `key` holds: one of them is another one's"
            raise error("anchor_redefined", whose, index=self.number) from reason

    def increment(self) -> None:
        """Count one on; only once, whatever becomes of the answer."""

        def count(esys: ESAPI) -> None:
            handle, session = self._handle(esys), self._storage.session(esys)
            self._chip.patient(lambda: esys.nv_increment(handle, session1=session))

        self._chip.run(count)

    def extend(self, digest: bytes) -> None:
        """Replace the contents by SHA-256(contents || digest); only once, whatever becomes of the answer.

        Args:
            digest: 32 bytes.
        """

        def move(esys: ESAPI) -> None:
            handle, session = self._handle(esys), self._storage.session(esys)
            self._chip.patient(lambda: esys.nv_extend(handle, digest, session1=session))

        self._chip.run(move)

    def undefine(self) -> None:
        """Remove the index; one that is not there, or is somebody else's by now, is left alone."""
        self._chip.forget(self._key)
        try:
            self._chip.as_owner(
                lambda esys: esys.nv_undefine_space(
                    self._handle(esys), ESYS_TR.OWNER, session1=self._storage.session(esys)
                )
            )
        except TallystickError as reason:
            if reason.code not in ("anchor_lost", "anchor_redefined"):
                raise
        self._chip.forget(self._key)

    def public(self, esys: ESAPI) -> bytes:
        """Return TPMS_NV_PUBLIC as the TPM has it."""
        area, _ = esys.nv_read_public(self._handle(esys))
        return bytes(area.nvPublic.marshal())

    def certify(self, esys: ESAPI, ak: ESYS_TR, challenge: bytes) -> list[bytes]:
        """Let an attestation key state what the index holds.

        Args:
            esys: the library's object.
            ak: the attestation key.
            challenge: 32 bytes it covers.

        Returns:
            TPMS_ATTEST and TPMT_SIGNATURE.
        """
        scheme = t.TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
        attest, signature = esys.nv_certify(
            ak, self._handle(esys), challenge, in_scheme=scheme, size=SIZES[self.kind], offset=0,
            session1=ESYS_TR.PASSWORD, session2=self._storage.session(esys),
        )  # fmt: skip
        return [bytes(attest), bytes(signature.marshal())]

    @property
    def _key(self) -> str:
        return f"nv {self.number:#x}"

    def _handle(self, esys: ESAPI) -> ESYS_TR:
        return self._chip.kept(esys, self._key, self._look)

    def _look(self, esys: ESAPI) -> ESYS_TR:
        if self.number not in self._chip.handles(self.number):
            raise error("anchor_lost", f"index {self.number:#x} is not in the TPM any more", index=self.number)
        handle = esys.tr_from_tpmpublic(self.number)
        if self.name and bytes(esys.tr_get_name(handle)) != self.name:
            raise error("anchor_redefined", f"index {self.number:#x} was defined anew", index=self.number)
        esys.tr_set_auth(handle, self._auth)
        return handle


def belongs(chip: Chip, number: int, thumbprint: bytes) -> bool:
    """Tell whether an index is one of a container, by its marker.

    Args:
        chip: the TPM.
        number: of an index.
        thumbprint: identity of the container.
    """
    area = public_area(chip, number)
    return area is not None and bytes(area.authPolicy) in [sha256(word + thumbprint) for word in MARKERS.values()]


def public_area(chip: Chip, number: int) -> t.TPMS_NV_PUBLIC | None:
    """Read what is at an index, which nobody vouches for; None where there is none."""

    def look(esys: ESAPI) -> t.TPMS_NV_PUBLIC:
        public, _ = esys.nv_read_public(esys.tr_from_tpmpublic(number))
        return t.TPMS_NV_PUBLIC.unmarshal(bytes(public.nvPublic.marshal()))[0]

    return chip.run(look, again=True) if number in chip.handles(number) else None


def vacant(chip: Chip, count: int, seed: bytes) -> tuple[int, ...]:
    """Choose indices nobody has, among those left to owners.

    Args:
        chip: the TPM.
        count: how many.
        seed: 2 random bytes or more: two programs that choose at once seldom choose the same.

    Returns:
        Their numbers.
    """
    taken = set(chip.handles(OWNER_INDICES))
    first = OWNER_INDICES + 0x10000 + (int.from_bytes(seed[:2]) & 0x7FFF)
    free = (first + step for step in range(0x8000) if first + step not in taken)
    return tuple(number for number, _ in zip(free, range(count), strict=False))


def contents(chip: Chip, number: int, limit: int) -> bytes:
    """Read an index that makers of TPMs left there for everybody, for example a certificate.

    Args:
        chip: the TPM.
        number: of the index.
        limit: the largest size read.

    Returns:
        Its bytes; empty where there is none, it cannot be read, or is larger.
    """

    def read(esys: ESAPI) -> bytes:
        handle = esys.tr_from_tpmpublic(number)
        area, _ = esys.nv_read_public(handle)
        size = int(area.nvPublic.dataSize)
        if size > limit:
            return b""
        pieces = [
            bytes(esys.nv_read(handle, min(_PIECE, size - at), at, auth_handle=handle)) for at in range(0, size, _PIECE)
        ]
        return b"".join(pieces)

    if number not in chip.handles(number):
        return b""
    try:
        return chip.run(read, again=True)
    except TallystickError as reason:
        if reason.code != "backend_failed":
            raise
        return b""
