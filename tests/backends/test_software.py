# SPDX-License-Identifier: Apache-2.0
"""The software anchor: it opens on its computer, follows it, explains itself, and never on another one."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from backends.computer import ALL, UNPRIVILEGED, Computer, Folder, Hand
from tallystick.backends import anchor_file
from tallystick.backends.anchor_file import Drift
from tallystick.backends.enrollment import Explanation
from tallystick.backends.header import read_header
from tallystick.backends.software import SoftwareAnchor, explain
from tallystick.backends.traits.base import PHYSICAL, Profile, Reading
from tallystick.codec import cbor
from tallystick.codec.signing import SoftwareKey
from tallystick.container.anchor import Capability
from tallystick.container.vfs import Directory
from tallystick.errors import (
    BackendError,
    ContainerError,
    FormatError,
    LockedError,
    NotFoundError,
    StorageError,
    TallystickError,
    UsageError,
    VerificationError,
    error,
)

NOW = 1_800_000_000


def make(
    reading: Reading = ALL, tolerance: str = "medium", profile: Profile = PHYSICAL
) -> tuple[Folder, SoftwareAnchor]:
    folder = Folder()
    return folder, SoftwareAnchor.create(folder, tolerance=tolerance, sources=[Hand(reading, profile)], now=NOW)


def reopen(folder: Folder, reading: Reading, now: int = NOW + 1, profile: Profile = PHYSICAL) -> SoftwareAnchor:
    return SoftwareAnchor.open(folder, sources=[Hand(reading, profile)], now=now)


def refusal(call: Callable[[], object]) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value


def but(reading: Reading, **changes: str | None) -> Reading:
    return {**reading, **{name.replace("_", "-"): value for name, value in changes.items()}}


def without(reading: Reading, *names: str) -> Reading:
    return {name: value for name, value in reading.items() if name not in names}


# -------------------------------------------------------------------------------------------------- what an anchor does


def test_a_new_anchor_signs_agrees_and_seals() -> None:
    _, anchor = make()
    anchor.public_key.verify(b"message", anchor.sign(b"message"))
    peer = SoftwareKey.generate()
    for _ in range(2):
        assert anchor.agree(peer.public_key.p256_point()) == peer.agree(anchor.agreement_key.p256_point())
    sealed = anchor.seal(b"k" * 32)
    assert anchor.unseal(sealed) == b"k" * 32
    assert anchor.seal(b"k" * 32) != sealed
    assert anchor.public_key != anchor.agreement_key


def test_it_promises_no_more_than_a_file_can_keep() -> None:
    _, anchor = make()
    assert anchor.capabilities == Capability.UNLOCK
    assert anchor.position() is None
    assert anchor.evidence(bytes(32)) == {}


def test_the_reopened_anchor_has_the_same_keys_and_writes_nothing() -> None:
    folder, anchor = make()
    again = reopen(folder, ALL)
    assert (again.public_key, again.agreement_key) == (anchor.public_key, anchor.agreement_key)
    assert again.unseal(anchor.seal(b"k" * 32)) == b"k" * 32
    assert (again.drift, again.drift_log, folder.writes) == ((), (), 1)
    assert (again.tolerance, again.profile) == ("medium", "physical")


def test_the_computer_is_read_once_where_nothing_changed() -> None:
    folder, _ = make()
    source = Hand(ALL)
    SoftwareAnchor.open(folder, sources=[source], now=NOW)
    assert source.looks == 1


def test_it_works_on_this_computer_in_a_real_folder(tmp_path: Path) -> None:
    with Directory.open(str(tmp_path / "c"), create=True) as directory:
        anchor = SoftwareAnchor.create(directory, identity=b"operator", now=NOW)
        assert (tmp_path / "c" / "anchor").stat().st_mode & 0o777 == 0o600
        again = SoftwareAnchor.open(directory, identity=b"operator", now=NOW)
        assert again.public_key == anchor.public_key
        assert explain(directory, identity=b"operator").would_open


def test_the_default_sources_read_this_computer(tmp_path: Path) -> None:
    with Directory.open(str(tmp_path / "c"), create=True) as directory:
        try:
            anchor = SoftwareAnchor.create(directory, now=NOW)
        except BackendError as refused:  # a build machine that shows nothing of itself
            assert refused.code == "identity_missing"
        else:
            assert SoftwareAnchor.open(directory, now=NOW).public_key == anchor.public_key
            assert explain(directory).would_open


def test_after_close_the_keys_are_gone() -> None:
    _, anchor = make()
    sealed = anchor.seal(bytes(32))
    anchor.close()
    anchor.close()
    for call in (
        lambda: anchor.sign(b"m"), lambda: anchor.agree(bytes(65)), lambda: anchor.seal(bytes(32)),
        lambda: anchor.unseal(sealed),
    ):  # fmt: skip
        assert refusal(call).code == "closed"
    assert anchor.public_key.alg == -9


def test_a_peer_that_is_no_point_is_refused() -> None:
    _, anchor = make()
    with pytest.raises(VerificationError) as refused:
        anchor.agree(b"\x04" + bytes(64))
    assert refused.value.code == "bad_key"


@pytest.mark.parametrize(
    "edit", [lambda s: s[:-1], lambda s: s[:5], lambda s: b"", lambda s: bytes([s[0] ^ 1]) + s[1:]]
)
def test_an_edited_state_key_is_tampered(edit: Callable[[bytes], bytes]) -> None:
    _, anchor = make()
    sealed = anchor.seal(bytes(32))
    assert refusal(lambda: anchor.unseal(edit(sealed))).code == "tampered"


def test_the_state_key_of_another_container_does_not_unseal() -> None:
    sealed = make()[1].seal(bytes(32))
    assert refusal(lambda: make()[1].unseal(sealed)).code == "tampered"


# ------------------------------------------------------------------------------------------------------------ creation


def test_a_second_container_in_one_folder_is_refused() -> None:
    folder, _ = make()
    before = dict(folder.files)
    with pytest.raises(ContainerError) as refused:
        SoftwareAnchor.create(folder, sources=[Hand(ALL)], now=NOW)
    assert refused.value.code == "already_exists"
    assert folder.files == before


def test_an_unknown_tolerance_is_refused_before_anything_is_written() -> None:
    folder = Folder()
    with pytest.raises(UsageError):
        SoftwareAnchor.create(folder, tolerance="none", sources=[Hand(ALL)], now=NOW)
    assert folder.files == {}


def test_traits_that_differ_between_two_looks_are_not_enrolled() -> None:
    looks = count()
    folder = Folder()
    restless = Hand(lambda: but(ALL, machine_id=f"boot-{next(looks)}"))
    SoftwareAnchor.create(folder, sources=[restless], now=NOW)
    assert restless.looks == 2
    assert "machine-id" not in {row.name for row in explain(folder, [Hand(ALL)]).rows if row.verdict != "new"}
    assert reopen(folder, without(ALL, "machine-id")).drift == ()


def test_nothing_readable_asks_for_an_identity() -> None:
    for reading in ({}, dict.fromkeys(ALL)):
        with pytest.raises(BackendError) as refused:
            make(reading)
        assert refused.value.code == "identity_missing"
        assert "identity-file" in refused.value.remedy


def test_no_folder_no_container() -> None:
    for call in (reopen, lambda folder, reading: explain(folder, [Hand(reading)])):
        with pytest.raises(NotFoundError) as refused:
            call(Folder(), ALL)
        assert refused.value.code == "container_not_found"


# ------------------------------------------------------------------------------------------------ changes and refusals


def test_a_change_within_the_tolerance_opens_and_is_enrolled() -> None:
    folder, anchor = make()
    sealed = anchor.seal(b"k" * 32)
    new = but(ALL, nic="aabbccddee99")
    opened = reopen(folder, new, NOW + 5)
    assert (opened.public_key, opened.unseal(sealed)) == (anchor.public_key, b"k" * 32)
    assert opened.drift == ("nic",)
    assert opened.drift_log == (Drift(NOW + 5, ("nic",)),)
    assert folder.writes == 2
    assert reopen(folder, new).drift == ()
    assert folder.writes == 2


def test_too_much_change_is_refused_with_names_score_and_threshold_and_deletes_nothing() -> None:
    folder, anchor = make()
    before = dict(folder.files)
    with pytest.raises(LockedError) as refused:
        reopen(folder, but(without(ALL, "board-serial"), product_uuid="other"))
    assert refused.value.code == "binding_lost"
    assert refused.value.message == (
        "too much of this computer changed: product-uuid, board-serial "
        "(weight 50 of 125, where medium tolerance allows 43)"
    )
    assert refused.value.details["changed"] == ["product-uuid", "board-serial"]
    assert refused.value.details["changed_weight"] == 50
    assert folder.files == before
    assert read_header(folder).identity == anchor.public_key
    assert reopen(folder, ALL).public_key == anchor.public_key


def test_too_little_readable_is_another_refusal_and_passes_by_itself() -> None:
    folder, anchor = make()
    with pytest.raises(LockedError) as refused:
        reopen(folder, {**dict.fromkeys(ALL), "cpu": ALL["cpu"], "nic": ALL["nic"]})
    assert refused.value.code == "binding_unreadable"
    assert "(weight 30 of 125 matches, where medium tolerance needs 63)" in refused.value.message
    assert "machine-id" in refused.value.message
    assert reopen(folder, ALL).public_key == anchor.public_key


def test_unreadable_traits_stay_enrolled_while_others_are_enrolled_anew() -> None:
    folder, _ = make()
    hidden = but(ALL, nic="aabbccddee99", board_serial=None)
    assert reopen(folder, hidden).drift == ("nic",)
    shown = {row.name: row.verdict for row in explain(folder, [Hand(but(ALL, nic="aabbccddee99"))]).rows}
    assert set(shown.values()) == {"match"}
    assert set(shown) == set(ALL)
    # and their weight still counts when they come back as those of another board
    other = but(ALL, nic="aabbccddee99", board_serial="other", product_uuid="other")
    assert refusal(lambda: reopen(folder, other)).code == "binding_lost"


def test_a_removed_trait_is_dropped_and_enrolled_when_it_comes_back() -> None:
    folder, _ = make()
    assert reopen(folder, without(ALL, "nic")).drift == ("nic",)
    assert explain(folder, [Hand(without(ALL, "nic"))]).total == 105
    assert reopen(folder, ALL).drift == ("nic",)
    assert explain(folder, [Hand(ALL)]).total == 125


def test_a_trait_that_becomes_readable_is_added() -> None:
    folder, _ = make(UNPRIVILEGED)
    assert reopen(folder, ALL).drift == ("board-serial", "product-uuid")
    assert reopen(folder, ALL).drift == ()
    # and the former view of the computer still opens: the new traits are unreadable there, not changed
    assert reopen(folder, {**UNPRIVILEGED, "board-serial": None, "product-uuid": None}).drift == ()


def test_a_new_trait_that_differs_at_the_second_look_is_not_added_and_nothing_is_written() -> None:
    folder, _ = make(UNPRIVILEGED)
    looks = count()
    restless = Hand(lambda: {**UNPRIVILEGED, "board-serial": f"serial-{next(looks)}"})
    assert SoftwareAnchor.open(folder, sources=[restless], now=NOW).drift == ()
    assert (folder.writes, restless.looks) == (1, 2)


def test_a_changed_trait_that_differs_at_the_second_look_is_dropped() -> None:
    folder, _ = make()
    looks = count()
    restless = Hand(lambda: but(ALL, machine_id=f"boot-{next(looks)}"))
    assert SoftwareAnchor.open(folder, sources=[restless], now=NOW).drift == ("machine-id",)
    assert reopen(folder, without(ALL, "machine-id")).drift == ()


def test_drift_is_cumulative_and_every_step_is_recorded() -> None:
    # A computer may change part by part into another one. What it was then no longer opens the newest file; an older
    # file opens for it, because a file cannot know that it is old (level L0).
    folder, anchor = make()
    sealed, first = anchor.seal(b"k" * 32), folder.files["anchor"]
    now = dict(ALL)
    for step, name in enumerate(ALL, 1):
        now[name] = f"{name}-2"
        opened = reopen(folder, now, NOW + step)
        assert opened.drift == (name,)
        assert opened.unseal(sealed) == b"k" * 32
    assert [entry.traits for entry in opened.drift_log] == [(name,) for name in ALL]
    assert [entry.time for entry in opened.drift_log] == [NOW + step for step in range(1, 7)]
    assert not set(now.values()) & set(ALL.values())
    assert refusal(lambda: reopen(folder, ALL)).code == "binding_lost"

    newest = folder.files["anchor"]
    folder.files["anchor"] = first
    assert refusal(lambda: reopen(folder, now)).code == "binding_lost"
    old = reopen(folder, ALL)
    assert (old.public_key, old.unseal(sealed), old.drift_log) == (anchor.public_key, b"k" * 32, ())
    folder.files["anchor"] = newest
    assert reopen(folder, now).public_key == anchor.public_key


def test_the_record_of_drift_keeps_the_last_sixteen() -> None:
    folder, _ = make()
    for step in range(20):
        reopen(folder, but(ALL, nic=f"card-{step}"), NOW + step)
    log = read_header(folder).drift
    assert [entry.time for entry in log] == [NOW + step for step in range(4, 20)]


def test_a_folder_that_cannot_be_written_locks_nobody_out() -> None:
    folder, anchor = make()
    new = but(ALL, nic="aabbccddee99")
    for code in ("no_space", "io_error", "no_permission", "read_only"):
        folder.failure = error(code, "no")
        opened = reopen(folder, new)
        assert (opened.public_key, opened.drift, opened.drift_log) == (anchor.public_key, (), ())
    folder.failure = None
    assert reopen(folder, new).drift == ("nic",)


def test_a_folder_opened_to_be_read_only_is_left_as_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    with Directory.open(path, create=True) as directory:
        SoftwareAnchor.create(directory, sources=[Hand(ALL)], now=NOW)
    before = (tmp_path / "c" / "anchor").read_bytes()
    with Directory.open(path, read_only=True) as directory:
        assert reopen(directory, but(ALL, nic="other")).drift == ()
    assert (tmp_path / "c" / "anchor").read_bytes() == before


def test_at_creation_a_full_disk_is_an_error() -> None:
    folder = Folder()
    folder.failure = error("no_space", "no space")
    with pytest.raises(StorageError):
        SoftwareAnchor.create(folder, sources=[Hand(ALL)], now=NOW)


# -------------------------------------------------------------------------------------------- whole computers, by files


def on(computer: Computer, folder: Folder, now: int = NOW) -> SoftwareAnchor:
    return SoftwareAnchor.open(folder, sources=[computer.source], now=now)


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


@pytest.mark.parametrize("tolerance", ["loose", "medium", "strict"])
def test_a_firmware_update_changes_nothing(computer: Computer, tolerance: str) -> None:
    folder = Folder()
    SoftwareAnchor.create(folder, tolerance=tolerance, sources=[computer.source], now=NOW)
    computer.write("/sys/class/dmi/id/bios_version", "1.27.0\n")
    computer.write("/sys/class/dmi/id/bios_date", "03/01/2027\n")
    cpuinfo = computer.path("/proc/cpuinfo").read_text()
    computer.write("/proc/cpuinfo", cpuinfo.replace("0xf8", "0x104"))
    assert on(computer, folder).drift == ()


def test_a_firmware_update_that_turns_the_uuid_around_is_followed(computer: Computer) -> None:
    folder = Folder()
    SoftwareAnchor.create(folder, sources=[computer.source], now=NOW)
    computer.write("/sys/class/dmi/id/product_uuid", "44454c4c-4200-1035-8057-b7c04f4e3232\n")
    assert on(computer, folder).drift == ("product-uuid",)


def test_a_dock_comes_and_goes_unnoticed(computer: Computer) -> None:
    folder = Folder()
    dock = ("enx00e04c680102", "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0", "00:e0:4c:68:01:02")
    computer.nic(*dock)
    SoftwareAnchor.create(folder, tolerance="strict", sources=[computer.source], now=NOW)
    computer.remove("/sys/class/net/enx00e04c680102")
    assert on(computer, folder).drift == ()


def test_a_second_card_that_disappears_is_no_change(computer: Computer) -> None:
    folder = Folder()
    computer.nic("wlan0", "pci0000:00/0000:02:00.0", "38:ba:f8:aa:bb:cc")
    SoftwareAnchor.create(folder, tolerance="strict", sources=[computer.source], now=NOW)
    computer.remove("/sys/class/net/wlan0")
    assert on(computer, folder).drift == ()


def test_a_lost_right_to_read_firmware_is_no_change(computer: Computer) -> None:
    folder = Folder()
    SoftwareAnchor.create(folder, sources=[computer.source], now=NOW)
    computer.forbid("/sys/class/dmi/id/product_uuid")
    computer.forbid("/sys/class/dmi/id/board_serial")
    assert on(computer, folder).drift == ()


def test_a_mainboard_is_another_computer_unless_the_tolerance_is_loose(computer: Computer) -> None:
    folders = {tolerance: Folder() for tolerance in ("loose", "medium", "strict")}
    for tolerance, folder in folders.items():
        SoftwareAnchor.create(folder, tolerance=tolerance, sources=[computer.source], now=NOW)
    computer.write("/sys/class/dmi/id/product_uuid", "4c4c4544-0043-4b10-8057-c8c04f4e3232\n")
    computer.write("/sys/class/dmi/id/board_serial", "/7TB5WN3/CNWS2007BR00A2/\n")
    computer.write("/sys/class/net/eno1/address", "54:bf:64:9a:11:99\n")
    assert on(computer, folders["loose"]).drift == ("board-serial", "nic", "product-uuid")
    for tolerance in ("medium", "strict"):
        assert refusal(lambda folder=folders[tolerance]: on(computer, folder)).code == "binding_lost"


def test_the_network_card_of_wsl_changes_at_every_start_and_does_not_count(computer: Computer) -> None:
    for path in ("product_uuid", "board_serial", "sys_vendor", "product_name"):
        computer.remove(f"/sys/class/dmi/id/{path}")
    computer.write("/proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)\n")
    folder = Folder()
    made = SoftwareAnchor.create(folder, tolerance="strict", sources=[computer.source], now=NOW)
    assert made.profile == "wsl"
    for boot in range(3):
        computer.write("/sys/class/net/eno1/address", f"00:15:5d:0a:0b:{boot:02x}\n")
        assert on(computer, folder).drift == ()
    assert "nic" not in {row.name for row in explain(folder, [computer.source]).rows}
    assert folder.writes == 1


def run_of_an_image(root: Path, host: int) -> Computer:
    """A new run of one container image: the address, host name and files of the run are new, the image is the same."""
    computer = Computer(root)
    computer.write("/.dockerenv", "")
    computer.write("/proc/self/mountinfo", f"600 500 0:{host} / / rw - overlay overlay rw,upperdir=/u/{host}\n")
    computer.remove("/sys/class/net/eno1")
    computer.virtual_nic("eth0", mac=f"02:42:ac:11:00:{host:02x}")
    for name in ("product_uuid", "board_serial"):
        computer.forbid(f"/sys/class/dmi/id/{name}")
    return computer


def test_docker_without_an_identity_is_bound_to_little_and_advised(tmp_path: Path) -> None:
    first, second = run_of_an_image(tmp_path / "1", 1), run_of_an_image(tmp_path / "2", 2)
    folder = Folder()
    anchor = SoftwareAnchor.create(folder, sources=[first.source], now=NOW)
    assert anchor.profile == "container"
    shown = explain(folder, [first.source])
    assert {row.name for row in shown.rows} == {"machine-id", "cpu"}
    assert "identity-file" in shown.profile.advice
    assert on(second, folder).drift == ()  # the same image on the same kind of processor
    second.write("/etc/machine-id", "00112233445566778899aabbccddeeff\n")
    assert refusal(lambda: on(second, folder)).code == "binding_lost"


# ------------------------------------------------------------------------------------------------- operator's identity


def test_an_identity_is_the_whole_binding_and_follows_the_operator_anywhere() -> None:
    folder = Folder()
    made = SoftwareAnchor.create(folder, tolerance="loose", sources=[Hand(ALL)], identity=b"node-7", now=NOW)
    assert read_header(folder).needs_identity
    nothing = Hand({})
    for source in (Hand(ALL), Hand(but(ALL, machine_id="x", nic="y")), nothing):
        opened = SoftwareAnchor.open(folder, sources=[source], identity=b"node-7", now=NOW)
        assert (opened.public_key, opened.drift) == (made.public_key, ())
    assert nothing.looks == 0
    assert folder.writes == 1


def test_a_missing_identity_says_so_and_a_wrong_one_is_another_computer() -> None:
    folder = Folder()
    SoftwareAnchor.create(folder, tolerance="loose", sources=[Hand(ALL)], identity=b"node-7", now=NOW)
    missing = refusal(lambda: SoftwareAnchor.open(folder, sources=[Hand(ALL)], now=NOW))
    assert (missing.code, type(missing)) == ("identity_missing", BackendError)
    wrong = refusal(lambda: SoftwareAnchor.open(folder, sources=[Hand(ALL)], identity=b"node-8", now=NOW))
    assert wrong.code == "binding_lost"
    assert "not the one the container was created with" in wrong.message
    assert "identity-file" in wrong.remedy


def test_an_identity_for_a_container_bound_to_its_computer_is_refused_not_ignored() -> None:
    folder, _ = make()
    for call in (
        lambda: SoftwareAnchor.open(folder, sources=[Hand(ALL)], identity=b"node-7", now=NOW),
        lambda: explain(folder, [Hand(ALL)], b"node-7"),
    ):
        assert refusal(call).code == "usage"


def test_an_empty_identity_is_refused() -> None:
    with pytest.raises(UsageError):
        SoftwareAnchor.create(Folder(), sources=[Hand(ALL)], identity=b"", now=NOW)


# ----------------------------------------------------------------------------------------------------------- explained


def test_explain_agrees_with_open_and_shows_both_digests() -> None:
    folder, _ = make()
    cases = [
        ALL, but(ALL, nic="other"), but(ALL, cpu=None), without(ALL, "root-fs"), dict.fromkeys(ALL), {},
        but(ALL, machine_id="x", product_uuid="y"),
    ]  # fmt: skip
    for reading in cases:
        before = folder.files["anchor"]
        shown = explain(folder, [Hand(reading)])
        assert folder.files["anchor"] == before
        try:
            reopen(folder, reading)
        except LockedError as refused:
            assert (shown.would_open, shown.code, shown.reason) == (False, refused.code, refused.message)
        else:
            assert (shown.would_open, shown.code, shown.reason) == (True, "", "")
        folder.files["anchor"] = before


def test_explain_shows_every_number_of_the_decision() -> None:
    folder, _ = make(UNPRIVILEGED)
    reading = {**UNPRIVILEGED, "nic": "other", "root-fs": None, "product-uuid": "uuid-1"}
    shown = explain(folder, [Hand(reading, Profile("vm", "KVM", "advice"))])
    rows = {row.name: (row.weight, row.verdict) for row in shown.rows}
    assert rows == {
        "machine-id": (25, "match"), "nic": (20, "changed"), "root-fs": (20, "unreadable"), "cpu": (10, "match"),
        "product-uuid": (30, "new"),
    }  # fmt: skip
    numbers = (shown.matched, shown.changed, shown.unreadable, shown.allowed, shown.floor, shown.total)
    assert numbers == (35, 20, 20, 26, 38, 75)
    assert (shown.tolerance, shown.profile.details, shown.would_open) == ("medium", "KVM", False)
    changed = next(row for row in shown.rows if row.name == "nic")
    assert len(changed.then) == len(changed.now) == 8
    assert changed.then != changed.now


def test_explain_shows_a_missing_identity_as_unreadable() -> None:
    folder = Folder()
    SoftwareAnchor.create(folder, sources=[Hand(ALL)], identity=b"node-7", now=NOW)
    shown = explain(folder, [Hand(ALL)])
    assert [(row.name, row.now) for row in shown.rows] == [("identity", "unreadable")]
    assert (shown.would_open, shown.code) == (False, "identity_missing")
    assert explain(folder, [Hand(ALL)], b"node-7").would_open
    assert explain(folder, [Hand(ALL)], b"node-8").code == "binding_lost"


def test_no_value_is_shown_or_stored_anywhere() -> None:
    values = {name: f"planted-value-of-{name}" for name in ALL}
    folder, anchor = make(values)
    opened = reopen(folder, but(values, nic="planted-value-too"))
    refused = refusal(lambda: reopen(folder, {}))
    everything = [
        *folder.files.values(), repr(explain(folder, [Hand(values)])), repr(read_header(folder)), repr(opened),
        repr(anchor.__dict__), refused.message, repr(refused.details), repr(anchor_file.load(folder)),
    ]  # fmt: skip
    for shown in everything:
        text = shown if isinstance(shown, bytes) else shown.encode()
        assert b"planted-value" not in text
        assert b"706c616e746564" not in text


def test_two_containers_on_one_computer_share_no_digest() -> None:
    shown: list[Explanation] = [explain(make()[0], [Hand(ALL)]) for _ in range(2)]
    assert {row.then for row in shown[0].rows} & {row.then for row in shown[1].rows} == set()


# ------------------------------------------------------------------------------------------------- the file, attacked


def drifted() -> Folder:
    """A folder whose file has every field filled."""
    folder, _ = make()
    reopen(folder, but(ALL, nic="other"))
    return folder


def test_every_flipped_bit_of_the_file_is_tampered() -> None:
    folder = drifted()
    good = folder.files["anchor"]
    for at in range(len(good)):
        for bit in range(8):
            folder.files["anchor"] = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
            assert refusal(lambda: anchor_file.load(folder)).code == "tampered", (at, bit)


def test_a_flipped_bit_opens_nothing() -> None:
    folder = drifted()
    good = folder.files["anchor"]
    for at in range(len(good)):
        folder.files["anchor"] = good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]
        assert refusal(lambda: reopen(folder, ALL)).code == "tampered"
    folder.files["anchor"] = good


def checked(body: bytes) -> bytes:
    return cbor.encode([body, sha256(body).digest()])


def test_a_flipped_bit_with_a_new_checksum_opens_nothing_either() -> None:
    # The checksum is anybody's; behind it the copies, the additional data and the seal refuse.
    folder = drifted()
    body = cbor.decode(folder.files["anchor"])[0]
    new = but(ALL, nic="other")
    codes = set()
    for at in range(len(body)):
        folder.files["anchor"] = checked(body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1 :])
        codes.add(refusal(lambda: reopen(folder, new)).code)
    folder.files["anchor"] = checked(body)
    assert reopen(folder, new).drift == ()
    assert codes <= {"tampered", "binding_lost", "unsupported_version"}


@pytest.mark.parametrize("at", [0, 1, 10, 100, -1, -40])
def test_a_shortened_file_is_tampered(at: int) -> None:
    folder = drifted()
    folder.files["anchor"] = folder.files["anchor"][:at]
    assert refusal(lambda: reopen(folder, ALL)).code == "tampered"


def test_more_bytes_than_an_anchor_file_has_are_tampered() -> None:
    folder = drifted()
    for more in (b"\0", bytes(20_000)):
        large = Folder(anchor=folder.files["anchor"] + more)
        assert refusal(lambda large=large: reopen(large, ALL)).code == "tampered"
        assert refusal(lambda large=large: read_header(large)).code == "tampered"


FORGED = {
    "not a map": lambda body: [],
    "a field missing": lambda body: {key: value for key, value in body.items() if key != 9},
    "a field too many": lambda body: {**body, 12: 0},
    "version 0": lambda body: {**body, 1: 0},
    "version true": lambda body: {**body, 1: True},
    "salt short": lambda body: {**body, 2: bytes(31)},
    "tolerance unknown": lambda body: {**body, 3: "none"},
    "tolerance no text": lambda body: {**body, 3: 1},
    "no traits": lambda body: {**body, 4: []},
    "traits no list": lambda body: {**body, 4: {}},
    "nine traits": lambda body: {**body, 4: [[f"t{index}", 1, bytes(8)] for index in range(9)]},
    "a trait twice": lambda body: {**body, 4: [body[4][0], body[4][0]]},
    "a trait of two": lambda body: {**body, 4: [body[4][0][:2]]},
    "weight 0": lambda body: {**body, 4: [["cpu", 0, bytes(8)]]},
    "weight true": lambda body: {**body, 4: [["cpu", True, bytes(8)]]},
    "weight huge": lambda body: {**body, 4: [["cpu", 1 << 40, bytes(8)]]},
    "name empty": lambda body: {**body, 4: [["", 1, bytes(8)]]},
    "name long": lambda body: {**body, 4: [["x" * 33, 1, bytes(8)]]},
    "digest long": lambda body: {**body, 4: [["cpu", 1, bytes(9)]]},
    "no copies": lambda body: {**body, 5: []},
    "copies for nobody": lambda body: {**body, 5: [[0, bytes(40)]]},
    "copies for more": lambda body: {**body, 5: [[1 << 6, bytes(40)]]},
    "71 copies": lambda body: {**body, 5: [[1, bytes(40)]] * 71},
    "identity short": lambda body: {**body, 6: bytes(64)},
    "agreement no bytes": lambda body: {**body, 7: "x" * 65},
    "profile empty": lambda body: {**body, 8: ""},
    "created negative": lambda body: {**body, 9: -1},
    "drift long": lambda body: {**body, 10: [[1, ["cpu"]]] * 17},
    "drift of nothing": lambda body: {**body, 10: [[1, []]]},
    "sealed no bytes": lambda body: {**body, 11: None},
    "sealed empty": lambda body: {**body, 11: b""},
    "loosened": lambda body: {**body, 3: "loose"},
    "another key": lambda body: {**body, 6: SoftwareKey.generate().public_key.p256_point()},
    "drift forgotten": lambda body: {**body, 10: []},
    "another day": lambda body: {**body, 9: body[9] + 1},
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_file_is_tampered(forgery: str) -> None:
    folder = drifted()
    body = cbor.decode(cbor.decode(folder.files["anchor"])[0])
    folder.files["anchor"] = checked(cbor.encode(FORGED[forgery](body)))
    assert refusal(lambda: reopen(folder, but(ALL, nic="other"))).code == "tampered"


@pytest.mark.parametrize("outer", [{}, [b""], [b"", b"", b""], [b"", None], ["", b""]])
def test_a_forged_wrapping_is_tampered(outer: object) -> None:
    assert refusal(lambda: anchor_file.decode(cbor.encode(outer))).code == "tampered"


def test_copies_for_other_sets_only_are_tampered() -> None:
    folder = drifted()
    body = cbor.decode(cbor.decode(folder.files["anchor"])[0])
    whole = (1 << len(body[4])) - 1
    folder.files["anchor"] = checked(cbor.encode({**body, 5: [[whole, bytes(40)]]}))
    assert refusal(lambda: reopen(folder, but(ALL, nic="third"))).code == "tampered"


def test_a_file_of_a_newer_release_says_so() -> None:
    folder = Folder(anchor=checked(cbor.encode({1: 2})))
    for call in (lambda: reopen(folder, ALL), lambda: read_header(folder), lambda: explain(folder, [Hand(ALL)])):
        refused = refusal(call)
        assert (refused.code, type(refused)) == ("unsupported_version", FormatError)


def test_the_header_names_a_container_whatever_the_computer() -> None:
    folder, anchor = make()
    reopen(folder, but(ALL, nic="other"), NOW + 7)
    header = read_header(folder)
    assert (header.identity, header.agreement) == (anchor.public_key, anchor.agreement_key)
    assert (header.tolerance, header.profile, header.needs_identity) == ("medium", "physical", False)
    assert (header.created, header.drift) == (NOW, (Drift(NOW + 7, ("nic",)),))


def test_a_header_whose_key_is_no_point_is_tampered() -> None:
    folder = drifted()
    body = cbor.decode(cbor.decode(folder.files["anchor"])[0])
    folder.files["anchor"] = checked(cbor.encode({**body, 6: b"\x04" + bytes(64)}))
    assert refusal(lambda: read_header(folder)).code == "tampered"


def test_the_largest_file_fits_its_limit() -> None:
    names = "abcdefgh"
    folder = Folder()
    source = Hand({})
    binding_parts = [anchor_file.Drift(1 << 62, tuple(name * 32 for name in names * 2))] * 16
    anchor = SoftwareAnchor.create(folder, sources=[source], identity=b"x", now=NOW)
    file = anchor_file.load(folder)
    rows = tuple(file.binding.enrolled[0].replace(name=name * 32, weight=1000) for name in names)
    binding = file.binding.replace(enrolled=rows, copies=((255, bytes(40)),) * 70)
    encoded = anchor_file.encode(file.replace(binding=binding, drift=tuple(binding_parts), sealed=bytes(700)))
    assert len(encoded) <= anchor_file.LIMIT
    assert anchor_file.decode(encoded).binding == binding
    assert anchor.drift == ()
