# SPDX-License-Identifier: Apache-2.0
"""URIs of file containers: what each form means, and that nothing misspelled is silently accepted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tallystick.backends.file_uri import FileUri, data_folder, parse_file_uri, read_identity
from tallystick.errors import BackendError, UsageError


def data() -> str:
    return "/data"


@pytest.mark.parametrize(
    ("uri", "path", "name"),
    [
        ("file:", "/data/default", "default"),
        ("FILE:", "/data/default", "default"),
        ("file:studio-2.1_a", "/data/studio-2.1_a", "studio-2.1_a"),
        ("file:/opt/licenses", "/opt/licenses", ""),
        ("file:///opt/licenses", "/opt/licenses", ""),
        ("file://localhost/opt/licenses", "/opt/licenses", ""),
        ("file:./here", "./here", ""),
        ("file:../there", "../there", ""),
        ("file:.", ".", ""),
        ("file:..", "..", ""),
        ("file:/opt/a%20b%3Fc%23d%25", "/opt/a b?c#d%", ""),
        ("file:/opt/a b/ümlaut", "/opt/a b/ümlaut", ""),
        ("file:/opt/%C3%BC", "/opt/ü", ""),
    ],
)
def test_what_a_uri_means(uri: str, path: str, name: str) -> None:
    assert parse_file_uri(uri, data) == FileUri(path, name, None)


@pytest.mark.parametrize(
    ("uri", "identity"),
    [
        ("file:?identity-file=/run/secrets/id", "/run/secrets/id"),
        ("file:./c?identity-file=id%26co", "id&co"),
        ("file:/c?identity-file=a=b", "a=b"),
    ],
)
def test_the_identity_file(uri: str, identity: str) -> None:
    assert parse_file_uri(uri, data).identity_file == identity


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("", "does not begin with `file:`"),
        ("default", "does not begin with `file:`"),
        ("tpm:", "does not begin with `file:`"),
        ("file:/c?", "unknown parameter ''"),
        ("file:/c?tolerance=loose", "unknown parameter 'tolerance'"),
        ("file:/c?identity_file=/x", "unknown parameter 'identity_file'"),
        ("file:/c?identity-file=/x&identity-file=/x", "'identity-file' is given twice"),
        ("file:/c?identity-file=/x&path=/d", "unknown parameter 'path'"),
        ("file:/c?identity-file=", "'identity-file' has no value"),
        ("file:/c?identity-file", "'identity-file' has no value"),
        ("file:/c?identity-file=%zz", "two hexadecimal digits"),
        ("file:/c#part", "fragment"),
        ("file://server/share", "not on 'server'"),
        ("file://server", "not on 'server'"),
        ("file://", "not on ''"),
        ("file:~/licenses", "neither a name nor a path"),
        ("file:a/b", "neither a name nor a path"),
        ("file:.hidden", "neither a name nor a path"),
        ("file:...", "neither a name nor a path"),
        ("file:" + "x" * 65, "neither a name nor a path"),
        ("file:na me", "neither a name nor a path"),
        ("file:/c%", "two hexadecimal digits"),
        ("file:/c%00", "control character"),
        ("file:/c\n", "control character"),
        ("file:/c%ff", "not UTF-8"),
    ],
)
def test_what_is_refused_is_named(uri: str, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_file_uri(uri, data)
    assert refused.value.code == "bad_uri"
    assert named in refused.value.message


def test_a_drive_letter_is_a_path_on_windows_only() -> None:
    with pytest.raises(UsageError):
        parse_file_uri("file:C:/licenses", data, has_drives=False)
    for uri in ("file:C:/licenses", "file:///C:/licenses"):
        assert parse_file_uri(uri, data, has_drives=True).path == "C:/licenses"


def test_containers_by_name_live_in_the_users_data_folder() -> None:
    folder = data_folder()
    assert Path(folder).is_absolute()
    assert "tallystick" in folder
    assert parse_file_uri("file:studio").path == str(Path(folder, "studio"))


def test_a_path_never_asks_for_the_data_folder() -> None:
    def refuse() -> str:
        raise AssertionError("asked")

    assert parse_file_uri("file:/c", refuse).path == "/c"


# ------------------------------------------------------------------------------------------------------------ identity


def test_an_identity_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    file = tmp_path / "id"
    for text in (b"node-7", b"node-7\n", b"\tnode-7\r\n"):
        file.write_bytes(text)
        assert read_identity(str(file)) == b"node-7"
    file.write_bytes(bytes(range(1, 9)) * 512)
    assert len(read_identity(str(file))) == 4096


@pytest.mark.parametrize(("content", "named"), [(b"", "is empty"), (b" \n", "is empty"), (b"x" * 4097, "is too large")])
def test_a_useless_identity_file_is_refused(tmp_path: Path, content: bytes, named: str) -> None:
    file = tmp_path / "id"
    file.write_bytes(content)
    with pytest.raises(BackendError, match=named) as refused:
        read_identity(str(file))
    assert refused.value.code == "identity_missing"


def test_an_identity_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(BackendError, match=reason) as refused:
            read_identity(str(path))
        assert refused.value.details["path"] == str(path)
    with pytest.raises(BackendError, match="not a file name"):
        read_identity("a\0b")


def test_a_pipe_in_place_of_the_identity_file_does_not_stop_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BackendError, match="is empty"):
        read_identity(str(tmp_path / "pipe"))
