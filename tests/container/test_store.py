# SPDX-License-Identifier: Apache-2.0
"""The store on a real file system: what it keeps, what it refuses, what it leaves alone."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tallystick.container import journal, store_slot
from tallystick.container.store import Slot, Store
from tallystick.container.store_journal import SIZE
from tallystick.container.store_lock import APPENDING, REPLACING, SETTLED
from tallystick.container.store_os import Vfs
from tallystick.container.vfs import Directory
from tallystick.errors import LockedError, StorageError, TallystickError, UsageError

KEY = bytes(range(32))
PREV = b"p" * 32


def _raising(code: int) -> Callable[..., int]:
    def call(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


class Counting(Vfs):
    """The real system; counts its calls and fails those it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}

    def fsync_dir(self, fd: int) -> None:
        os.fsync(fd)  # fails apart from the sync of files

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found
        calls, failing = super().__getattribute__("calls"), super().__getattribute__("failing")
        calls.append(name)
        return _raising(failing[name]) if name in failing else found


class Opened:
    """A store with its directory, loaded."""

    def __init__(self, path: Path, *, journal: bool = True, read_only: bool = False, key: bytes | None = KEY) -> None:
        self.vfs = Counting()
        self.directory = Directory.open(str(path), self.vfs, read_only=read_only)
        self.store = Store(self.directory, key, journal=journal)
        self.slot: Slot | None = None

    def load(self) -> tuple[bytes, list[bytes]]:
        with self.store.lock(1):
            slots = self.store.slots()
            self.slot = slots[0]
            return self.store.load(slots[0])

    def append(self, *bodies: bytes) -> None:
        with self.store.lock(1):
            assert self.store.refresh() is not None
            for body in bodies:
                self.store.append(body)

    def checkpoint(self, generation: int, body: bytes, header: bytes = b"header") -> bytes:
        with self.store.lock(1):
            if self.store.refresh() is None:
                assert not self.store.slots()
            return self.store.checkpoint(generation, PREV, header, body)

    def close(self) -> None:
        self.store.close()
        self.directory.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "container"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[..., Opened]]:
    made: list[Opened] = []

    def make(**options: bool) -> Opened:
        made.append(Opened(folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def filled(opened: Callable[..., Opened]) -> Opened:
    one = opened()
    one.checkpoint(1, b"first")
    one.checkpoint(2, b"second")
    one.append(b"a", b"b", b"c")
    return one


def _code(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value.code


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


# -- keeping


def test_snapshot_and_journal_come_back(filled: Opened, opened: Callable[..., Opened]) -> None:
    other = opened()
    assert other.load() == (b"second", [b"a", b"b", b"c"])
    assert other.slot is not None
    assert (other.slot.name, other.slot.generation, other.slot.prev) == ("state.B", 2, PREV)
    assert other.slot.header == b"header"
    assert set(other.directory.names()) == {"lock", "state.A", "state.B", "journal.2"}


def test_digest_is_of_the_whole_slot_file(opened: Callable[..., Opened], folder: Path) -> None:
    one = opened()
    digest = one.checkpoint(1, b"x")
    assert digest == sha256((folder / "state.A").read_bytes()).digest()
    assert one.store.slots()[0].digest == digest


def test_slots_need_no_key_and_no_lock(filled: Opened, folder: Path) -> None:
    bare = Opened(folder, key=None)
    assert [(slot.name, slot.generation) for slot in bare.store.slots()] == [("state.B", 2), ("state.A", 1)]
    assert bare.store.slots()[0].header == b"header"
    with bare.store.lock(1):
        slot = bare.store.slots()[0]
        assert _code(lambda: bare.store.load(slot)) == "usage"
    bare.close()


def test_new_folder_has_no_slots(opened: Callable[..., Opened]) -> None:
    assert opened().store.slots() == ()


def test_checkpoint_empties_the_journal_and_keeps_both_slots(filled: Opened, opened: Callable[..., Opened]) -> None:
    filled.checkpoint(3, b"third")
    filled.append(b"d")
    other = opened()
    assert other.load() == (b"third", [b"d"])
    assert set(other.directory.names()) == {"lock", "state.A", "state.B", "journal.3"}


def test_journal_is_overwritten_in_place(filled: Opened, folder: Path) -> None:
    before = (folder / "journal.2").stat()
    filled.append(b"x" * 5000)
    after = (folder / "journal.2").stat()
    assert (before.st_ino, before.st_size, before.st_blocks) == (after.st_ino, after.st_size, after.st_blocks)
    assert before.st_size == SIZE
    assert before.st_blocks * 512 >= SIZE


def test_files_are_for_the_owner_alone(filled: Opened, folder: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_nothing_sealed_is_in_the_clear(opened: Callable[..., Opened], folder: Path) -> None:
    one = opened()
    one.checkpoint(1, b"canary in the state", b"header in the clear")
    one.append(b"canary in the journal")
    everything = b"".join(_files(folder).values())
    assert b"canary" not in everything
    assert b"header in the clear" in everything


def test_append_costs_one_write_and_one_sync(filled: Opened) -> None:
    filled.append(b"warm")
    with filled.store.lock(1):
        filled.store.refresh()
        filled.vfs.calls.clear()
        filled.store.append(b"x")
    calls = [call for call in filled.vfs.calls if call not in {"pid", "random", "unlock", "monotonic"}]
    assert calls == ["pwrite", "fdatasync"]


def test_refresh_of_an_unchanged_store_costs_three_looks(filled: Opened) -> None:
    with filled.store.lock(1):
        filled.vfs.calls.clear()
        assert filled.store.refresh() == []
        assert [call for call in filled.vfs.calls if call != "pid"] == ["pread", "identity", "pread"]


# -- sharing


def test_refresh_returns_what_others_appended_once(filled: Opened, opened: Callable[..., Opened]) -> None:
    other = opened()
    other.load()
    filled.append(b"d", b"e")
    with other.store.lock(1):
        assert other.store.refresh() == [b"d", b"e"]
        assert other.store.refresh() == []
        other.store.append(b"f")
    with filled.store.lock(1):
        assert filled.store.refresh() == [b"f"]


def test_refresh_returns_none_after_anothers_checkpoint(filled: Opened, opened: Callable[..., Opened]) -> None:
    other = opened()
    other.load()
    filled.checkpoint(3, b"third")
    filled.append(b"x")
    with other.store.lock(1):
        assert other.store.refresh() is None
        assert other.store.refresh() is None
        assert other.store.load(other.store.slots()[0]) == (b"third", [b"x"])
        assert other.store.refresh() == []


def test_refresh_returns_none_before_the_first_load_and_after_forget(filled: Opened) -> None:
    filled.store.forget()
    with filled.store.lock(1):
        assert filled.store.refresh() is None


def test_process_that_sees_others_appending_leaves_nothing_for_them_to_do(
    filled: Opened, opened: Callable[..., Opened]
) -> None:
    other = opened()
    other.load()
    other.append(b"d")
    filled.append(b"e")
    other.append(b"f")
    with filled.store.lock(1):
        filled.vfs.calls.clear()
        assert filled.store.refresh() == [b"f"]
    assert "fdatasync" not in filled.vfs.calls


# -- the order of calls


def test_calls_out_of_order_are_refused(filled: Opened, opened: Callable[..., Opened]) -> None:
    store = filled.store
    slot = store.slots()[0]
    older = store.slots()[1]
    for call in (
        lambda: store.append(b"x"),
        store.refresh,
        lambda: store.load(slot),
        lambda: store.checkpoint(3, PREV, b"", b""),
    ):
        assert _code(call) == "usage"
    with store.lock(1):
        assert _code(lambda: store.append(b"x")) == "usage"
        assert _code(lambda: store.load(slot)) == "usage"
        assert _code(lambda: store.checkpoint(3, PREV, b"", b"")) == "usage"
        store.slots()
        assert _code(lambda: store.load(older)) == "usage"
        store.load(slot)
        for generation, prev in ((2, PREV), (1, PREV), (2**64, PREV), (3, b"short")):
            assert _code(lambda g=generation, p=prev: store.checkpoint(g, p, b"", b"")) == "usage"
        with pytest.raises(UsageError), store.lock(1):
            pass
        store.append(b"d")
    fresh = opened()
    with fresh.store.lock(1):
        fresh.store.slots()
        assert _code(lambda: fresh.store.checkpoint(9, PREV, b"", b"")) == "usage"


def test_key_has_32_bytes(folder: Path) -> None:
    with Directory.open(str(folder)) as directory:
        assert _code(lambda: Store(directory, b"short")) == "usage"


def test_read_only_store_reads_and_never_writes(filled: Opened, opened: Callable[..., Opened], folder: Path) -> None:
    data = bytearray((folder / "journal.2").read_bytes())
    used = len(bytes(data).rstrip(b"\0"))
    data[used : used + 3] = b"\0\0\1"  # a torn tail that only a writer may truncate
    (folder / "journal.2").write_bytes(data)
    before = _files(folder)
    view = opened(read_only=True)
    assert view.load() == (b"second", [b"a", b"b", b"c"])
    with view.store.lock(1):
        assert view.store.refresh() == []
        assert _code(lambda: view.store.append(b"x")) == "read_only"
        assert _code(lambda: view.store.checkpoint(3, PREV, b"", b"")) == "read_only"
    assert _files(folder) == before


def test_read_only_store_needs_no_lock_file(filled: Opened, opened: Callable[..., Opened], folder: Path) -> None:
    (folder / "lock").unlink()
    assert opened(read_only=True).load()[0] == b"second"
    assert not (folder / "lock").exists()


def test_read_only_stores_share_the_lock(filled: Opened, opened: Callable[..., Opened]) -> None:
    one, two = opened(read_only=True), opened(read_only=True)
    with one.store.lock(0), two.store.lock(0):
        assert _code(lambda: filled.store.lock(0).__enter__()) == "busy"


# -- sizes


def test_largest_record_fits_and_a_larger_one_does_not(filled: Opened, opened: Callable[..., Opened]) -> None:
    largest = os.urandom(journal.BODY_LIMIT)
    assert filled.store.fits(len(largest))
    assert not filled.store.fits(len(largest) + 1)
    with filled.store.lock(1):
        filled.store.refresh()
        filled.store.append(largest)
        assert _code(lambda: filled.store.append(largest + b"x")) == "full"
        filled.store.append(b"after")
    assert opened().load()[1][-2:] == [largest, b"after"]


def test_full_journal_says_so_and_a_checkpoint_makes_room(filled: Opened, opened: Callable[..., Opened]) -> None:
    with filled.store.lock(1):
        filled.store.refresh()
        count = 0
        while filled.store.fits(1000):
            filled.store.append(bytes(1000))
            count += 1
        assert _code(lambda: filled.store.append(bytes(1000))) == "full"
        assert count > 240
    assert len(opened().load()[1]) == count + 3
    filled.checkpoint(3, b"third")
    assert filled.store.fits(1000)


def test_header_and_state_have_limits(filled: Opened) -> None:
    with filled.store.lock(1):
        filled.store.refresh()
        with pytest.raises(TallystickError) as caught:
            filled.store.checkpoint(3, PREV, bytes(store_slot.HEADER_LIMIT + 1), b"")
        assert caught.value.code == "full"
        assert _code(lambda: filled.store.checkpoint(3, PREV, b"", bytes(store_slot.BODY_LIMIT + 1))) == "full"
        filled.store.append(b"still usable")
        filled.store.checkpoint(3, PREV, bytes(store_slot.HEADER_LIMIT), bytes(1 << 20))


def test_largest_snapshot_comes_back(opened: Callable[..., Opened]) -> None:
    body = os.urandom(1 << 16) * (store_slot.BODY_LIMIT >> 16)
    opened().checkpoint(1, body)
    assert opened().load()[0] == body


# -- tampering


def _load_code(folder: Path) -> str:
    """Try to open the container and show that nothing was changed by the refusal."""
    before = _files(folder)
    one = Opened(folder)
    try:
        with pytest.raises(LockedError) as caught:
            one.load()
    finally:
        one.close()
    assert _files(folder) == before
    return caught.value.code


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_any_changed_byte_of_a_slot_is_tampering(filled: Opened, folder: Path) -> None:
    for name in ("state.A", "state.B"):
        whole = (folder / name).read_bytes()
        for at in range(len(whole)):
            _flip(folder / name, at)
            assert _load_code(folder) == "tampered", f"{name} byte {at}"
            (folder / name).write_bytes(whole)
        for cut in (0, 1, 8, len(whole) - 1):
            (folder / name).write_bytes(whole[:cut])
            assert _load_code(folder) == "tampered"
        (folder / name).write_bytes(whole + b"x")
        assert _load_code(folder) == "tampered"
        (folder / name).write_bytes(whole)


def _with_crc(data: bytes) -> bytes:
    from zlib import crc32

    return data + crc32(data).to_bytes(4, "big")


@pytest.mark.parametrize("at", [9, 20, 40, 60, 90])
def test_slot_with_a_right_crc_and_a_wrong_tag_is_tampering(filled: Opened, folder: Path, at: int) -> None:
    data = bytearray((folder / "state.B").read_bytes()[:-4])
    data[at] ^= 1
    (folder / "state.B").write_bytes(_with_crc(bytes(data)))
    assert _load_code(folder) == "tampered"


def test_slot_whose_sizes_disagree_is_tampering(filled: Opened, folder: Path) -> None:
    data = (folder / "state.B").read_bytes()[:-4]
    (folder / "state.B").write_bytes(_with_crc(data + b"x"))
    assert _load_code(folder) == "tampered"


def test_slot_larger_than_any_is_tampering(filled: Opened, folder: Path) -> None:
    with (folder / "state.B").open("r+b") as file:
        file.truncate(1 << 25)
    assert _load_code(folder) == "tampered"


def test_slot_of_a_newer_format_says_so(filled: Opened, folder: Path) -> None:
    data = bytearray((folder / "state.B").read_bytes()[:-4])
    data[4] = 2
    (folder / "state.B").write_bytes(_with_crc(bytes(data)))
    one = Opened(folder)
    assert _code(one.store.slots) == "unsupported_version"
    one.close()


def test_damaged_slot_can_be_left_out_of_a_view(filled: Opened, folder: Path) -> None:
    _flip(folder / "state.B", 30)
    one = Opened(folder, key=None)
    with one.store.lock(1):
        assert [slot.name for slot in one.store.slots(skip_damaged=True)] == ["state.A"]
    _flip(folder / "state.A", 30)
    assert one.store.slots(skip_damaged=True) == ()
    one.close()


def test_two_slots_of_one_generation_are_tampering(filled: Opened, folder: Path) -> None:
    shutil.copy(folder / "state.B", folder / "state.A")
    assert _load_code(folder) == "tampered"


def test_wrong_key_is_refused(filled: Opened, folder: Path) -> None:
    one = Opened(folder, key=bytes(32))
    assert _code(one.load) == "tampered"
    one.close()


def test_removed_newer_slot_is_a_rollback(filled: Opened, folder: Path) -> None:
    (folder / "state.B").unlink()
    assert _load_code(folder) == "rolled_back"


def test_removed_newer_slot_is_a_rollback_even_with_the_older_journal(filled: Opened, folder: Path) -> None:
    old = {name: (folder / name).read_bytes() for name in ("state.B", "journal.2")}
    filled.checkpoint(3, b"third")
    filled.append(b"d")
    for name, data in old.items():
        (folder / name).write_bytes(data)
    (folder / "state.A").unlink()
    assert _load_code(folder) == "rolled_back"


def test_removed_journal_is_a_rollback(filled: Opened, folder: Path) -> None:
    (folder / "journal.2").unlink()
    assert _load_code(folder) == "rolled_back"


def test_removed_slots_with_a_journal_in_use_are_a_rollback(filled: Opened, folder: Path) -> None:
    (folder / "state.A").unlink()
    (folder / "state.B").unlink()
    one = Opened(folder)
    assert _code(one.store.slots) == "rolled_back"
    one.close()


def test_journal_of_an_interrupted_creation_is_no_obstacle(opened: Callable[..., Opened], folder: Path) -> None:
    (folder / "journal.1").write_bytes(bytes(1000))
    (folder / "journal.x").write_bytes(b"not ours")
    one = opened()
    assert one.store.slots() == ()
    one.checkpoint(1, b"first")
    one.append(b"a")
    assert opened().load() == (b"first", [b"a"])
    assert (folder / "journal.x").read_bytes() == b"not ours"


@pytest.mark.parametrize("size", [0, 100, SIZE - 1, SIZE + 1])
def test_journal_of_another_size_is_tampering(filled: Opened, folder: Path, size: int) -> None:
    os.truncate(folder / "journal.2", size)
    assert _load_code(folder) == "tampered"


def test_journal_of_another_container_is_tampering(filled: Opened, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    one = Opened(other)
    one.checkpoint(2, b"elsewhere")
    one.append(b"a")
    one.close()
    shutil.copy(other / "journal.2", folder / "journal.2")
    assert _load_code(folder) == "tampered"


def test_leftover_journals_are_removed_at_load(filled: Opened, opened: Callable[..., Opened], folder: Path) -> None:
    (folder / "journal.1").write_bytes(b"old")
    (folder / "journal.3").write_bytes(bytes(500))
    opened().load()
    assert not (folder / "journal.1").exists()
    assert not (folder / "journal.3").exists()


def test_torn_tail_is_truncated_and_written_over(filled: Opened, opened: Callable[..., Opened], folder: Path) -> None:
    path = folder / "journal.2"
    used = len(path.read_bytes().rstrip(b"\0"))
    with path.open("r+b") as file:
        file.seek(used + 700)
        file.write(b"torn" * 100)
    one = opened()
    assert one.load()[1] == [b"a", b"b", b"c"]
    assert len(path.read_bytes().rstrip(b"\0")) == used
    one.append(b"d")
    assert opened().load()[1] == [b"a", b"b", b"c", b"d"]


def test_torn_tail_of_another_process_is_truncated_at_refresh(filled: Opened, folder: Path) -> None:
    path = folder / "journal.2"
    used = len(path.read_bytes().rstrip(b"\0"))
    with path.open("r+b") as file:
        file.seek(used)
        file.write(b"\0\0\1\0torn")
    with filled.store.lock(1):
        assert filled.store.refresh() == []
        filled.store.append(b"d")
    assert path.read_bytes()[used : used + 4] != b"\0\0\1\0"


# -- failures


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_failed_append_poisons_the_store_until_it_is_opened_again(
    filled: Opened, opened: Callable[..., Opened], call: str, code: int
) -> None:
    filled.append(b"warm")
    with filled.store.lock(1):
        filled.store.refresh()
        filled.vfs.failing = {call: code}
        assert _code(lambda: filled.store.append(b"lost")) == ("io_error" if code == errno.EIO else "no_space")
        filled.vfs.failing = {}
    slot = opened().store.slots()[0]
    with filled.store.lock(1):
        for again in (
            lambda: filled.store.append(b"x"),
            filled.store.refresh,
            filled.store.slots,
            lambda: filled.store.load(slot),
            lambda: filled.store.checkpoint(3, PREV, b"", b""),
        ):
            with pytest.raises(StorageError, match="opened again") as caught:
                again()
            assert caught.value.code == "io_error"
    other = opened()
    assert other.load()[1][:4] == [b"a", b"b", b"c", b"warm"]
    other.append(b"on")
    assert opened().load()[1][-1] == b"on"


@pytest.mark.parametrize(
    ("call", "code", "poisoned"),
    [
        ("preallocate", errno.ENOSPC, False),
        ("preallocate", errno.EDQUOT, False),
        ("preallocate", errno.EIO, True),
        ("fsync", errno.ENOSPC, False),
        ("fsync", errno.EIO, True),
        ("open", errno.EROFS, False),
        ("rename", errno.EIO, True),
        ("rename", errno.EXDEV, True),
        ("rename", errno.ENOSPC, True),
        ("fsync_dir", errno.EIO, True),
        ("pwrite", errno.ENOSPC, False),
        ("pwrite", errno.EIO, True),
    ],
)
def test_failed_checkpoint_keeps_everything(
    filled: Opened, opened: Callable[..., Opened], call: str, code: int, poisoned: bool
) -> None:
    with filled.store.lock(1):
        filled.store.refresh()
        filled.vfs.failing = {call: code}
        with pytest.raises(StorageError):
            filled.store.checkpoint(3, PREV, b"", b"third")
        filled.vfs.failing = {}
    with filled.store.lock(1):
        if poisoned:
            assert _code(filled.store.refresh) == "io_error"
        else:
            if filled.store.refresh() is None:
                filled.store.load(filled.store.slots()[0])
            filled.store.append(b"d")
    expected = [b"a", b"b", b"c"] + [b"d"] * (not poisoned)
    assert opened().load() == (b"second", expected)


def test_errors_of_looking_are_typed_and_do_not_poison(filled: Opened, opened: Callable[..., Opened]) -> None:
    for call in ("pread", "identity"):
        with filled.store.lock(1):
            filled.vfs.failing = {call: errno.EIO}
            assert _code(filled.store.refresh) == "io_error"
            filled.vfs.failing = {}
            assert filled.store.refresh() is None or call == "pread"
            filled.store.load(filled.store.slots()[0])
            filled.store.append(call.encode())
    other = opened()
    for call in ("pread", "fstat", "listdir", "identity"):
        other.vfs.failing = {call: errno.EIO}
        assert _code(other.load) == "io_error"
        other.vfs.failing = {}
    assert other.load()[1] == [b"a", b"b", b"c", b"pread", b"identity"]


def test_missing_slot_is_noticed_at_refresh(filled: Opened, folder: Path) -> None:
    (folder / "state.A").unlink()
    with filled.store.lock(1):
        assert filled.store.refresh() is None


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_record_that_cannot_be_made_durable_is_not_handed_out(
    filled: Opened, opened: Callable[..., Opened], call: str
) -> None:
    other = opened()
    other.vfs.failing = {call: errno.EIO}  # the mark says that the last record may not be durable
    assert _code(other.load) == "io_error"
    assert opened().load()[1] == [b"a", b"b", b"c"]


def _mark(folder: Path, mark: int) -> None:
    (folder / "lock").write_bytes(bytes([mark]))


@pytest.mark.parametrize("mark", [REPLACING, 77])
def test_interrupted_replacement_is_published_again(
    filled: Opened, opened: Callable[..., Opened], folder: Path, mark: int
) -> None:
    _mark(folder, mark)
    before = (folder / "state.B").stat().st_ino
    with filled.store.lock(1):
        assert filled.store.refresh() is None
        assert filled.store.load(filled.store.slots()[0]) == (b"second", [b"a", b"b", b"c"])
    assert (folder / "state.B").stat().st_ino != before
    assert (folder / "lock").read_bytes() == bytes([SETTLED])


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ({"fsync": errno.ENOSPC}, None),
        ({"fsync": errno.ENOSPC, "fsync_dir": errno.EIO}, "io_error"),
        ({"fsync": errno.EIO}, "io_error"),
        ({"fsync": errno.EROFS}, "no_permission"),
        ({"fsync_dir": errno.EIO}, "io_error"),
        ({"rename": errno.EIO}, "io_error"),
    ],
)
def test_publishing_again_needs_no_space_but_must_succeed(
    filled: Opened, opened: Callable[..., Opened], folder: Path, failing: dict[str, int], expected: str | None
) -> None:
    _mark(folder, REPLACING)
    other = opened()
    other.vfs.failing = failing
    if expected is None:
        assert other.load()[0] == b"second"
    else:
        assert _code(other.load) == expected
        assert (folder / "lock").read_bytes() == bytes([REPLACING])
        assert opened().load() == (b"second", [b"a", b"b", b"c"])


def test_mark_that_cannot_be_written_stops_before_anything_changes(filled: Opened, folder: Path) -> None:
    before = _files(folder)
    for code, expected, then in ((errno.ENOSPC, "no_space", None), (errno.EIO, "io_error", "io_error")):
        with filled.store.lock(1):
            filled.store.refresh()
            filled.vfs.failing = {"pwrite": code}
            assert _code(lambda: filled.store.checkpoint(3, PREV, b"", b"third")) == expected
            filled.vfs.failing = {}
            if then is None:
                assert filled.store.refresh() == []
            else:
                assert _code(filled.store.refresh) == then
    assert _files(folder) == before


def test_mark_that_cannot_be_cleared_costs_only_another_look(filled: Opened, folder: Path) -> None:
    real = filled.vfs.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if data == bytes([SETTLED]):
            raise OSError(errno.EIO, "x")
        return real(fd, data, offset)

    filled.vfs.pwrite = pwrite  # type: ignore[method-assign]
    filled.checkpoint(3, b"third")
    assert (folder / "lock").read_bytes() == bytes([REPLACING])
    with filled.store.lock(1):
        assert filled.store.refresh() is None


def test_append_leaves_its_mark_for_whoever_comes_next(filled: Opened, folder: Path) -> None:
    assert (folder / "lock").read_bytes() == bytes([APPENDING])


def test_interruption_of_a_checkpoint_leaves_no_open_files(filled: Opened, opened: Callable[..., Opened]) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with filled.store.lock(1):
        filled.store.refresh()

        def stage(*_: object) -> None:
            raise KeyboardInterrupt

        real = filled.vfs.rename
        filled.vfs.rename = stage  # type: ignore[method-assign, assignment]
        with pytest.raises(KeyboardInterrupt):
            filled.store.checkpoint(3, PREV, b"", b"third")
        filled.vfs.rename = real  # type: ignore[method-assign]
        assert filled.store.refresh() is None
        assert filled.store.load(filled.store.slots()[0]) == (b"second", [b"a", b"b", b"c"])
        filled.store.append(b"d")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_removed_folder_is_reported(filled: Opened, folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(TallystickError) as caught, filled.store.lock(1):
        pass
    assert caught.value.code == "container_not_found"


# -- planted objects


def _plants() -> list[Callable[[Path, Path], object]]:
    return [
        lambda path, target: path.symlink_to(target),
        lambda path, target: path.symlink_to(target.parent / "not there"),
        lambda path, target: path.hardlink_to(target),
        lambda path, target: os.mkfifo(path),
        lambda path, target: path.mkdir(),
    ]


@pytest.mark.parametrize("plant", _plants(), ids=["symlink", "dangling", "hardlink", "fifo", "folder"])
@pytest.mark.parametrize("name", ["lock", "state.A", "state.B", "journal.2", "journal.3"])
def test_planted_object_at_every_name_is_refused_and_left_alone(
    filled: Opened, opened: Callable[..., Opened], folder: Path, name: str, plant: Callable[[Path, Path], object]
) -> None:
    target = folder.parent / "precious"
    target.write_bytes(b"precious")
    (folder / name).unlink(missing_ok=True)
    plant(folder / name, target)
    one = opened()

    def use() -> None:
        one.load()
        one.checkpoint(3, b"third")

    assert _code(use) == "unsafe_path"
    assert target.read_bytes() == b"precious"
    assert not (folder.parent / "not there").exists()
    assert (folder / name).lstat()


@pytest.mark.parametrize("plant", _plants(), ids=["symlink", "dangling", "hardlink", "fifo", "folder"])
@pytest.mark.parametrize("name", ["lock", "state.A", "journal.1"])
def test_object_planted_before_creation_is_refused_and_left_alone(
    opened: Callable[..., Opened], folder: Path, name: str, plant: Callable[[Path, Path], object]
) -> None:
    target = folder.parent / "precious"
    target.write_bytes(b"precious")
    plant(folder / name, target)
    assert _code(lambda: opened().checkpoint(1, b"first")) == "unsafe_path"
    assert target.read_bytes() == b"precious"
    assert not (folder.parent / "not there").exists()


def test_object_planted_between_look_and_creation_is_refused(filled: Opened, folder: Path) -> None:
    real = filled.vfs.open

    def plant_first(name: str, flags: int, dir_fd: int | None = None) -> int:
        if name == "journal.3" and flags & os.O_EXCL:
            (folder / name).symlink_to("/etc/passwd")
        return real(name, flags, dir_fd)

    filled.vfs.open = plant_first  # type: ignore[method-assign]
    assert _code(lambda: filled.checkpoint(3, b"third")) == "unsafe_path"


# -- anchored containers


def test_anchored_store_keeps_no_journal_and_lets_its_anchor_choose(
    opened: Callable[..., Opened], folder: Path
) -> None:
    one = opened(journal=False)
    one.checkpoint(5, b"five")
    one.checkpoint(6, b"six")
    with one.store.lock(1):
        assert not one.store.fits(1)
        one.store.refresh()
        assert _code(lambda: one.store.append(b"x")) == "usage"
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "state.A", "state.B"]
    other = opened(journal=False)
    with other.store.lock(1):
        newer, older = other.store.slots()
        assert (newer.generation, older.generation) == (6, 5)
        assert other.store.load(older) == (b"five", [])
        other.store.checkpoint(6, PREV, b"", b"another six")
        names = {slot.generation: slot.name for slot in other.store.slots()}
    assert names == {5: older.name, 6: newer.name}
    with one.store.lock(1):
        assert one.store.refresh() is None
        assert one.store.load(one.store.slots()[0]) == (b"another six", [])
