# SPDX-License-Identifier: Apache-2.0
"""What the commit protocol takes for granted about TPMs, asked of one: counters, chains, Names, kills."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest
from swtpm_rig import Swtpm
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_NT,
    TPM2_RC,
    TPM2B_DIGEST,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPMA_OBJECT,
    TPMS_NV_PUBLIC,
    TPMS_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TSS2_Exception,
)

INDEX = 0x01800042
NODA = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.NO_DA


@pytest.fixture
def esys(tpm: Swtpm) -> Iterator[ESAPI]:
    with ESAPI(tpm.tcti) as made:
        yield made


def define(esys: ESAPI, kind: int, more: int = 0, *, auth: bytes = b"", policy: bytes = b"") -> ESYS_TR:
    """Make an index."""
    public = TPMS_NV_PUBLIC(
        nvIndex=INDEX,
        nameAlg=TPM2_ALG.SHA256,
        attributes=NODA | more | kind << TPMA_NV.TPM2_NT_SHIFT,
        authPolicy=policy,
        dataSize=8 if kind == TPM2_NT.COUNTER else 32,
    )
    index = esys.nv_define_space(auth, TPM2B_NV_PUBLIC(nvPublic=public))
    esys.tr_set_auth(index, auth)
    return index


def value(esys: ESAPI, index: ESYS_TR) -> int:
    """A counter's."""
    return int.from_bytes(bytes(esys.nv_read(index, 8)), "big")


def restarted(tpm: Swtpm, esys: ESAPI) -> ESYS_TR:
    """Cut the power, and find the index again."""
    tpm.restart()
    return esys.tr_from_tpmpublic(INDEX)


class TestCounters:
    def test_one_is_not_readable_before_its_first_increment_and_then_is_one(self, esys: ESAPI) -> None:
        index = define(esys, TPM2_NT.COUNTER)
        with pytest.raises(TSS2_Exception) as caught:
            esys.nv_read(index, 8)
        assert caught.value.rc == TPM2_RC.NV_UNINITIALIZED == 0x14A
        esys.nv_increment(index)
        assert value(esys, index) == 1

    def test_one_defined_anew_goes_on_where_the_highest_ended(self, esys: ESAPI) -> None:
        index = define(esys, TPM2_NT.COUNTER)
        for _ in range(5):
            esys.nv_increment(index)
        last = value(esys, index)
        esys.nv_undefine_space(index)
        index = define(esys, TPM2_NT.COUNTER)
        esys.nv_increment(index)
        assert value(esys, index) == last + 1

    def test_one_survives_a_power_cut_as_it_is(self, tpm: Swtpm, esys: ESAPI) -> None:
        index = define(esys, TPM2_NT.COUNTER)
        for number in range(1, 6):
            esys.nv_increment(index)
            index = restarted(tpm, esys)
            assert value(esys, index) == number

    def test_an_orderly_one_jumps_at_a_power_cut(self, tpm: Swtpm, esys: ESAPI) -> None:
        """Which is why containers have none: a jump looks like somebody else's increments."""
        index = define(esys, TPM2_NT.COUNTER, TPMA_NV.ORDERLY)
        esys.nv_increment(index)
        before = value(esys, index)
        index = restarted(tpm, esys)
        esys.nv_increment(index)
        assert value(esys, index) > before + 1

    def test_nobody_writes_a_value_into_one(self, esys: ESAPI) -> None:
        index = define(esys, TPM2_NT.COUNTER)
        esys.nv_increment(index)
        with pytest.raises(TSS2_Exception) as caught:
            esys.nv_write(index, bytes(8))
        assert caught.value.rc == TPM2_RC.ATTRIBUTES


class TestChains:
    def test_one_is_the_hash_of_all_it_was_given(self, tpm: Swtpm, esys: ESAPI) -> None:
        index = define(esys, TPM2_NT.EXTEND)
        chain = bytes(32)
        for number in range(3):
            esys.nv_extend(index, bytes([number]) * 32)
            chain = sha256(chain + bytes([number]) * 32).digest()
            index = restarted(tpm, esys)
            assert bytes(esys.nv_read(index, 32)) == chain

    def test_one_defined_anew_begins_at_zero(self, esys: ESAPI) -> None:
        """So whoever may define it anew and extend it may replay it: its authorization must be secret."""
        index = define(esys, TPM2_NT.EXTEND)
        esys.nv_extend(index, bytes(32))
        esys.nv_undefine_space(index)
        index = define(esys, TPM2_NT.EXTEND)
        esys.nv_extend(index, bytes(32))
        assert bytes(esys.nv_read(index, 32)) == sha256(bytes(64)).digest()


class TestNames:
    def test_the_first_write_changes_a_name_and_later_ones_do_not(self, esys: ESAPI) -> None:
        def name() -> bytes:
            return bytes(esys.tr_get_name(esys.tr_from_tpmpublic(INDEX)))

        index = define(esys, TPM2_NT.COUNTER)
        defined = name()
        esys.nv_increment(index)
        written = name()
        esys.nv_increment(index)
        assert defined != written == name()

    def test_a_name_tells_the_marker_and_not_the_authorization(self, esys: ESAPI) -> None:
        names = []
        for auth, policy in ((b"one", bytes(32)), (b"two", bytes(32)), (b"two", b"\x01" * 32)):
            index = define(esys, TPM2_NT.COUNTER, auth=auth, policy=policy)
            esys.nv_increment(index)
            names.append(bytes(esys.tr_get_name(index)))
            esys.nv_undefine_space(index)
        assert names[0] == names[1] != names[2]

    def test_the_owner_reads_without_the_authorization_and_writes_not(self, esys: ESAPI) -> None:
        index = define(esys, TPM2_NT.COUNTER, auth=b"secret")
        esys.nv_increment(index)
        assert int.from_bytes(bytes(esys.nv_read(index, 8, auth_handle=ESYS_TR.OWNER)), "big") == 1
        with pytest.raises(TSS2_Exception) as caught:
            esys.nv_increment(index, auth_handle=ESYS_TR.OWNER)
        assert caught.value.rc == TPM2_RC.NV_AUTHORIZATION


class TestKills:
    @pytest.mark.parametrize("protected", [True, False])
    def test_three_kills_lock_a_tpm_unless_objects_stay_out_of_its_protection(
        self, tpm: Swtpm, protected: bool
    ) -> None:
        """One that was not shut down counts a failure where a protected object was used; noDA avoids that."""
        attributes = (
            TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.SENSITIVEDATAORIGIN | TPMA_OBJECT.USERWITHAUTH
        )
        attributes |= TPMA_OBJECT.SIGN_ENCRYPT | (0 if protected else TPMA_OBJECT.NODA)
        template = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256", objectAttributes=attributes)
        template.publicArea.parameters.eccDetail.symmetric.algorithm = TPM2_ALG.NULL
        for _ in range(3):
            with ESAPI(tpm.tcti) as esys:
                key, *_ = esys.create_primary(TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=b"pin")), template)
                esys.tr_set_auth(key, b"pin")
                esys.sign(key, TPM2B_DIGEST(bytes(32)), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL))
            tpm.restart()
        assert tpm.lockout_counter() == (3 if protected else 0)
