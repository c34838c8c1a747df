# SPDX-License-Identifier: Apache-2.0
"""The rig itself: TPMs that end, start again and forget; a wire on which what should be lost is lost, and heard."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import swtpm_rig
from swtpm_rig import NV_INDEX, PERSISTENT, Handles, Prepared, Swtpm
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CC,
    TPM2_NT,
    TPM2B_NV_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPMS_NV_PUBLIC,
    TSS2_RC,
    TSS2_Exception,
)
from wire import Cut, Wire

INDEX = 0x01800001
ALL_CUTS = pytest.mark.parametrize("how", Cut)


def connected(wire: Wire) -> ESAPI:
    """A client of the TPM behind the wire."""
    return ESAPI(wire.connect(wire.tpm.tcti))


def counter(esys: ESAPI) -> ESYS_TR:
    """Define a counter."""
    attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.NO_DA
    attributes |= TPM2_NT.COUNTER << TPMA_NV.TPM2_NT_SHIFT
    public = TPMS_NV_PUBLIC(nvIndex=INDEX, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=8)
    return esys.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public))


def value(esys: ESAPI, index: ESYS_TR) -> int:
    """Read it."""
    return int.from_bytes(bytes(esys.nv_read(index, 8)))


class TestWire:
    def test_what_passes_is_heard(self, tpm: Swtpm) -> None:
        wire = Wire(tpm)
        with connected(wire) as esys:
            drawn = bytes(esys.get_random(8))
        assert wire.codes() == [TPM2_CC.GetRandom]
        assert wire.exchanges[0].rc == 0
        assert drawn in wire.bytes_heard()

    @ALL_CUTS
    def test_a_client_sees_an_error_and_none_waits_for_ever(self, tpm: Swtpm, how: Cut) -> None:
        wire = Wire(tpm)
        esys = connected(wire)
        wire.cut(how, 2)
        raised: list[BaseException] = []

        def work() -> None:
            esys.get_random(1)
            for _ in range(2):
                try:
                    esys.get_random(1)
                except TSS2_Exception as reason:
                    raised.append(reason)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(swtpm_rig.PATIENCE_S)
        assert not thread.is_alive()
        # libtss2 gives up the whole context after an error of its transport: a client must make a new one
        assert [reason.rc for reason in raised] == [TSS2_RC.TCTI_RC_IO_ERROR, TSS2_RC.ESYS_RC_BAD_SEQUENCE]
        assert wire.happened
        assert tpm.running == (how in (Cut.COMMAND, Cut.RESPONSE))
        esys.close()
        wire.close()
        if not tpm.running:
            tpm.start()
        with connected(wire) as again:
            assert len(bytes(again.get_random(4))) == 4

    @ALL_CUTS
    def test_a_command_is_executed_once_or_not_at_all(self, tpm: Swtpm, how: Cut) -> None:
        wire = Wire(tpm)
        with connected(wire) as esys:
            index = counter(esys)
            esys.nv_increment(index)
            before = value(esys, index)
            wire.cut(how, 1)
            with pytest.raises(TSS2_Exception):
                esys.nv_increment(index)
        wire.close()
        if not tpm.running:
            tpm.start()
        with connected(wire) as esys:
            counted = value(esys, esys.tr_from_tpmpublic(INDEX)) - before
        assert counted == (how in (Cut.RESPONSE, Cut.KILL_AFTER))
        assert wire.codes().count(TPM2_CC.NV_Increment) == 1, "libtss2 sends nothing twice"

    def test_a_cut_may_stay_until_the_client_connects_anew(self, tpm: Swtpm) -> None:
        wire = Wire(tpm)
        wire.cut(Cut.COMMAND, 1, stays=True)
        for _ in range(2):
            with connected(wire) as esys:
                if wire.connections == 1:
                    with pytest.raises(TSS2_Exception):
                        esys.get_random(1)
                else:
                    esys.get_random(1)
            wire.close()
        tap = wire.connect(tpm.tcti)
        wire.cut(Cut.COMMAND, 1, stays=True)
        for _ in range(2):
            with pytest.raises(TSS2_Exception):
                tap.transmit(swtpm_rig.handles_command(PERSISTENT))
        wire.close()

    def test_what_passes_can_be_rewritten(self, tpm: Swtpm) -> None:
        wire = Wire(tpm)
        with connected(wire) as esys:
            wire.on_command = lambda command: command[:-2] + b"\x00\x03"
            assert len(bytes(esys.get_random(1))) == 3
            wire.leave()
            wire.on_response = lambda exchange: exchange.response[:-1] + b"!"
            assert bytes(esys.get_random(4))[-1:] == b"!"


class TestSwtpm:
    def test_clients_take_turns_in_one_working_memory(self, tpm: Swtpm) -> None:
        with ESAPI(tpm.tcti) as one, ESAPI(tpm.tcti) as two:
            assert not tpm.handles()
            assert one.create_primary(TPM2B_SENSITIVE_CREATE(), "ecc")
            assert two.create_primary(TPM2B_SENSITIVE_CREATE(), "ecc")
            assert tpm.handles() == Handles((0x80000000, 0x80000001), ())
        assert tpm.handles() == Handles((0x80000000, 0x80000001), ()), "nobody clears up after a client that has gone"
        tpm.restart()
        assert not tpm.handles()

    def test_its_memory_survives_a_power_cut(self, tpm: Swtpm) -> None:
        with ESAPI(tpm.tcti) as esys:
            esys.nv_increment(counter(esys))
        for off in (tpm.kill, tpm.stop):
            off()
            tpm.start()
            assert tpm.listed(NV_INDEX) == (INDEX,)
            assert tpm.lockout_counter() == 0

    def test_its_memory_can_be_put_back(self, tpm: Swtpm, tmp_path: Path) -> None:
        with ESAPI(tpm.tcti) as esys:
            index = counter(esys)
            esys.nv_increment(index)
            old = tpm.snapshot(tmp_path / "snapshot")
            before = value(esys, index)
            esys.nv_increment(index)
        tpm.kill()
        tpm.restore(old)
        tpm.start()
        with ESAPI(tpm.tcti) as esys:
            assert value(esys, esys.tr_from_tpmpublic(INDEX)) == before

    def test_to_clear_it_changes_the_owners_keys(self, tpm: Swtpm) -> None:
        def name() -> bytes:
            with ESAPI(tpm.tcti) as esys:
                handle, public, *_ = esys.create_primary(TPM2B_SENSITIVE_CREATE(), "ecc")
                esys.flush_context(handle)
                return bytes(public.get_name())

        before = name()
        assert name() == before
        tpm.clear()
        assert name() != before

    def test_it_ends_with_whoever_used_it(self, swtpm: str, tmp_path: Path) -> None:
        with Swtpm(tmp_path / "other") as other:
            sockets, process = other.path.parent, other._process
        assert process is not None
        assert process.poll() is not None
        assert not sockets.exists()

    def test_a_state_it_cannot_read_is_said(self, swtpm: str, tmp_path: Path) -> None:
        with Swtpm(tmp_path / "broken", start=False) as broken:
            (broken.state / "tpm2-00.permall").write_bytes(b"nonsense")
            with pytest.raises(RuntimeError, match="swtpm did not start"):
                broken.start()

    def test_the_factorys_have_certificates_for_both_kinds_of_endorsement_keys(
        self, factory: Prepared, tmp_path: Path
    ) -> None:
        with Swtpm(tmp_path / "sold", factory.state) as sold:
            assert {0x01C00002, 0x01C00016} <= set(sold.listed(NV_INDEX))
            assert {0x81010001, 0x81010016} <= set(sold.listed(PERSISTENT))
        assert factory.root.read_text().startswith("-----BEGIN CERTIFICATE-----")
        assert factory.issuer.read_text().startswith("-----BEGIN CERTIFICATE-----")
