# SPDX-License-Identifier: Apache-2.0
"""Taking what vendors send: updates, replays, other people's files, hostile bytes."""

from __future__ import annotations

import pytest

from conformance.world import World, facts, left, refused
from fakes import START
from issuer import DAY, Issuer
from tallystick.container.base import Container
from tallystick.errors import FormatError, TallystickError, VerificationError
from tallystick.license.messages import read_request
from tallystick.license.model import ACTIVE, REVOKED, SUSPENDED
from tallystick.license.receipts import INSTALLED, read_receipt


class TestInstall:
    def test_an_answer_brings_the_license_and_a_receipt(self, world: World, container: Container) -> None:
        request = container.request(product="cad")
        license_ = world.acme.license(request, units=5, licensee="Müller & Söhne")
        answer = world.acme.answer(request, license_)
        outcome = container.install(answer)
        (change,) = outcome.changes
        assert (outcome.vendor, outcome.repeated) == ("acme", False)
        assert (change.license_id, change.change, change.product) == (license_.license_id, "installed", "cad")
        (view,) = container.licenses()
        assert (view.license_, view.installed_at) == (license_, START)
        receipt = read_receipt(outcome.receipt, read_request(request).key)
        assert (receipt.purpose, receipt.about, receipt.vendor) == (INSTALLED, outcome.message_id, "acme")
        assert container.receipts() == {outcome.message_id: outcome.receipt}

    def test_the_same_update_again_changes_nothing(self, world: World, container: Container) -> None:
        answer = world.acme.answer(container.request())
        receipt = container.install(answer).receipt
        before = facts(container)
        again = container.install(answer)
        assert (again.repeated, again.receipt, again.changes) == (True, receipt, ())
        container.close()
        container = world.open()
        assert container.install(answer).receipt == receipt
        assert facts(container) == before

    def test_one_answer_may_bring_many_licenses(self, world: World, container: Container) -> None:
        request = container.request(quantity=3)
        container.install(world.acme.answer(request, *(world.acme.license(request) for _ in range(3))))
        assert container.info().licenses == 3

    def test_an_update_is_all_or_nothing(self, world: World, container: Container) -> None:
        request = container.request()
        good = world.acme.license(request)
        before = facts(container)
        refused(
            "wrong_container", container.install, world.acme.answer(request, good, good.replace(container=bytes(32)))
        )
        assert facts(container) == before
        container.install(world.acme.answer(request, good))

    def test_the_vendors_note_reaches_the_user(self, world: World, container: Container) -> None:
        me = container.info().thumbprint
        container.request()
        assert container.install(world.acme.update(me, note="Thank you.")).note == "Thank you."


class TestRefresh:
    def test_newer_terms_replace_older_ones_and_keep_the_account(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=5)
        world.seat(container).consume(4)
        outcome = container.install(world.acme.refresh(license_, units=50))
        assert outcome.changes[0].change == "refreshed"
        assert left(container, license_) == 46

    def test_older_terms_never_come_back(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=50)
        middle = world.acme.refresh(license_, units=40)
        newest = world.acme.newer(world.acme.newer(license_), units=30)
        container.install(world.acme.update(license_.container, newest))
        assert container.install(middle).changes[0].change == "older"
        assert container.install(world.acme.update(license_.container, newest)).changes[0].change == "unchanged"
        assert left(container, license_) == 30

    def test_without_a_request_only_what_is_held_changes(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        stranger = license_.replace(license_id=bytes(16), seq=9)
        refused("license_not_found", container.install, world.acme.update(license_.container, stranger))
        outcome = container.install(world.acme.update(license_.container, stranger, world.acme.newer(license_)))
        assert [change.change for change in outcome.changes] == ["not held", "refreshed"]
        assert container.info().licenses == 1

    def test_a_license_stays_its_products_and_its_vendors(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        refused("wrong_vendor", container.install, world.acme.refresh(license_, product="other"))

    def test_suspended_resumed_revoked(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        for status, change, code in (
            (SUSPENDED, "suspended", "suspended"),
            (ACTIVE, "resumed", None),
            (REVOKED, "revoked", "revoked"),
        ):
            license_ = world.acme.newer(license_, status=status, reason="unpaid" if status else "")
            assert container.install(world.acme.update(license_.container, license_)).changes[0].change == change
            if code:
                assert "unpaid" in refused(code, world.seat, container).message
            else:
                world.seat(container)

    def test_given_up_stays_given_up(self, world: World, container: Container) -> None:
        gone, kept = world.activate(container), world.activate(container, product="render")
        container.deactivate(gone.license_id)
        refused("deactivated", container.install, world.acme.refresh(gone))
        both = world.acme.update(gone.container, world.acme.newer(gone), world.acme.newer(kept))
        assert [change.change for change in container.install(both).changes] == ["given up", "refreshed"]

    def test_many_updates_do_not_fill_the_container(self, world: World, container: Container) -> None:
        """A vendor may demand contact every day for years; the receipts kept of it are bounded."""
        license_ = world.activate(container)
        for _ in range(40):
            license_ = world.acme.newer(license_)
            container.install(world.acme.update(license_.container, license_))
        assert container.info().licenses == 1


class TestStatusLists:
    def test_a_list_suspends_and_revokes_at_use(self, world: World, container: Container) -> None:
        license_ = world.activate(container, status_index=1)
        seat = world.seat(container)
        for status, code in ((2, "suspended"), (1, "revoked")):
            world.acme.now += 1
            container.install(world.acme.update(license_.container, status_list=world.acme.status_list(0, status)))
            assert not seat.check()
            refused(code, world.seat, container)
        world.acme.now += 1
        container.install(world.acme.update(license_.container, status_list=world.acme.status_list(0, 0)))
        assert seat.check()

    def test_a_list_arrives_although_it_revokes_what_comes_with_it(self, world: World, container: Container) -> None:
        """Refused, the update would leave the license running under the older list."""
        license_ = world.activate(container, status_index=0)
        update = world.acme.update(
            license_.container, world.acme.newer(license_), status_list=world.acme.status_list(1)
        )
        container.install(update)
        refused("revoked", world.seat, container)

    def test_an_older_list_is_passed_over_without_refusing_what_comes_with_it(
        self, world: World, container: Container
    ) -> None:
        license_ = world.activate(container, status_index=0)
        late = world.acme.answer(container.request(product="render"))
        old_list = world.acme.status_list(0)
        world.acme.now += DAY
        container.install(world.acme.update(license_.container, status_list=world.acme.status_list(1)))
        container.install(late)
        outcome = container.install(
            world.acme.update(license_.container, world.acme.newer(license_), status_list=old_list)
        )
        assert outcome.changes[0].change == "refreshed"
        refused("revoked", world.seat, container)

    def test_a_list_by_a_key_no_longer_trusted_is_forgotten_and_locks_nobody_out(
        self, world: World, container: Container
    ) -> None:
        license_ = world.activate(container, status_index=0)
        container.install(world.acme.update(license_.container, status_list=world.acme.status_list(0)))
        world.acme.rotate("status")
        container.install(world.acme.refresh(license_))
        assert world.seat(container).check()


class TestKeySets:
    def test_a_newer_key_set_rides_in_any_update(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        world.acme.rotate("license")
        container.install(world.acme.refresh(license_))
        assert read_request(container.request()).keyset_seq == 2

    def test_a_key_left_out_of_the_newest_set_is_believed_no_more(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        old = world.acme.refresh(license_)
        world.acme.rotate("license")
        container.install(world.acme.update(license_.container, world.acme.newer(license_)))
        refused("unknown_issuer", container.install, old)

    def test_an_older_key_set_is_passed_over(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        old = world.acme.keyset
        world.acme.publish()
        container.install(world.acme.refresh(license_))
        container.install(world.acme.update(license_.container, keyset=old))
        assert read_request(container.request()).keyset_seq == 2

    def test_a_key_signs_only_in_its_time_and_for_its_use(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        world.acme.publish(not_after=START)
        container.install(world.acme.refresh(license_))
        world.acme.now += 1
        refused("key_validity", container.install, world.acme.refresh(license_))
        world.acme.publish()
        keys = world.acme.keys
        world.acme.keys = {**keys, "license": keys["status"]}
        refused("key_use", container.install, world.acme.refresh(license_))


class TestVendors:
    def test_one_vendor_cannot_answer_for_another(self, world: World, container: Container) -> None:
        brick = Issuer("brick")
        request = container.request()
        container.request(brick.trust)
        before = facts(container)
        refused("request_not_found", container.install, brick.answer(request))
        forged = Issuer("acme")
        refused("unknown_issuer", container.install, forged.answer(request))
        forged.keyset = world.acme.keyset
        refused("unknown_issuer", container.install, forged.answer(request))
        assert facts(container) == before

    def test_one_vendors_license_does_not_travel_in_anothers_update(self, world: World, container: Container) -> None:
        brick = Issuer("brick")
        request = container.request(brick.trust)
        smuggled = world.acme.sign(world.acme.license(request))
        asked = read_request(request)
        update = brick.update(asked.key.thumbprint, in_reply_to=asked.request_id, licenses=(smuggled,))
        refused("unknown_issuer", container.install, update)

    def test_a_vendor_nobody_named_is_unknown(self, world: World, container: Container) -> None:
        world.activate(container)
        refused("vendor_unknown", container.install, Issuer("brick").update(container.info().thumbprint))


class TestHostileBytes:
    def test_a_file_for_another_container_is_refused_by_name(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        before = facts(container)
        refused("wrong_container", container.install, world.acme.update(bytes(32), license_))
        assert facts(container) == before

    @pytest.mark.parametrize("kind", ["request", "license", "receipt", "key set", "status list", "time token"])
    def test_another_kind_of_file_is_refused_by_name(self, world: World, container: Container, kind: str) -> None:
        request = container.request()
        answer = world.acme.answer(request)
        others = {
            "request": request,
            "license": world.acme.sign(world.acme.license(request)),
            "receipt": container.install(answer).receipt,
            "key set": world.acme.keyset,
            "status list": world.acme.status_list(0),
            "time token": world.acme.time(),
        }
        assert kind in refused("wrong_kind", container.install, others[kind]).message

    def test_no_bytes_do_any_harm(self, world: World, container: Container) -> None:
        """Only these errors, whatever arrives; and nothing changes."""
        answer = world.acme.answer(container.request())
        before = facts(container)
        hostile = [b"", b"\0", b"\xd2", b"\xd2\x84", b"{}", bytes(100), b"\xff" * 100, answer + b"\0", answer[:-1]]
        hostile += [answer[:size] for size in range(0, len(answer), 37)]
        for place in range(0, len(answer) * 8, 61):
            flipped = bytearray(answer)
            flipped[place // 8] ^= 1 << place % 8
            hostile.append(bytes(flipped))
        for data in hostile:
            with pytest.raises(TallystickError) as caught:
                container.install(data)
            allowed = isinstance(caught.value, FormatError | VerificationError)
            assert allowed or caught.value.code in ("vendor_unknown", "request_not_found"), caught.value
        assert facts(container) == before
        container.install(answer)

    def test_more_than_a_message_can_be_is_refused_unread(self, container: Container) -> None:
        refused("too_large", container.install, b"\xd2" * ((1 << 20) + 1))
