# SPDX-License-Identifier: Apache-2.0
"""``tpm:`` URIs: what they say, what is refused by name, and that no secret stands in one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.backends.tpm.uri import DEFAULT_NAME, DEFAULT_TCTI, TCTIS, TpmUri, parse_tpm_uri, read_secret
from tallystick.errors import TallystickError


def refused(uri: str) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        parse_tpm_uri(uri)
    assert caught.value.code == "bad_uri"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("tpm:", TpmUri(DEFAULT_NAME, "", DEFAULT_TCTI, "", "")),
        ("tpm:name=a", TpmUri(name="a")),
        (f"tpm:name={'a' * 64}", TpmUri(name="a" * 64)),
        ("tpm:name=7.b_c-D", TpmUri(name="7.b_c-D")),
        ("tpm:path=/srv/c", TpmUri(name="", path="/srv/c")),
        ("tpm:path=/srv/with%20a%3Bsemicolon%3f%25", TpmUri(name="", path="/srv/with a;semicolon?%")),
        ("tpm:path=/srv/a=b", TpmUri(name="", path="/srv/a=b")),
        ("tpm:path=/srv/%C3%BC", TpmUri(name="", path="/srv/ü")),
        ("tpm:path=/srv/ü", TpmUri(name="", path="/srv/ü")),
        ("tpm:tcti=device:/dev/tpm0", TpmUri(tcti="device:/dev/tpm0")),
        ("tpm:tcti=device", TpmUri(tcti="device")),
        ("tpm:tcti=abrmd", TpmUri(tcti="abrmd")),
        ("tpm:tcti=swtpm:path=/run/s.sock", TpmUri(tcti="swtpm:path=/run/s.sock")),
        ("tpm:tcti=swtpm:host=127.0.0.1,port=2321", TpmUri(tcti="swtpm:host=127.0.0.1,port=2321")),
        ("tpm:tcti=abrmd;name=b", TpmUri(name="b", tcti="abrmd")),
        ("tpm:?auth-source=file:/s", TpmUri(auth_file="/s")),
        ("tpm:?auth-source=file:relative", TpmUri(auth_file="relative")),
        ("tpm:?owner-auth-source=file:/o&auth-source=file:/a%26b", TpmUri(auth_file="/a&b", owner_file="/o")),
        ("tpm:name=a;tcti=abrmd?auth-source=file:/s", TpmUri(name="a", tcti="abrmd", auth_file="/s")),
    ],
)
def test_what_a_uri_says(uri: str, says: TpmUri) -> None:
    assert parse_tpm_uri(uri) == says


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("tpm:a", "unknown 'a'"),
        ("tpm:default", "unknown 'default'"),
        ("tpm:/srv/c", "unknown '/srv/c'"),
        ("tpm:nmae=a", "unknown 'nmae'"),
        ("tpm:NAME=a", "unknown 'NAME'"),
        ("tpm:name=a;pcr=7", "unknown 'pcr'"),
        ("tpm:name=a;", "unknown ''"),
        ("tpm:;name=a", "unknown ''"),
        ("tpm:?", "unknown ''"),
        ("tpm:?name=a", "unknown 'name'"),
        ("tpm:?identity-file=/x", "unknown 'identity-file'"),
        ("tpm:auth-source=file:/s", "unknown 'auth-source'"),
        ("tpm:?auth-source=file:/s&", "unknown ''"),
        ("tpm:?auth-source=file:/s;name=a&x", "unknown 'x'"),
        ("tpm:name=a;name=a", "'name' is given twice"),
        ("tpm:tcti=abrmd;tcti=device", "'tcti' is given twice"),
        ("tpm:?auth-source=file:/a&auth-source=file:/b", "'auth-source' is given twice"),
        ("tpm:name", "'name' has no value"),
        ("tpm:name=", "'name' has no value"),
        ("tpm:tcti=", "'tcti' has no value"),
        ("tpm:?auth-source", "'auth-source' has no value"),
        ("tpm:name=a;path=/b", "not both"),
        ("tpm:path=relative", "must be absolute"),
        ("tpm:path=./c", "must be absolute"),
        ("tpm:path=~/c", "must be absolute"),
        ("tpm:name=../../etc", "is no name"),
        ("tpm:name=a/b", "is no name"),
        ("tpm:name=a%2Fb", "is no name"),
        ("tpm:name=.hidden", "is no name"),
        (f"tpm:name={'a' * 65}", "is no name"),
        ("tpm:name=ü", "is no name"),
        ("tpm:name=a b", "is no name"),
        ("tpm:name=a%", "two hexadecimal digits"),
        ("tpm:path=/a%2", "two hexadecimal digits"),
        ("tpm:path=/a%zz", "two hexadecimal digits"),
        ("tpm:path=/a%ff", "not UTF-8"),
        ("tpm:path=/a%00b", "control character"),
        ("tpm:path=/a%0ab", "control character"),
        ("tpm:path=/a\nb", "control character"),
        ("tpm:name=a#b", "fragment"),
        ("tpm:#", "fragment"),
        ("tpm:tcti=mssim", "'mssim' is no way to a TPM"),
        ("tpm:tcti=cmd:rm", "'cmd' is no way to a TPM"),
        ("tpm:tcti=/tmp/evil.so", "'/tmp/evil.so' is no way to a TPM"),
        ("tpm:tcti=libtss2-tcti-evil.so", "is no way to a TPM"),
        ("tpm:tcti=Device:/dev/tpm0", "'Device' is no way to a TPM"),
    ],
)
def test_what_is_refused_is_named(uri: str, why: str) -> None:
    assert why in refused(uri).message


@pytest.mark.parametrize("which", ["auth-source", "owner-auth-source"])
@pytest.mark.parametrize("value", ["hunter2", "env:SECRET", "File:/s", "file:", "file", "hex:00ff", "/s"])
def test_a_secret_itself_is_refused(which: str, value: str) -> None:
    refusal = refused(f"tpm:?{which}={value}")
    assert "a secret does not belong into a URI" in refusal.message
    assert f"{which}=file:PATH" in refusal.message


@pytest.mark.parametrize(
    "uri",
    [
        "tpm:?auth-source=hunter2",
        "tpm:?pin=hunter2",
        "tpm:?auth-source=file:hunter2%",
        "tpm:nmae=a?auth-source=hunter2",
        "tpm:name=a#b?auth-source=hunter2",
        "tpm:tcti=mssim?auth-source=file:hunter2",
    ],
)
def test_a_refusal_shows_no_secret(uri: str) -> None:
    refusal = refused(uri)
    assert "hunter2" not in f"{refusal.message} {refusal.remedy} {refusal.details}"


def test_every_way_to_a_tpm_is_one_of_a_few() -> None:
    for kind in TCTIS:
        assert parse_tpm_uri(f"tpm:tcti={kind}").tcti == kind
    assert set(TCTIS) == {"device", "swtpm", "abrmd"}


@given(st.text(max_size=40))
def test_anything_is_understood_or_refused(text: str) -> None:
    try:
        parse_tpm_uri(f"tpm:{text}")
    except TallystickError as refusal:
        assert refusal.code == "bad_uri"


@given(st.from_regex(r"/[^\x00-\x1f\x7f]{0,40}", fullmatch=True))
def test_every_path_can_be_written(path: str) -> None:
    assert parse_tpm_uri(f"tpm:path={quote(path)}").path == path


def test_a_secret_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"  correct horse\n")
    assert read_secret(str(file)) == b"correct horse"
    assert read_secret("") == b""
    for contents in (b"", b" \n", b"x" * 4097):
        file.write_bytes(contents)
        with pytest.raises(TallystickError) as caught:
            read_secret(str(file))
        assert caught.value.code == "identity_missing"
    with pytest.raises(TallystickError) as caught:
        read_secret(str(tmp_path / "none"))
    assert caught.value.code == "identity_missing"
