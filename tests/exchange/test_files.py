# SPDX-License-Identifier: Apache-2.0
"""Reading and writing: every form of a message, every way a file can be wrong, nothing replaced by accident."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from made import Device, Vendor, kinds_of
from tallystick.codec import armor, cbor, kinds
from tallystick.container.view import REPAIR_TYPE
from tallystick.errors import FormatError, StorageError, TallystickError, UsageError
from tallystick.exchange import files, forms
from tallystick.exchange.trusts import read_trust


@pytest.fixture(scope="module")
def request_message() -> bytes:
    device = Device()
    return device.request().sign(device.identity)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def armored(message: bytes) -> str:
    return armor.to_text(message, kinds.REQUEST)


# ----------------------------------------------------------------------------------------------------------- reading


def test_a_binary_file_is_read_as_it_is(tmp_path: Path, request_message: bytes) -> None:
    (tmp_path / "anything.txt").write_bytes(request_message)
    assert files.read_message(str(tmp_path / "anything.txt")) == request_message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: ("Hello,\n\n> " + text.replace("\n", "\n> ") + "\nRegards").encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: "Grüße\n".encode("latin-1") + text.encode(),
    ],
    ids=["plain", "crlf", "quoted in a mail", "with a BOM", "UTF-16", "Latin-1 around it"],
)
def test_a_text_block_is_found_in_any_text(tmp_path: Path, request_message: bytes, wrap: object) -> None:
    (tmp_path / "mail").write_bytes(wrap(armored(request_message)))  # type: ignore[operator]
    assert files.read_message(str(tmp_path / "mail")) == request_message


def test_a_scanned_qr_text_is_read(tmp_path: Path, request_message: bytes) -> None:
    text = armor.QR_PREFIX + armor.to_base45(request_message)
    (tmp_path / "scan").write_text(f"\n{text}\n")
    assert files.read_message(str(tmp_path / "scan")) == request_message
    assert files.read_message(text) == request_message


def test_pasted_text_is_no_file_name(request_message: bytes) -> None:
    assert files.read_message(armored(request_message)) == request_message


def test_standard_input_is_read(request_message: bytes) -> None:
    assert files.read_message("-", io.BytesIO(request_message)) == request_message
    assert files.read_message("-", io.BytesIO(armored(request_message).encode())) == request_message


def test_standard_input_that_is_not_there_is_said(request_message: bytes) -> None:
    with pytest.raises(UsageError):
        files.read_message("-")


def test_a_named_pipe_is_read(tmp_path: Path, request_message: bytes) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(request_message))
    writer.start()
    assert files.read_message(str(pipe)) == request_message
    writer.join()


def test_what_is_pasted_at_a_terminal_ends_with_its_last_line(request_message: bytes) -> None:
    def lines() -> Iterator[str]:
        yield "some words\n"
        yield from armored(request_message).splitlines(keepends=True)
        raise AssertionError("read on after the end")

    assert files.read_pasted(lines()) == request_message
    qr = armor.QR_PREFIX + armor.to_base45(request_message) + "\n"
    assert files.read_pasted(iter([qr, "never read\n"])) == request_message


@pytest.mark.parametrize(("lines", "code"), [([], "malformed"), (["x" * 1000] * 3, "too_large")])
def test_a_paste_without_a_message_is_refused(lines: list[str], code: str) -> None:
    with pytest.raises(FormatError) as refusal:
        files.read_pasted(iter(lines), limit=2000)
    assert refusal.value.code == code


def test_a_damaged_paste_is_refused(request_message: bytes) -> None:
    text = armored(request_message)
    for damaged in (text.replace("0o", "0p", 1), text.rsplit("\n", 2)[0], text.replace("-----BEGIN", "---BEGIN")):
        with pytest.raises(FormatError) as refusal:
            files.unwrapped(damaged.encode())
        assert refusal.value.code == "armor_damaged"
        assert refusal.value.remedy


def test_a_missing_file_a_folder_and_an_impossible_name_are_refused(tmp_path: Path) -> None:
    for source in (str(tmp_path / "none"), str(tmp_path), "a\0b", str(tmp_path / "none" / "deeper")):
        with pytest.raises(UsageError) as refusal:
            files.read_message(source)
        assert refusal.value.code == "file_not_found"
        assert refusal.value.remedy


@pytest.mark.parametrize("contents", [b"", b" \n\t\n"])
def test_an_empty_file_is_refused(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "empty").write_bytes(contents)
    with pytest.raises(FormatError, match="is empty"):
        files.read_message(str(tmp_path / "empty"))


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError) as refusal:
        files.read_message(str(tmp_path / "large"))
    assert refusal.value.code == "too_large"


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(FormatError) as refusal:
        files.read_message("/dev/zero")
    assert refusal.value.code == "too_large"
    with pytest.raises(FormatError) as refusal:
        files.read_message("-", io.BytesIO(bytes(files.MAX_INPUT + 1)))
    assert refusal.value.code == "too_large"


@pytest.mark.parametrize(
    ("number", "cls", "code"), [(errno.EACCES, StorageError, "no_permission"), (errno.EIO, StorageError, "io_error")]
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, cls: type[TallystickError], code: str
) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(cls) as refusal:
        files.read_message(str(tmp_path / "file"))
    assert (refusal.value.code, bool(refusal.value.remedy)) == (code, True)


# ----------------------------------------------------------------------------------------------------------- writing


def test_a_file_is_written_for_its_owner_only(tmp_path: Path) -> None:
    files.write_file(str(tmp_path / "made"), b"data")
    assert (tmp_path / "made").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600
    assert names(tmp_path) == ["made"]


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"old")
    with pytest.raises(UsageError) as refusal:
        files.write_file(str(made), b"new")
    assert refusal.value.code == "file_exists"
    assert made.read_bytes() == b"old"
    files.write_file(str(made), b"new", force=True)
    assert made.read_bytes() == b"new"
    assert names(tmp_path) == ["made"]


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        files.write_file(str(tmp_path / "link"), b"data")
    assert not (tmp_path / "elsewhere").exists()


def test_a_name_taken_in_the_last_moment_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"
    monkeypatch.setattr(files, "check_target", lambda path, force: made.write_bytes(b"theirs"))
    with pytest.raises(UsageError) as refusal:
        files.write_file(str(made), b"ours")
    assert refusal.value.code == "file_exists"
    assert made.read_bytes() == b"theirs"
    assert names(tmp_path) == ["made"]


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    files.write_file(str(tmp_path / "made"), b"data")
    assert (tmp_path / "made").read_bytes() == b"data"
    monkeypatch.setattr(files, "check_target", lambda path, force: None)
    with pytest.raises(UsageError):
        files.write_file(str(tmp_path / "made"), b"other")
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "no_space"), (errno.EROFS, "no_permission"), (errno.EIO, "io_error")]
)
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as refusal:
        files.write_file(str(tmp_path / "made"), b"data")
    assert refusal.value.code == code
    assert names(tmp_path) == []


def test_a_missing_folder_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        files.check_target(str(tmp_path / "none" / "made"))
    assert refusal.value.code == "file_not_found"
    files.check_target(str(tmp_path))
    files.check_target(None)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # nobody: for root every folder is writable
            else:
                with pytest.raises(StorageError) as refusal:
                    files.check_target(folder)
                assert refusal.value.code == "no_permission"
            with pytest.raises(StorageError) as refusal:
                files.write_file(f"{folder}/made", b"data")
        finally:
            os.seteuid(user)
        assert refusal.value.code == "no_permission"
        assert "--output" in refusal.value.remedy


# ------------------------------------------------------------------------------------------------------------- forms


def test_a_message_gets_a_name_from_container_id_and_extension(tmp_path: Path) -> None:
    vendor, device = Vendor(), Device()
    extensions = {"request": ".tallyreq", "update": ".tallyupd", "receipt": ".tallyrct", "refusal": ".tallyrct"}
    names = {case.kind.name: forms.default_name(case.message) for case in kinds_of(vendor, device)}
    for name, extension in extensions.items():
        assert names[name].startswith("TS-")
        assert names[name].endswith(extension)
    assert len({names[name][:20] for name in extensions}) == 1, "all of one container"
    assert names["key set"].endswith(".tally")


def repair() -> bytes:
    return cbor.encode(
        {
            "type": REPAIR_TYPE,
            "signed": False,
            "container": bytes(32),
            "reason": "binding_lost",
            "message": "m",
            "created_at": 1,
            "licenses": [],
            "findings": {},
        }
    )


def test_a_repair_request_gets_a_name_and_a_text(tmp_path: Path) -> None:
    where = forms.write_message(repair(), str(tmp_path))
    assert where.endswith(".tallyrepair")
    assert Path(where).read_bytes() == repair()
    text = forms.as_text(repair())
    assert text.startswith("-----BEGIN TALLYSTICK REPAIR REQUEST-----\n")
    assert files.read_message(f"Hello,\n\n{text}\n-- \nM. M\n") == repair()


def test_what_is_for_machines_only_has_no_text() -> None:
    trust = Vendor().trust.to_text().encode()
    with pytest.raises(TallystickError) as refusal:
        forms.as_text(trust)
    assert refusal.value.code == "not_supported"


def test_the_three_forms_of_a_message(tmp_path: Path, request_message: bytes) -> None:
    binary = forms.write_message(request_message, str(tmp_path / "a"))
    text = forms.write_message(request_message, str(tmp_path / "b"), forms.TEXT)
    picture = forms.write_message(request_message, str(tmp_path), forms.QR)
    assert files.read_message(binary) == request_message == files.read_message(text)
    assert Path(text).read_text(encoding="ascii") == armored(request_message)
    assert picture.endswith(".png")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_a_message_too_large_for_a_qr_code_is_refused(tmp_path: Path) -> None:
    vendor, device = Vendor(), Device()
    update = vendor.update(device, note="x" * 1024, licenses=(vendor.sign_license(vendor.license(device)),) * 6)
    with pytest.raises(FormatError) as refusal:
        forms.write_message(update.sign(vendor.keys["license"]), str(tmp_path), forms.QR)
    assert refusal.value.code == "qr_too_large"
    assert names(tmp_path) == []


# ------------------------------------------------------------------------------------------------------------- trust


def test_a_trust_text_is_read_as_it_is_or_from_a_file(tmp_path: Path) -> None:
    trust = Vendor().trust
    (tmp_path / "acme.trust").write_text(trust.to_text() + "\n")
    (tmp_path / "bom.trust").write_bytes(b"\xef\xbb\xbf" + trust.to_text().encode() + b"\r\n")
    path = str(tmp_path / "acme.trust")
    for source in (trust.to_text(), f" {trust.to_text()}\n", path, f"@{path}", str(tmp_path / "bom.trust")):
        assert read_trust(source) == trust
    assert read_trust("-", io.BytesIO(trust.to_text().encode())) == trust


def test_a_file_that_is_no_trust_text_is_named(tmp_path: Path, request_message: bytes) -> None:
    (tmp_path / "request").write_bytes(request_message)
    with pytest.raises(FormatError, match="a request; a vendor's trust text is needed") as refusal:
        read_trust(str(tmp_path / "request"))
    assert "tallytrust" in refusal.value.remedy
    with pytest.raises(UsageError) as wrong:
        read_trust(str(tmp_path / "none"))
    assert wrong.value.code == "file_not_found"
    with pytest.raises(UsageError, match="damaged"):
        read_trust("tallytrust:acme:AAAA")
