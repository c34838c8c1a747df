# SPDX-License-Identifier: Apache-2.0
"""What somebody on the wires between processor and TPM sees and can do: no secret, and no TPM of their own.

Sessions without a salt would look encrypted, too, under keys anybody computes from what was sent: so each is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_stage import Stage
from shop import Shop
from swtpm_rig import PERSISTENT, Prepared, Swtpm, bare, handles_command, in_memory
from tpm2_pytss import TPM2_CC, TPMA_NV, TPMA_OBJECT, TPMS_NV_PUBLIC, TPMT_PUBLIC, TCTILdr
from wire import Exchange, Wire

from fakes import FakeClock
from issuer import CONTENT_KEY, Issuer
from tallystick.authority import tpm_pins
from tallystick.authority.issuing import issue
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.codec.envelope import seal_content
from tallystick.errors import TallystickError
from tallystick.license.model import Terms

NULL_HANDLE = (0x40000007).to_bytes(4, "big")
USER_SECRET = b"correct horse battery staple"
PCR_COMMANDS = (TPM2_CC.PolicyPCR, TPM2_CC.PCR_Read, TPM2_CC.PCR_Extend, TPM2_CC.Quote, TPM2_CC.PolicyAuthorizeNV)


class Life:
    """A container's life, heard from its creation to its end.

    Attributes:
        exchanges: everything that crossed the wire.
        secrets: what must not have, by name.
        public: what must have, or the wire was not heard.
    """

    def __init__(self, folder: Path, factory: Prepared) -> None:
        clock = FakeClock(wall=int(time.time()))  # certificates are valid today
        self.shop = Shop(folder / "shop", clock)
        tpm_pins.add(self.shop.office, [factory.root.read_bytes(), factory.issuer.read_bytes()])
        self.shop.sell("cad-tpm", Terms(units=10, min_level=2))
        self.secrets: dict[str, bytes] = {"user secret": USER_SECRET}
        secret = folder / "secret"
        secret.write_bytes(USER_SECRET)
        with Swtpm(folder / "tpm", factory.state) as tpm:
            self.wire = Wire(tpm)
            self.backend = TpmBackend(clock, connect=self.wire.connect, folder=lambda name: str(folder / name))
            self.uri = f"tpm:tcti={tpm.tcti}?auth-source=file:{secret}"
            self.live()
        self.exchanges = list(self.wire.exchanges)
        self.heard = self.wire.bytes_heard()

    def live(self) -> None:
        """Create, activate with attestation, use, unlock, close, open, prove, destroy."""
        trust, code = self.shop.trust, self.shop.entitle("cad-tpm").code.reveal()
        with self.backend.create(self.uri, [trust]) as container:
            self.know(container)
            activated = issue(self.shop.office, container.request(trust, code=code))
            container.install(activated.message)
            with container.checkout("cad") as seat:
                seat.consume(1)
        with self.backend.open(self.uri, [trust], background=False) as container:
            with container.checkout("cad") as seat:
                assert seat.check()
            session = container._session  # type: ignore[attr-defined]
            self.public = session.anchor.public_key.p256_point()[1:33]
            peer = session.anchor.agreement_key
            self.secrets["shared secret"] = session.anchor.agree(peer.p256_point())
        self.backend.destroy(self.uri, force=True)

    def know(self, container: object) -> None:
        """Read the secrets out of the program's memory."""
        session = container._session  # type: ignore[attr-defined]
        anchor = session.anchor
        self.secrets["state key"] = session.store._key
        self.secrets["index authorization"] = anchor._index_auth
        self.secrets["authorization of keys"] = anchor._auth
        activate = anchor._activate

        def activated(credential: bytes, secret: bytes) -> bytes:
            opened: bytes = activate(credential, secret)
            self.secrets["credential"] = opened
            return opened

        anchor._activate = activated


@pytest.fixture(scope="module")
def life(factory: Prepared) -> Iterator[Life]:
    with in_memory() as folder:
        yield Life(folder, factory)


def sent(life: Life, *codes: int) -> list[Exchange]:
    """The commands of some kinds."""
    return [exchange for exchange in life.exchanges if exchange.code in codes]


class TestSecrets:
    def test_the_life_that_was_heard_is_a_whole_one(self, life: Life) -> None:
        codes = {exchange.code for exchange in life.exchanges}
        assert codes >= {
            TPM2_CC.Create, TPM2_CC.Load, TPM2_CC.Unseal, TPM2_CC.Sign, TPM2_CC.ECDH_ZGen, TPM2_CC.Certify,
            TPM2_CC.NV_DefineSpace, TPM2_CC.NV_Increment, TPM2_CC.NV_Extend, TPM2_CC.NV_Read, TPM2_CC.NV_Certify,
            TPM2_CC.ActivateCredential, TPM2_CC.NV_UndefineSpace,
        }  # fmt: skip
        assert life.public in life.heard, "what is public is seen"
        assert len(life.secrets) == 6
        assert all(len(secret) >= 28 for secret in life.secrets.values())

    def test_no_secret_is_seen_not_even_half_of_one(self, life: Life) -> None:
        for name, secret in life.secrets.items():
            for part in (secret[:12], secret[-12:]):
                assert part not in life.heard, name

    def test_every_session_is_salted(self, life: Life) -> None:
        """tpmKey is the first handle of TPM2_StartAuthSession; TPM_RH_NULL there is a session anybody can follow."""
        sessions = sent(life, TPM2_CC.StartAuthSession)
        assert len(sessions) >= 3
        for exchange in sessions:
            assert exchange.command[10:14] == bytes.fromhex("81000001"), "salted to the storage key"
            assert exchange.command[14:18] == NULL_HANDLE, "and bound to nothing"

    def test_commands_with_secrets_are_encrypted_both_ways(self, life: Life) -> None:
        """Session attributes: 0x20 decrypts what is sent, 0x40 encrypts what comes back."""
        for code, sends, gets in (
            (TPM2_CC.Create, True, False), (TPM2_CC.NV_DefineSpace, True, False), (TPM2_CC.Unseal, False, True),
            (TPM2_CC.ECDH_ZGen, False, True), (TPM2_CC.ActivateCredential, False, True),
        ):  # fmt: skip
            handles = {TPM2_CC.ActivateCredential: 2}.get(code, 1)
            for exchange in sent(life, code):
                attributes = [session[1] for session in sessions_of(exchange, handles)]
                assert not sends or any(one & 0x20 for one in attributes), hex(code)
                assert not gets or any(one & 0x40 for one in attributes), hex(code)

    def test_nothing_depends_on_the_computers_firmware(self, life: Life) -> None:
        """No PCR: a customer who updates firmware goes on working, and the owner would not be stopped by it."""
        assert sent(life, *PCR_COMMANDS) == []
        created = sent(life, TPM2_CC.Create, TPM2_CC.CreatePrimary)
        assert len(created) >= 5
        for exchange in created:
            assert exchange.command[-4:] == bytes(4), "creationPCR selects none"

    def test_the_protection_against_guessing_knows_nothing_of_it(self, life: Life) -> None:
        """Or three kills would lock the TPM for everybody: noDA is bit 10 of objects, bit 25 of indices."""
        for exchange in sent(life, TPM2_CC.Create, TPM2_CC.CreatePrimary):
            if exchange.command[10:14] != (0x4000000B).to_bytes(4, "big"):  # endorsement keys are the maker's templates
                assert template_of(exchange).objectAttributes & TPMA_OBJECT.NODA
        for exchange in sent(life, TPM2_CC.NV_DefineSpace):
            area, _ = TPMS_NV_PUBLIC.unmarshal(parameters_of(exchange, 1)[2 + 32 + 2 :])
            assert area.attributes & TPMA_NV.NO_DA
            assert not area.attributes & TPMA_NV.ORDERLY, "an orderly counter jumps after a power cut"

    def test_the_libraries_own_recording_shows_no_secret_either(
        self, life: Life, factory: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        recording = tmp_path / "tpm.pcap"
        monkeypatch.setenv("TCTI_PCAP_FILE", str(recording))
        with in_memory() as folder, Swtpm(folder / "tpm", factory.state) as tpm:
            acme = Issuer()
            backend = TpmBackend(
                FakeClock(), connect=lambda tcti: TCTILdr("pcap", tcti), folder=lambda name: str(folder / name)
            )
            with backend.create(f"tpm:tcti={tpm.tcti}", [acme.trust]) as container:
                request = container.request(acme.trust)
                sealed = {"manual": acme.sealed(request)}
                container.install(acme.answer(request, units=1, content_keys=sealed))
                with container.checkout("cad") as seat:
                    assert seat.unlock(seal_content(CONTENT_KEY, "manual", b"the manual")) == b"the manual"
                anchor = container._session.anchor  # type: ignore[attr-defined]
                secrets = (container._session.store._key, anchor._index_auth)  # type: ignore[attr-defined]
                public = anchor.public_key.p256_point()[1:33]
        recorded = recording.read_bytes()
        assert public in recorded
        assert not any(part in recorded for secret in secrets for part in (secret[:12], secret[-12:]))


class TestImpostors:
    """Somebody on the wire answers in the TPM's place."""

    @pytest.fixture
    def stage(self, factory: Prepared) -> Iterator[Stage]:
        with in_memory() as folder:
            made = Stage(folder, factory.state)
            made.create().close()
            made.leave()
            yield made
            made.close()

    def test_a_storage_key_of_their_own_is_noticed(self, stage: Stage) -> None:
        """Its private half would open the salt, and so every session. Where ours is made anew, that is used."""
        with Swtpm(stage.folder / "other") as other:
            stage.backend.create(f"tpm:name=other;tcti={other.tcti}").close()
            asked = bare(TPM2_CC.ReadPublic, (0x81000001).to_bytes(4, "big"))
            theirs = other.ask(asked)
            made: list[bytes] = []

            def swap(exchange: Exchange) -> bytes:
                return theirs if exchange.command == asked else exchange.response

            def swap_both(exchange: Exchange) -> bytes:
                if exchange.code != TPM2_CC.CreatePrimary:
                    return swap(exchange)
                made.append(other.ask(exchange.command))
                return made[-1]

            stage.wire.on_response = swap
            stage.wire.listen()
            stage.open()
            (started,) = (one for one in stage.wire.exchanges if one.code == TPM2_CC.StartAuthSession)
            assert any(one.command == asked for one in stage.wire.exchanges)
            assert int.from_bytes(started.command[10:14], "big") != 0x81000001
            stage.leave()
            stage.wire.on_response = swap_both
            stage.wire.listen()
            with pytest.raises(TallystickError) as caught:
                stage.open()
        assert caught.value.code in ("chip_changed", "chip_cleared")
        assert made
        assert TPM2_CC.StartAuthSession not in stage.wire.codes(), "no secret was sent under it"

    def test_an_old_position_is_not_believed(self, stage: Stage) -> None:
        """A recording of the chain does not verify: the session's key is another one each time."""
        recorded: list[bytes] = []

        def record(exchange: Exchange) -> bytes:
            if exchange.code == TPM2_CC.NV_Read and exchange.command[:2] == b"\x80\x02":
                recorded.append(exchange.response)
            return exchange.response

        stage.wire.on_response = record
        stage.open()
        stage.leave()
        chain = max(recorded, key=len)

        def replay(exchange: Exchange) -> bytes:
            same = exchange.code == TPM2_CC.NV_Read and len(exchange.response) == len(chain)
            return chain if same else exchange.response

        stage.wire.on_response = replay
        with pytest.raises(TallystickError) as caught:
            stage.open()
        assert caught.value.code in ("device_silent", "backend_failed")
        stage.wire.leave()
        stage.open()

    @pytest.mark.parametrize("code", [TPM2_CC.NV_Increment, TPM2_CC.NV_Extend])
    def test_a_commit_that_was_only_claimed_is_not_believed(self, stage: Stage, code: int) -> None:
        """The answers are those of the commit before; the commands never reach the TPM."""
        container = stage.open()
        heard: list[bytes] = []
        stage.wire.on_response = lambda exchange: (
            (heard.append(exchange.response) if exchange.code == code else None) or exchange.response
        )
        container.note("test", "heard")  # type: ignore[attr-defined]
        stage.wire.on_command = lambda command: (
            handles_command(PERSISTENT) if int.from_bytes(command[6:10], "big") == code else command
        )
        stage.wire.on_response = lambda exchange: (
            heard[-1] if exchange.command == handles_command(PERSISTENT) else exchange.response
        )
        with pytest.raises(TallystickError) as caught:
            container.note("test", "only claimed")  # type: ignore[attr-defined]
        assert caught.value.code in ("device_silent", "backend_failed", "tampered")
        stage.wire.leave()
        stage.leave()
        stage.open().note("test", "it goes on")  # type: ignore[attr-defined]


def sessions_of(exchange: Exchange, handles: int) -> list[tuple[int, int]]:
    """Handle and attributes of each session that came with a command."""
    at = 10 + 4 * handles
    end = at + 4 + int.from_bytes(exchange.command[at : at + 4], "big")
    found, at = [], at + 4
    while at < end:
        handle, nonce = int.from_bytes(exchange.command[at : at + 4], "big"), at + 4
        flags = nonce + 2 + int.from_bytes(exchange.command[nonce : nonce + 2], "big")
        found.append((handle, exchange.command[flags]))
        at = flags + 1
        at += 2 + int.from_bytes(exchange.command[at : at + 2], "big")
    return found


def parameters_of(exchange: Exchange, handles: int) -> bytes:
    """What follows handles and sessions."""
    at = 10 + 4 * handles
    return exchange.command[at + 4 + int.from_bytes(exchange.command[at : at + 4], "big") :]


def template_of(exchange: Exchange) -> TPMT_PUBLIC:
    """The template in TPM2_Create or TPM2_CreatePrimary, behind the sensitive part."""
    parameters = parameters_of(exchange, 1)
    at = 2 + int.from_bytes(parameters[:2], "big")
    area, _ = TPMT_PUBLIC.unmarshal(parameters[at + 2 :])
    return area
