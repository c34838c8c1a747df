# SPDX-License-Identifier: Apache-2.0
"""The file ``meters`` in the folder of a TPM's container: the meters it has, and those it was making.

    meters-file = [body: bstr .cbor [* row], checksum: bstr .size 32]     ; checksum = SHA-256(body)
    row = [index: uint,                       ; number of the counter's NV index
           name: bstr,                        ; its Name; empty while it is made
           key: [bstr, bstr],                 ; metering key: TPMT_PUBLIC, TPM2B_PRIVATE's contents
           given-back: [* bstr]]              ; proofs of units that are being given back (`license.meter`)

A row is written before its index is defined and removed after that was undefined, so that whatever stops the program,
no index is in the TPM that the file does not name. Nothing in it is secret or needs to be believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tallystick.backends.framed import framed, unframed
from tallystick.backends.tpm.record import Blob, blob
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, error
from tallystick.license.meter import MAX_METERS
from tallystick.record import Record

NAME: Final = "meters"
_LIMIT: Final = 1 << 20


class MeterRow(Record):
    """What a container remembers of one meter.

    Attributes:
        number: of the counter's index.
        key: the metering key.
        name: of the index, after its first write; empty while it is made.
        given_back: proofs of units that are being given back.
    """

    number: int
    key: Blob
    name: bytes = b""
    given_back: tuple[bytes, ...] = ()


def load(directory: Directory) -> tuple[MeterRow, ...]:
    """Read the file.

    Args:
        directory: the container's folder.

    Returns:
        The rows; none where there is no file.

    Raises:
        LockedError: ``tampered``: it is damaged.
        StorageError: it cannot be read.
    """
    try:
        data = directory.read(NAME, _LIMIT)
        return () if data is None else _rows(data)
    except FormatError as cause:
        raise error("tampered", "the container's list of meters is damaged", path=directory.path) from cause


def save(directory: Directory, rows: Sequence[MeterRow]) -> None:
    """Write the file, durably; without rows there is none.

    Args:
        directory: the container's folder.
        rows: at most `MAX_METERS`.

    Raises:
        StorageError: it cannot be written.
    """
    if not rows:
        if NAME in directory.names():
            directory.remove(NAME)
        return
    plain = [[row.number, row.name, [row.key.public, row.key.private], list(row.given_back)] for row in rows]
    directory.replace(NAME, framed(plain))


def _rows(data: bytes) -> tuple[MeterRow, ...]:
    rows = unframed(data, _LIMIT)
    if type(rows) is not list or len(rows) > MAX_METERS:
        raise error("malformed", "not a list of meters")
    return tuple(_row(row) for row in rows)


def _row(row: Any) -> MeterRow:
    match row:
        case [int(number), bytes(name), list(key), list(proofs)] if type(number) is int:
            if any(type(proof) is not bytes for proof in proofs):
                raise error("malformed", "not a meter")
            return MeterRow(number, blob(key), name, tuple(proofs))
        case _:
            raise error("malformed", "not a meter")
