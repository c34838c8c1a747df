# SPDX-License-Identifier: Apache-2.0
"""Lengths that lie (the bug class of CVE-2020-14509): each length in each message replaced, everywhere it is read."""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from made import FACTORY_KEY, Case, Device, Vendor, kinds_of
from tallystick.codec import cbor, cose, envelope, kinds
from tallystick.codec.kinds import Kind
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, VerificationError

PEAK_BYTES = 8 << 20
VENDOR, DEVICE = Vendor(), Device()
CASES = list(kinds_of(VENDOR, DEVICE))


class Item:
    """A CBOR head with an argument: where, its major type, its argument, where its content starts."""

    def __init__(self, at: int, major: int, argument: int, start: int) -> None:
        self.at, self.major, self.argument, self.start = at, major, argument, start


def heads(data: bytes, at: int = 0) -> tuple[list[Item], int]:
    """Every head of well-formed definite-length CBOR, found without the code under test."""
    major, info = data[at] >> 5, data[at] & 31
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    argument = int.from_bytes(data[at + 1 : at + 1 + size]) if size else info
    item = Item(at, major, argument, at + 1 + size)
    found, end = [item], item.start
    if major in (2, 3):
        end += argument
    for _ in range({4: argument, 5: 2 * argument, 6: 1}.get(major, 0)):
        inner, end = heads(data, end)
        found += inner
    return found, end


def head(major: int, argument: int) -> Iterator[bytes]:
    """Every head with this argument: the shortest form, and all longer ones."""
    if argument < 24:
        yield bytes([major << 5 | argument])
    for power, size in enumerate((1, 2, 4, 8)):
        if argument < 1 << (8 * size):
            yield bytes([major << 5 | 24 + power]) + argument.to_bytes(size)


def lies(n: int) -> set[int]:
    """The lengths to try in place of `n`."""
    return {0, 1, max(0, n - 1), n + 1, (1 << 16) - 1, (1 << 31) - 1, 1 << 32, 1 << 63, (1 << 64) - 1} - {n}


def mutants(data: bytes) -> Iterator[bytes]:
    """The data with one length replaced: of a string, an array or a map."""
    items, end = heads(data)
    assert end == len(data)
    for item in items:
        if item.major in (2, 3, 4, 5):
            for lie in lies(item.argument):
                for replaced in head(item.major, lie):
                    yield data[: item.at] + replaced + data[item.start :]


def resealed(case: Case, signer: SoftwareKey) -> Iterator[bytes]:
    """Messages whose payload lies inside a good signature: what a defective or malicious signer could send."""
    protected, payload, _, _ = cose.cut(case.message)
    for lying in mutants(payload):
        body = cbor.encode(protected) + b"\x40" + cbor.encode(lying)
        signature = signer.sign(b"\x84\x6aSignature1" + body)
        yield b"\xd2\x84" + cbor.encode(protected) + b"\xa0" + cbor.encode(lying) + cbor.encode(signature)


def refused_cheaply(accept: Callable[[bytes], object], data: bytes) -> bool:
    """Whether it was refused with a typed error that no lack of memory caused."""
    try:
        accept(data)
    except (FormatError, VerificationError) as refusal:
        assert not isinstance(refusal.__cause__, MemoryError)
        return True
    return False


def test_a_lying_length_in_any_message_is_refused() -> None:
    count = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    for case in CASES:
        for data in mutants(case.message):
            count += 1
            assert refused_cheaply(case.accept, data), (case.kind.name, data.hex())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 200
    assert peak < PEAK_BYTES
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 4 * PEAK_BYTES


def signer_of(kind: Kind) -> SoftwareKey:
    others = {"container": DEVICE.identity, "root": VENDOR.root, "factory": FACTORY_KEY}
    return others.get(kind.use) or VENDOR.keys[kind.use]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.name)
def test_a_lying_length_under_a_good_signature_raises_nothing_else(case: Case) -> None:
    """What is decoded strictly is refused; what a vendor's key signed may be read as the shorter item it then is."""
    tracemalloc.start()
    survivors = [data for data in resealed(case, signer_of(case.kind)) if not refused_cheaply(case.accept, data)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < PEAK_BYTES
    if case.kind.use in {"container", "root"}:
        assert survivors == []


@pytest.mark.parametrize("inner", ["protected", "key", "sealed key", "content"])
def test_a_lying_length_in_a_part_is_refused(inner: str) -> None:
    key = DEVICE.identity.public_key
    content = envelope.seal_content(bytes(32), "manual", b"text")
    part, accept = {
        "protected": (cose.protected_header(key.alg, key.thumbprint, kinds.LICENSE), cose.header_of),
        "key": (key.cose, type(key).from_cose),
        "sealed key": (envelope.seal_key(bytes(32), key), lambda data: envelope.open_key(data, DEVICE.identity.agree)),
        "content": (content, lambda data: envelope.Content(data).open(bytes(32))),
    }[inner]
    accept(part)
    believed = [data.hex() for data in mutants(part) if not refused_cheaply(accept, data)]
    assert believed == []


@pytest.mark.parametrize("head_byte", range(256))
def test_every_first_byte_alone_and_with_a_huge_length_is_cheap(head_byte: int) -> None:
    tracemalloc.start()
    for tail in (b"", b"\xff" * 8, b"\x00" * 8, b"\x7f" + b"\xff" * 7, b"\x00\x00\x00\x00\x7f\xff\xff\xff"):
        data = bytes([head_byte]) + tail
        for accept in (cbor.decode, cbor.decode_trusted, cose.cut, cose.header_of, envelope.Content):
            try:
                accept(data)
            except (FormatError, VerificationError) as refusal:
                assert not isinstance(refusal.__cause__, MemoryError)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < PEAK_BYTES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.name)
def test_a_message_cut_anywhere_is_refused(case: Case) -> None:
    for end in range(len(case.message)):
        with pytest.raises(FormatError):
            case.accept(case.message[:end])
