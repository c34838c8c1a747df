# SPDX-License-Identifier: Apache-2.0
"""The journal's records: how a command is framed, sealed and found again after a power cut. No I/O.

    record = size u32 | seq u64 | nonce 12 | AES-256-GCM ciphertext and tag (size bytes) | crc32 u32     (big endian)

``seq`` counts from 1 in each generation. The key is HKDF-SHA256(state key, "tallystick journal" || generation u64). The
authenticated data are generation, seq and chain; the chain begins as the digest of the snapshot the generation starts
from and continues as SHA-256(chain || record), so that a record cannot be moved, repeated, left out or taken from
another journal. The crc32 covers all before it and tells a torn write from tampering; it is not a protection.

A preallocated journal is zeros after its last record. `Journal.read` follows these rules:

1. A record whose crc, seq and tag are right is replayed.
2. A right crc with a wrong seq or tag is tampering.
3. At the first place that is no record, a whole record anywhere after it means the middle was damaged: tampering.
4. Otherwise what is not zero there is the torn tail of a write that was never acknowledged; the caller truncates it.
"""

from __future__ import annotations

from zlib import crc32

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.codec.digest import sha256
from tallystick.errors import error

RECORD_LIMIT = 65536
"""Bytes of the longest record, frame included."""
PREFIX = 24
"""Bytes before the ciphertext."""
NONCE = 12
"""Bytes of randomness each record needs."""
OVERHEAD = PREFIX + 16 + 4
"""Bytes a record is longer than its body."""
BODY_LIMIT = RECORD_LIMIT - OVERHEAD
"""Bytes of the longest body."""
_SIZE = 4  # of the size and of the crc
_TAG = 16
_BLOCK = 4096
_ZEROS = bytes(_BLOCK)


def derive(key: bytes, info: bytes) -> AESGCM:
    """Derive the cipher of one purpose from the state key.

    Args:
        key: the 32-byte state key.
        info: names the purpose.

    Returns:
        AES-256-GCM under HKDF-SHA256(key, info).
    """
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key))


class Tail:
    """Where a journal ends; never changed, only replaced.

    Attributes:
        seq: number of the last record, 0 before the first.
        chain: 32 bytes over everything up to there.
        begin: offset of the last record in bytes.
        end: offset of the next record in bytes.
    """

    __slots__ = ("begin", "chain", "end", "seq")

    def __init__(self, seq: int, chain: bytes, begin: int, end: int) -> None:
        """Take the values as they are."""
        self.seq = seq
        self.chain = chain
        self.begin = begin
        self.end = end


class Journal:
    """The records of one generation, up to a tail that moves on as records are read or appended.

    Attributes:
        generation: the snapshot's generation.
        tail: replaced as a whole, so that an interruption at any moment leaves the old one or the new one.
    """

    __slots__ = ("_bound", "_cipher", "generation", "tail")

    def __init__(self, key: bytes, generation: int, digest: bytes) -> None:
        """Start at the beginning of a journal.

        Args:
            key: the 32-byte state key.
            generation: of the snapshot, < 2**64.
            digest: the snapshot's 32-byte digest.
        """
        self._bound = generation.to_bytes(8, "big")
        self._cipher = derive(key, b"tallystick journal" + self._bound)
        self.generation = generation
        self.tail = Tail(0, digest, 0, 0)

    def seal(self, body: bytes, nonce: bytes) -> tuple[bytes, Tail]:
        """Frame and seal the next record.

        Args:
            body: at most `BODY_LIMIT` bytes.
            nonce: 12 random bytes, never used before.

        Returns:
            The record, and the tail to set once it is durable.
        """
        tail = self.tail
        seq = (tail.seq + 1).to_bytes(8, "big")
        sealed = self._cipher.encrypt(nonce, body, self._bound + seq + tail.chain)
        framed = len(sealed).to_bytes(_SIZE, "big") + seq + nonce + sealed
        record = framed + crc32(framed).to_bytes(_SIZE, "big")
        return record, _after(tail, record)

    def read(self, data: bytes) -> tuple[list[bytes], int]:
        """Replay what follows the tail and move the tail behind it.

        Args:
            data: the file's contents from the tail's end to the end of the file.

        Returns:
            The bodies in order, and how many bytes a torn record takes after the new tail.

        Raises:
            LockedError: ``tampered``; the tail has not moved.
        """
        tail = self.tail
        start = tail.end
        bodies: list[bytes] = []
        while size := _frame(data, tail.end - start):
            record = data[tail.end - start : tail.end - start + size]
            bodies.append(self._open(record, tail))
            tail = _after(tail, record)
        torn = self._measure_torn(data, tail.end - start, tail.seq)
        self.tail = tail
        return bodies, torn

    def _open(self, record: bytes, tail: Tail) -> bytes:
        seq = record[_SIZE : _SIZE + 8]
        if int.from_bytes(seq, "big") != tail.seq + 1:
            raise self._tampered(tail.seq + 1, "is another record")
        nonce, sealed = record[PREFIX - NONCE : PREFIX], record[PREFIX:-_SIZE]
        try:
            return self._cipher.decrypt(nonce, sealed, self._bound + seq + tail.chain)
        except InvalidTag:
            raise self._tampered(tail.seq + 1, "was changed") from None

    def _measure_torn(self, data: bytes, start: int, seq: int) -> int:
        """Return how much is not zero from there on, where no whole record may be; only its frame can be judged."""
        end = len(data)
        while end - start >= _BLOCK and data[end - _BLOCK : end] == _ZEROS:  # fifty times as fast as stripping all
            end -= _BLOCK
        end = start + len(data[start:end].rstrip(b"\0"))
        at = start
        while True:
            # The size is below 2**24 and seq below 2**32, so that a frame begins with a zero and has four at offset 4.
            at = data.find(b"\0\0\0\0", at + 1 + _SIZE, end) - _SIZE
            if at < 0:
                return end - start
            if _frame(data, at) and int.from_bytes(data[at + _SIZE : at + _SIZE + 8], "big") > seq:
                raise self._tampered(seq + 1, "is damaged, but records follow it")
            run = data[at : at + _BLOCK]
            at += max(0, len(run) - len(run.lstrip(b"\0")) - _SIZE)  # within zeros none begins but at their very end

    def _tampered(self, seq: int, what: str) -> Exception:
        message = f"record {seq} of the journal of generation {self.generation} {what}"
        return error("tampered", message, generation=self.generation, seq=seq)


def _after(tail: Tail, record: bytes) -> Tail:
    return Tail(tail.seq + 1, sha256(tail.chain + record), tail.end, tail.end + len(record))


def _frame(data: bytes, at: int) -> int:
    """Return the length of the record that starts there, or 0 if none does or its crc is wrong."""
    size = int.from_bytes(data[at : at + _SIZE], "big")
    end = at + PREFIX + size
    if not _TAG <= size <= RECORD_LIMIT - PREFIX - _SIZE or end + _SIZE > len(data):
        return 0
    if crc32(memoryview(data)[at:end]) != int.from_bytes(data[end : end + _SIZE], "big"):
        return 0
    return PREFIX + size + _SIZE
