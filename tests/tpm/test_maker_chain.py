# SPDX-License-Identifier: Apache-2.0
"""Certificates a maker left in a TPM above that of its endorsement key: several in a row, cut by the end of an index.

The chain is made here, in the shape Intel describes for its On-Die Certificate Authority; no such chip was at hand.
"""

from __future__ import annotations

import time
from itertools import accumulate, pairwise
from pathlib import Path

from attest_rig import Authority, authority, ec_key, leaf
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from swtpm_rig import Prepared, Swtpm
from test_metered_story import Story

from tallystick.authority.attest import chains
from tallystick.authority.attest.evidence import MAX_BYTES, Evidence
from tallystick.authority.schema import CONTAINER
from tallystick.backends.tpm import endorsement
from tallystick.backends.tpm.endorsement import CHAIN_INDICES, certificates_in
from tallystick.backends.tpm.library import ESAPI, ESYS_TR, TPM2_ALG, TPMA_NV, NoSuchIndex, create_ek_template
from tallystick.backends.tpm.library import types as t
from tallystick.license.messages import read_request
from tallystick.license.model import Terms

EK_CERTIFICATE = 0x01C00002
IN_THE_CHIP = 5  # authorities of the machine's own
LINE = ("Root", "Products", *(f"Machine {number}" for number in range(IN_THE_CHIP)))
_PIECE = 512


def line() -> list[Authority]:
    """Authorities from the root down, valid today."""
    now = int(time.time())
    made: list[Authority] = []
    for name in LINE:
        key = ec_key(f"line {name}", ec.SECP384R1)
        made.append(authority(name, made[-1] if made else None, key=key, first=now - 86_400, last=now + 86_400))
    return made


def ek_certificate(esys: ESAPI, issuer: Authority) -> bytes:
    """Certify the TPM's RSA endorsement key, as its maker would."""

    def none(index: int) -> bytes:
        raise NoSuchIndex(index)

    _, template = create_ek_template("EK-RSA2048", none)
    handle, public, *_ = esys.create_primary(t.TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT)
    esys.flush_context(handle)
    key = load_der_public_key(public.to_der())
    now = int(time.time())
    return leaf(ec_key("unused"), issuer, public=key, usages=("key_encipherment",), first=now - 3600, last=now + 86_400)


def write(esys: ESAPI, number: int, data: bytes) -> None:
    """Leave something in an index, for everybody to read."""
    attributes = TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
    public = t.TPMS_NV_PUBLIC(nvIndex=number, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=len(data))
    index = esys.nv_define_space(b"", t.TPM2B_NV_PUBLIC(nvPublic=public))
    for at in range(0, len(data), _PIECE):
        esys.nv_write(index, data[at : at + _PIECE], at, auth_handle=ESYS_TR.OWNER)


def leave(tpm: Swtpm, issuer: Authority, indices: dict[int, bytes]) -> None:
    """Certify the endorsement key of a new TPM, and leave certificates in it."""
    with ESAPI(tpm.tcti) as esys:
        write(esys, EK_CERTIFICATE, ek_certificate(esys, issuer))
        for number, data in indices.items():
            write(esys, number, data)


def cut(data: bytes, *sizes: int) -> dict[int, bytes]:
    """Spread bytes over as many indices."""
    ends = [0, *accumulate(sizes), len(data)]
    return {CHAIN_INDICES.start + number: data[first:end] for number, (first, end) in enumerate(pairwise(ends))}


def customer(folder: Path, tpm: Swtpm, *pinned: Authority) -> Story:
    """A vendor that pinned two authorities, and its customer's container in that TPM."""
    paths = [folder / f"pinned{number}.pem" for number in range(len(pinned))]
    for path, one in zip(paths, pinned, strict=True):
        path.write_bytes(one.certificate.public_bytes(Encoding.PEM))
    return Story(folder, tpm, Prepared(folder, *paths))


def test_a_chain_over_several_indices_reaches_level_2(tmp_path: Path, tpm: Swtpm) -> None:
    root, products, *machines = line()
    data = b"".join(one.der for one in machines)
    leave(tpm, machines[-1], cut(data, len(machines[0].der) + 3, 1200))  # the first cut is inside a length
    story = customer(tmp_path, tpm, root, products)
    with story.open() as container:
        evidence = read_request(container.request(story.shop.trust, refresh=True)).evidence["tpm"]
        certificates = Evidence.parse(evidence).certificates
        assert list(certificates[1:]) == [one.der for one in machines]
        assert len(evidence) - sum(map(len, certificates)) < MAX_BYTES - endorsement.MAX_BYTES
        result = story.ask(container, code=story.code(Terms(min_level=2, units=5)))
        assert (result.kind, result.warnings) == ("update", ())
        story.take(container, result)  # only its TPM opens it
    assert [row.level for row in story.rows(CONTAINER)] == [2]
    story.shop.office.close()


def test_a_certificate_that_is_cut_off_is_left_out_and_costs_level_2_only(tmp_path: Path, tpm: Swtpm) -> None:
    root, products, *machines = line()
    cut_off = machines[-1].der + machines[-2].der[:-1]
    rest = b"".join(one.der for one in machines[:-2])
    leave(tpm, machines[-1], {CHAIN_INDICES.start: cut_off, CHAIN_INDICES.start + 1: rest + root.der[:300]})
    story = customer(tmp_path, tpm, root, products)
    with story.open() as container:
        evidence = read_request(container.request(story.shop.trust, refresh=True)).evidence["tpm"]
        whole = [one.der for one in (machines[-1], *machines[:-2])]
        assert list(Evidence.parse(evidence).certificates[1:]) == whole
        result = story.ask(container, code=story.code(Terms(min_level=1, units=5)))
        (warning,) = result.warnings
        assert (result.kind, "leads to no root" in warning) == ("update", True)
    assert [row.level for row in story.rows(CONTAINER)] == [1]
    story.shop.office.close()


def test_certificates_are_found_whatever_is_around_them() -> None:
    first, second, third = (one.der for one in line()[:3])
    for data in (
        first + second + third,
        first + bytes(7) + second + b"\xff" * 500 + third + bytes(9),
        b"\x30\x82" + first + second + third[:200] + third + first[:3],  # one is cut off, and the whole one after it
        b"\x30\x82\x00\x02\x05\x00" + first + b"\x30\x82\xff\xff" + second + third + b"\x30\xff\x30",
    ):
        assert certificates_in(data) == [first, second, third]
    for nothing in (b"", b"\x30", b"\x30\x82", bytes(600), first[:-1], b"\x30\x82\x00\x00", b"\x30\x82" * 300):
        assert certificates_in(nothing) == []


def test_what_is_read_of_a_tpm_fits_into_what_an_issuer_reads(tmp_path: Path, tpm: Swtpm) -> None:
    assert endorsement.MAX_CERTIFICATES == chains.MAX_CERTIFICATES > chains.MAX_BETWEEN + 1
    root, products, *machines = line()
    many = [authority(f"many {number}", root) for number in range(endorsement.MAX_CERTIFICATES)]
    rows = [b"".join(one.der for one in machines[:2]), *(one.der for one in many)]
    leave(tpm, machines[-1], {CHAIN_INDICES.start + 16 * number: data for number, data in enumerate(rows)})
    story = customer(tmp_path, tpm, root, products)
    with story.open() as container:
        evidence = read_request(container.request(story.shop.trust, refresh=True)).evidence["tpm"]
    assert len(Evidence.parse(evidence).certificates) == endorsement.MAX_CERTIFICATES
    story.shop.office.close()


def test_more_bytes_than_fit_are_left_out_from_the_first_that_does_not() -> None:
    fitting, large = endorsement._fitting, bytes(4096)
    assert fitting([large, large, large, b"more"]) == [large] * 3
    assert fitting([large, bytes(8193), b"more"]) == [large]
    assert len(fitting([b"small"] * 20)) == endorsement.MAX_CERTIFICATES
