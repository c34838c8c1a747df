# SPDX-License-Identifier: Apache-2.0
"""What a TPM does, command by command: why units are not metered by an index of type PIN_PASS, and why a counter can.

The first half is the protocol that was not built (``docs/adr/0021``): the vendor writes an index P, ``count || limit``,
in two kinds of writes that a ratchet C keeps apart. Everything it relies on holds, and it is broken all the same: a
policy session is a promise kept. The second half is what the meter relies on instead, with nothing of Tallystick in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from swtpm_rig import Swtpm
from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss import types as t
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CC, TPM2_EO, TPM2_NT, TPM2_RH, TPM2_SE, TPM2_ST
from tpm2_pytss.constants import TPMA_NV as NV
from tpm2_pytss.constants import TPMA_OBJECT as OBJ
from tpm2_pytss.constants import TPMA_SESSION as SES

C, P = 0x01800300, 0x01800301
COUNTS = NV.AUTHREAD | NV.AUTHWRITE | NV.OWNERREAD | NV.NO_DA
PINS = NV.AUTHREAD | NV.OWNERREAD | NV.POLICYWRITE | NV.NO_DA
REF = b"meter 1".ljust(32, b"\0")
NONE = t.TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)
BY_KEY = t.TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
INSIDE = OBJ.FIXEDTPM | OBJ.FIXEDPARENT | OBJ.SENSITIVEDATAORIGIN | OBJ.NODA


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def u16(number: int) -> bytes:
    return number.to_bytes(2)


def u32(number: int) -> bytes:
    return int(number).to_bytes(4)


def area(index: int, kind: TPM2_NT, attributes: int, policy: bytes = b"") -> t.TPMS_NV_PUBLIC:
    return t.TPMS_NV_PUBLIC(
        nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=attributes | kind << NV.TPM2_NT_SHIFT, authPolicy=policy,
        dataSize=8,
    )  # fmt: skip


def name(public: t.TPMS_NV_PUBLIC, *, written: bool) -> bytes:
    parts = u32(public.nvIndex), u16(0x0B), u32(int(public.attributes) | (NV.WRITTEN if written else 0))
    policy = bytes(public.authPolicy)
    return u16(0x0B) + sha(*parts, u16(len(policy)), policy, u16(8))


def ecc(attributes: int, policy: bytes = b"", scheme: str = "ecdsa-sha256") -> t.TPM2B_PUBLIC:
    made = t.TPM2B_PUBLIC.parse(f"ecc256:{scheme}", objectAttributes=attributes, authPolicy=policy)
    if scheme == "ecdsa-sha256":
        made.publicArea.parameters.eccDetail.symmetric.algorithm = TPM2_ALG.NULL
    return made


@dataclass(frozen=True)
class Write:
    """A write the vendor approved: only while C compares so, only this command (`TPM2_PolicyCpHash`)."""

    compare: TPM2_EO
    k: int
    onto: bytes
    data: bytes
    offset: int = 0

    def command(self) -> bytes:
        """CpHash of TPM2_NV_Write."""
        return sha(u32(TPM2_CC.NV_Write), self.onto, self.onto, u16(len(self.data)), self.data, u16(self.offset))

    def policy(self, counter: bytes) -> bytes:
        """PolicyNV(C compares to k), then PolicyCpHash."""
        compared = sha(self.k.to_bytes(8), u16(0), u16(self.compare))
        first = sha(bytes(32), u32(TPM2_CC.PolicyNV), compared, counter)
        return sha(first, u32(TPM2_CC.PolicyCpHash), self.command())


class Chip:
    """One TPM, with the ratchet C in it and a vendor's key."""

    def __init__(self, tpm: Swtpm) -> None:
        self.esys = ESAPI(tpm.tcti)
        self.c_area = area(C, TPM2_NT.COUNTER, COUNTS, b"m" * 32)
        self.counter = self.define(self.c_area)
        self.esys.nv_increment(self.counter)
        self.c_name = name(self.c_area, written=True)
        self.srk, *_ = self.esys.create_primary(
            t.TPM2B_SENSITIVE_CREATE(),
            ecc(INSIDE | OBJ.USERWITHAUTH | OBJ.RESTRICTED | OBJ.DECRYPT, scheme="aes128cfb"),
            ESYS_TR.OWNER,
        )  # fmt: skip
        self.vendor = ec.generate_private_key(ec.SECP256R1())
        point = self.vendor.public_key().public_numbers()
        public = ecc(OBJ.SIGN_ENCRYPT | OBJ.USERWITHAUTH)
        public.publicArea.unique.ecc = t.TPMS_ECC_POINT(
            x=t.TPM2B_ECC_PARAMETER(point.x.to_bytes(32)), y=t.TPM2B_ECC_PARAMETER(point.y.to_bytes(32))
        )
        self.vendor_key = self.esys.load_external(public, hierarchy=ESYS_TR.OWNER)
        self.vendor_name = bytes(public.get_name())
        policy = sha(sha(bytes(32), u32(TPM2_CC.PolicyAuthorize), self.vendor_name), REF)
        self.p_area = area(P, TPM2_NT.PIN_PASS, PINS, policy)
        self.fresh, self.named = (name(self.p_area, written=written) for written in (False, True))

    def define(self, public: t.TPMS_NV_PUBLIC) -> ESYS_TR:
        """Define an index; its authorization value is empty."""
        return self.esys.nv_define_space(b"", t.TPM2B_NV_PUBLIC(nvPublic=public))

    def count(self) -> int:
        """Where C stands."""
        return int.from_bytes(bytes(self.esys.nv_read(self.counter, 8)))

    def pins(self, index: ESYS_TR) -> tuple[int, int]:
        """Count and limit."""
        raw = bytes(self.esys.nv_read(index, 8, auth_handle=ESYS_TR.OWNER))
        return int.from_bytes(raw[:4]), int.from_bytes(raw[4:])

    def key(self, attributes: int, policy: bytes = b"") -> ESYS_TR:
        """Make a signing key below the SRK and load it."""
        private, public, *_ = self.esys.create(
            self.srk, t.TPM2B_SENSITIVE_CREATE(), ecc(INSIDE | OBJ.SIGN_ENCRYPT | attributes, policy)
        )
        return self.esys.load(self.srk, private, public)

    @contextmanager
    def session(self, kind: TPM2_SE = TPM2_SE.POLICY) -> Iterator[ESYS_TR]:
        """A session, gone afterwards."""
        made = self.esys.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, kind, NONE, TPM2_ALG.SHA256)
        try:
            yield made
        finally:
            self.flush(made)

    def flush(self, handle: ESYS_TR) -> None:
        """Flush what may be gone already."""
        with suppress(TSS2_Exception):
            self.esys.flush_context(handle)

    def signed(self, digest: bytes) -> t.TPMT_SIGNATURE:
        """Sign as the vendor."""
        pair = decode_dss_signature(self.vendor.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        r, s = (t.TPM2B_ECC_PARAMETER(number.to_bytes(32)) for number in pair)
        made = t.TPMT_SIGNATURE(sigAlg=TPM2_ALG.ECDSA)
        made.signature.ecdsa = t.TPMS_SIGNATURE_ECC(hash=TPM2_ALG.SHA256, signatureR=r, signatureS=s)
        return made

    # -- the protocol that was not built

    def satisfy(self, session: ESYS_TR, write: Write) -> None:
        """Satisfy P's policy for one write."""
        approved = write.policy(self.c_name)
        self.esys.policy_nv(
            auth_handle=self.counter, nv_index=self.counter, policy_session=session, operand_b=write.k.to_bytes(8),
            operation=write.compare,
        )  # fmt: skip
        self.esys.policy_cp_hash(session, write.command())
        assert bytes(self.esys.policy_get_digest(session)) == approved, "computed here as the TPM does"
        ticket = self.esys.verify_signature(self.vendor_key, sha(approved, REF), self.signed(sha(approved, REF)))
        self.esys.policy_authorize(
            policy_session=session, approved_policy=approved, key_sign=self.vendor_name, check_ticket=ticket,
            policy_ref=REF,
        )  # fmt: skip

    def write(self, index: ESYS_TR, write: Write, session: ESYS_TR) -> None:
        """Write with a satisfied session."""
        self.esys.nv_write(index, write.data, offset=write.offset, auth_handle=index, session1=session)

    def apply(self, index: ESYS_TR, write: Write) -> None:
        """Satisfy and write at once."""
        with self.session() as session:
            self.satisfy(session, write)
            self.write(index, write, session)

    def uses(self, index: ESYS_TR, key: ESYS_TR, most: int = 50) -> int:
        """Sign as often as it goes, each time with one PolicySecret(P)."""
        ticket = t.TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        for done in range(most):
            with self.session() as session:
                try:
                    self.esys.policy_secret(index, session, expiration=0)
                except TSS2_Exception:
                    return done
                self.esys.sign(key, bytes(32), in_scheme=BY_KEY, validation=ticket, session1=session)
        return most


@pytest.fixture
def chip(tpm: Swtpm) -> Iterator[Chip]:
    """A TPM with C in it."""
    made = Chip(tpm)
    yield made
    made.esys.close()


@pytest.fixture
def writes(chip: Chip) -> tuple[Write, Write, Write]:
    """The first write, while C stands where it stands; then a limit of 3, and of 5 in all, when it has moved on."""
    k = chip.count()
    first = Write(TPM2_EO.EQ, k, chip.fresh, bytes(8))
    return first, *(Write(TPM2_EO.UNSIGNED_GT, k, chip.named, u32(limit), 4) for limit in (3, 5))


def metering_key(chip: Chip) -> ESYS_TR:
    """A key that signs once for each PolicySecret(P)."""
    return chip.key(0, sha(sha(bytes(32), u32(TPM2_CC.PolicySecret), chip.named)))


def test_everything_a_ratchet_relies_on_holds(chip: Chip, writes: tuple[Write, Write, Write]) -> None:
    first, three, five = writes
    index, key = chip.define(chip.p_area), metering_key(chip)
    with pytest.raises(TSS2_Exception):
        chip.apply(index, three)  # C has not moved yet
    chip.apply(index, first)
    assert (chip.pins(index), chip.uses(index, key)) == ((0, 0), 0)
    chip.esys.nv_increment(chip.counter)
    chip.apply(index, three)
    assert (chip.uses(index, key), chip.pins(index)) == (3, (3, 3))
    chip.apply(index, three)  # replayed
    assert chip.uses(index, key) == 0
    chip.apply(index, five)  # a write of the limit alone is allowed, and the count stays
    assert (chip.pins(index), chip.uses(index, key)) == ((3, 5), 2)
    for attempt in ({"auth_handle": index}, {"auth_handle": ESYS_TR.OWNER}):
        with pytest.raises(TSS2_Exception):
            chip.esys.nv_write(index, bytes(8), **attempt)
    with pytest.raises(TSS2_Exception):  # a session bound to P would authorize it without its value
        chip.esys.start_auth_session(ESYS_TR.NONE, index, TPM2_SE.HMAC, NONE, TPM2_ALG.SHA256)
    chip.esys.nv_undefine_space(index)
    index = chip.define(chip.p_area)
    for write in writes:
        with pytest.raises(TSS2_Exception):
            chip.apply(index, write)


def test_a_session_satisfied_before_the_ratchet_moved_writes_after_it(
    chip: Chip, writes: tuple[Write, Write, Write]
) -> None:
    """The TPM compares when TPM2_PolicyNV is called, not when the session is used: five units sold, ten used."""
    first, _, five = writes
    index, key = chip.define(chip.p_area), metering_key(chip)
    with chip.session() as kept:
        chip.satisfy(kept, first)
        chip.apply(index, first)
        chip.esys.nv_increment(chip.counter)
        chip.apply(index, five)
        used = chip.uses(index, key)
        chip.esys.nv_undefine_space(index)
        index = chip.define(chip.p_area)
        chip.write(index, first, kept)
    chip.apply(index, five)
    assert (used, chip.uses(index, key)) == (5, 5)


# ---------------------------------------------------------------------------------------------- what is relied on


class Audit:
    """An audit session, and what it must have seen."""

    def __init__(self, chip: Chip, key: ESYS_TR) -> None:
        self.chip = chip
        self.key = key
        self.session = chip.esys.start_auth_session(
            ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.HMAC, NONE, TPM2_ALG.SHA256
        )  # fmt: skip
        chip.esys.trsess_set_attributes(self.session, SES.AUDIT | SES.CONTINUESESSION)
        self.expected = bytes(32)

    def saw(self, code: TPM2_CC, command: bytes = b"", answer: bytes = b"") -> None:
        """Extend what is expected by one command."""
        self.expected = sha(self.expected, sha(u32(code), command), sha(bytes(4), u32(code), answer))

    def stir(self, challenge: bytes) -> None:
        self.chip.esys.stir_random(challenge, session1=self.session)
        self.saw(TPM2_CC.StirRandom, u16(len(challenge)) + challenge)

    def increment(self) -> None:
        self.chip.esys.nv_increment(self.chip.counter, session1=self.session)
        self.saw(TPM2_CC.NV_Increment, 2 * self.chip.c_name)

    def read(self, hidden: ESYS_TR = ESYS_TR.NONE) -> int:
        value = bytes(self.chip.esys.nv_read(self.chip.counter, 8, session1=self.session, session2=hidden))
        self.saw(TPM2_CC.NV_Read, 2 * self.chip.c_name + u16(8) + u16(0), u16(8) + value)
        return int.from_bytes(value)

    def digest(self) -> bytes:
        """As the TPM states it."""
        attest, _ = self.chip.esys.get_session_audit_digest(self.key, self.session, b"", in_scheme=BY_KEY)
        stated, _ = t.TPMS_ATTEST.unmarshal(bytes(attest))
        assert stated.type == TPM2_ST.ATTEST_SESSION_AUDIT
        return bytes(stated.attested.sessionAudit.sessionDigest)

    def saved(self) -> Any:
        """Take the session out of the TPM."""
        return self.chip.esys.context_save(self.session)

    def loaded(self, context: Any) -> None:
        """Put it back."""
        self.session = self.chip.esys.context_load(context)

    def close(self) -> None:
        """End it."""
        self.chip.flush(self.session)


@pytest.fixture
def audit(chip: Chip) -> Iterator[Audit]:
    """A session under a restricted key."""
    made = Audit(chip, chip.key(OBJ.RESTRICTED | OBJ.USERWITHAUTH))
    yield made
    made.close()


def test_a_session_tells_the_challenge_the_step_and_the_value_whatever_is_done_in_between(audit: Audit) -> None:
    before = audit.chip.count()
    audit.stir(b"challenge")
    audit.chip.esys.nv_increment(audit.chip.counter)
    audit.increment()
    assert audit.read() == before + 2
    assert audit.digest() == audit.expected


def test_a_step_that_was_refused_leaves_no_trace(audit: Audit) -> None:
    audit.stir(b"challenge")
    audit.chip.esys.tr_set_auth(audit.chip.counter, b"wrong")
    with pytest.raises(TSS2_Exception):
        audit.chip.esys.nv_increment(audit.chip.counter, session1=audit.session)
    audit.chip.esys.tr_set_auth(audit.chip.counter, b"")
    audit.read()
    assert audit.digest() == audit.expected


def test_one_step_counts_in_one_session_only(audit: Audit) -> None:
    other = Audit(audit.chip, audit.key)
    before = audit.chip.count()
    with pytest.raises(TSS2_Exception):
        audit.chip.esys.nv_increment(audit.chip.counter, session1=audit.session, session2=other.session)
    other.close()
    assert audit.chip.count() == before


def test_a_saved_session_is_loaded_once(audit: Audit) -> None:
    audit.stir(b"challenge")
    early = audit.saved()
    audit.loaded(early)
    audit.increment()
    with pytest.raises(TSS2_Exception):
        audit.loaded(early)
    late = audit.saved()
    with pytest.raises(TSS2_Exception):
        audit.loaded(early)
    audit.loaded(late)
    audit.read()
    assert audit.digest() == audit.expected


def test_what_is_read_through_an_encrypting_session_is_digested_encrypted(audit: Audit) -> None:
    """So one reading could be a lie, with luck: the cipher text of a number is another number. Two are not."""
    esys = audit.chip.esys
    cipher = t.TPMT_SYM_DEF(
        algorithm=TPM2_ALG.AES, keyBits=t.TPMU_SYM_KEY_BITS(aes=128), mode=t.TPMU_SYM_MODE(aes=TPM2_ALG.CFB)
    )
    hidden = esys.start_auth_session(audit.chip.srk, ESYS_TR.NONE, TPM2_SE.HMAC, cipher, TPM2_ALG.SHA256)
    esys.trsess_set_attributes(hidden, SES.ENCRYPT | SES.CONTINUESESSION)
    audit.stir(b"challenge")
    audit.read(hidden)
    audit.chip.flush(hidden)
    assert audit.digest() != audit.expected


def test_nobody_sets_a_counter_back(chip: Chip, tpm: Swtpm) -> None:
    esys = chip.esys
    for _ in range(5):
        esys.nv_increment(chip.counter)
    top = chip.count()
    with pytest.raises(TSS2_Exception):
        esys.nv_write(chip.counter, bytes(8))
    with pytest.raises(TSS2_Exception):
        esys.nv_increment(chip.counter, auth_handle=ESYS_TR.OWNER)
    esys.nv_undefine_space(chip.counter)
    chip.counter = chip.define(chip.c_area)
    with pytest.raises(TSS2_Exception):
        chip.count()  # before its first step it has no value, and another Name
    esys.nv_increment(chip.counter)
    assert chip.count() > top
    top = chip.count()
    tpm.restart()
    assert chip.count() == top


def test_a_restricted_key_states_nothing_it_is_told_to(audit: Audit) -> None:
    esys, forged = audit.chip.esys, b"\xffTCG\x80\x16" + bytes(98)
    _, ticket = esys.hash(forged, TPM2_ALG.SHA256, ESYS_TR.OWNER)
    unchecked = t.TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
    for validation in (unchecked, ticket):
        with pytest.raises(TSS2_Exception):
            esys.sign(audit.key, sha(forged), in_scheme=BY_KEY, validation=validation)
