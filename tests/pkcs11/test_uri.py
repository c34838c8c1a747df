# SPDX-License-Identifier: Apache-2.0
"""``pkcs11:`` URIs: RFC 7512 and p11-kit's published cases, what is refused by name, and that no PIN is repeated."""

from __future__ import annotations

from random import Random
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tallystick.backends.pkcs11.uri import SELECTORS, Pkcs11Uri, matches, parse_pkcs11_uri, uri_of
from tallystick.errors import TallystickError, UsageError

LARGEST = 2**64 - 1
SECRET = "hunter2"


def refused(uri: str) -> TallystickError:
    with pytest.raises(UsageError) as caught:
        parse_pkcs11_uri(uri)
    assert caught.value.code == "bad_uri"
    assert "pkcs11:" in caught.value.remedy
    return caught.value


def selecting(*selectors: tuple[str, str]) -> Pkcs11Uri:
    return Pkcs11Uri(selectors=selectors)


# --------------------------------------------------------------------------------------------- what p11-kit publishes


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pkcs11:", Pkcs11Uri()),
        ("PKCS11:", Pkcs11Uri()),
        ("pkcs11:object=Test%20Label", Pkcs11Uri(object="Test Label", has_object=True)),
        ("pkcs11:object=", Pkcs11Uri(has_object=True)),
        ("pkcs11:id=", Pkcs11Uri(has_id=True)),
        ("pkcs11:id=%54%45%53%54%00", Pkcs11Uri(id=b"TEST\0", has_id=True)),
        ("pkcs11:object=Fancy;id=Blah", Pkcs11Uri(object="Fancy", has_object=True, id=b"Blah", has_id=True)),
        (
            "pkcs11:object=The%20Label;id=%48%45%4c%4c%4f",
            Pkcs11Uri(object="The Label", has_object=True, id=b"HELLO", has_id=True),
        ),
        (
            "pkcs11:token=Token%20Label;serial=3333;model=Deluxe;manufacturer=Me",
            selecting(("token", "Token Label"), ("manufacturer", "Me"), ("serial", "3333"), ("model", "Deluxe")),
        ),
        (
            "pkc\ns11: lib rary-desc\rrip  \n  tion =The%20Library;\n\n\nlibrary-manufacturer=\rMe",
            selecting(("library-manufacturer", "Me"), ("library-description", "The Library")),
        ),
        (
            "pkcs11:library-description=The%20Library;library-manufacturer=Me",
            selecting(("library-manufacturer", "Me"), ("library-description", "The Library")),
        ),
        (
            "pkcs11:slot-description=Slot%20Description;slot-manufacturer=Me",
            selecting(("slot-manufacturer", "Me"), ("slot-description", "Slot Description")),
        ),
        ("pkcs11:type=private", Pkcs11Uri(type="private")),
        ("pkcs11:library-version=2.101", selecting(("library-version", "2.101"))),
        ("pkcs11:library-version=23", selecting(("library-version", "23.0"))),
        ("pkcs11:slot-id=67890", selecting(("slot-id", "67890"))),
        ("pkcs11:?module-name=blah%2Fblah", Pkcs11Uri(module_name="blah/blah")),
        ("pkcs11:?module-name=1%2a%26%23%25%26%40%28", Pkcs11Uri(module_name="1*&#%&@(")),
        ("pkcs11:?module-path=%2fmy-module-path", Pkcs11Uri(module_path="/my-module-path")),
    ],
)
def test_what_p11_kit_accepts_is_accepted(uri: str, says: Pkcs11Uri) -> None:
    assert parse_pkcs11_uri(uri) == says


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http:\\\\example.com\\test", "does not begin with `pkcs11:`"),
        ("pkcs11:object=Test%", "two hexadecimal digits"),
        ("pkcs11:object=T%xxest", "two hexadecimal digits"),
        ("pkcs11:token=Token%", "two hexadecimal digits"),
        ("pkcs11:library-description=Library%", "two hexadecimal digits"),
        ("pkcs11:?module-name=blahblah%2", "two hexadecimal digits"),
        ("pkcs11:?pin-source=file:/p%2", "two hexadecimal digits"),
        ("pkcs11:token", "'token' has no value"),
        ("pkcs11:library-version=23.", "MAJOR.MINOR"),
        ("pkcs11:library-version=a.a", "MAJOR.MINOR"),
        ("pkcs11:library-version=.23", "MAJOR.MINOR"),
        ("pkcs11:library-version=1000", "MAJOR.MINOR"),
        ("pkcs11:library-version=2.1000", "MAJOR.MINOR"),
        ("pkcs11:slot-id=123^456", "write '^' as `%5E`"),
        # these p11-kit keeps and never matches, or leaves to the application; here the user is told
        ("pkcs11:type=unknown", "`type` 'unknown': no type"),
        ("pkcs11:type=cert", "`type` 'cert'"),
        ("pkcs11:type=secret-key", "`type` 'secret-key'"),
        ("pkcs11:object=Test%20Label;object-type=cert", "unknown 'object-type'"),
        ("pkcs11:x-blah=some-value", "unknown 'x-blah'"),
        ("pkcs11:?my-query-two=some-value", "unknown 'my-query-two'"),
        ("pkcs11:model=a-value-that-is-too-long-for-the-field-that-it-goes-with", "'model' is too long"),
        ("pkcs11:?pin-source=blah%2Fblah", "names a file, and nothing else"),
        ("pkcs11:?pin-source=%7cmy-pin-file", "must not start programs"),
        ("pkcs11:?pin-value=blah%2Fblah", "`pin-value`"),
        ("pkcs11:?pin-value=blahblah%2", "`pin-value`"),
        ("pkcs11:?module-path=blah%2Fblah", "'module-path' must be absolute"),
        ("pkcs11:?module-name=123456&module-path=%2fmy-module-path", "`module-name` or `module-path`, not both"),
    ],
)
def test_what_p11_kit_refuses_or_ignores_is_refused_by_name(uri: str, why: str) -> None:
    assert why in refused(uri).message


# --------------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        # the RFC's own examples, where they are about keys
        (
            "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
            "object=my-key;type=private;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
            Pkcs11Uri(
                selectors=(
                    ("token", "The Software PKCS#11 Softtoken"),
                    ("manufacturer", "Snake Oil, Inc."),
                    ("serial", ""),
                    ("model", "1.0"),
                ),
                object="my-key",
                has_object=True,
                id=b"\x69\x95\x3e\x5c\xf4\xbd\xec\x91",
                has_id=True,
                type="private",
                pin_file="/etc/token_pin",
            ),
        ),
        (
            "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=%20a%20name",
            Pkcs11Uri(selectors=(("token", "A name with a substring %;"),), object=" a name", has_object=True),
        ),
        ("pkcs11:slot-description=Sun%20Metaslot", selecting(("slot-description", "Sun Metaslot"))),
        # characters that need no escape
        ("pkcs11:token=:[]@!$'()*+,=&-._~", selecting(("token", ":[]@!$'()*+,=&-._~"))),
        ("pkcs11:?module-path=/a:[]@!$'()*+,=?|-._~b", Pkcs11Uri(module_path="/a:[]@!$'()*+,=?|-._~b")),
        ("pkcs11:token=Gr%C3%BCn%E2%82%AC", selecting(("token", "Grün€"))),
        (f"pkcs11:token={'%C3%BC' * 16}", selecting(("token", "ü" * 16))),
        # numbers have one form
        ("pkcs11:slot-id=0", selecting(("slot-id", "0"))),
        ("pkcs11:slot-id=007", selecting(("slot-id", "7"))),
        (f"pkcs11:slot-id={'0' * 9000}12", selecting(("slot-id", "12"))),
        (f"pkcs11:slot-id={LARGEST}", selecting(("slot-id", str(LARGEST)))),
        ("pkcs11:slot-id=%31%32", selecting(("slot-id", "12"))),
        ("pkcs11:library-version=0.0", selecting(("library-version", "0.0"))),
        ("pkcs11:library-version=255.255", selecting(("library-version", "255.255"))),
        ("pkcs11:library-version=002.0007", selecting(("library-version", "2.7"))),
        # where a container is
        ("pkcs11:?name=7.b_c-D", Pkcs11Uri(name="7.b_c-D")),
        (f"pkcs11:?name={'a' * 64}", Pkcs11Uri(name="a" * 64)),
        ("pkcs11:?path=/srv/with%20a%26%3f", Pkcs11Uri(name="", path="/srv/with a&?")),
        ("pkcs11:?isolate=yes&ratchet=yes", Pkcs11Uri(isolate=True, ratchet=True)),
        ("pkcs11:?isolate=no&ratchet=no", Pkcs11Uri(isolate=False, ratchet=False)),
        # where a PIN is
        ("pkcs11:?pin-source=file:/p", Pkcs11Uri(pin_file="/p")),
        ("pkcs11:?pin-source=file:///run/p%20q", Pkcs11Uri(pin_file="/run/p q")),
        ("pkcs11:?pin-source=FILE://localhost/p", Pkcs11Uri(pin_file="/p")),
        ("pkcs11:?pin-source=file:/etc/pin-value", Pkcs11Uri(pin_file="/etc/pin-value")),
        ("pkcs11:?pin-source=%66ile:/p", Pkcs11Uri(pin_file="/p")),
        # nothing more
        ("pkcs11:?", Pkcs11Uri()),
        (" pkcs11:token=a\n", selecting(("token", "a"))),
        ("pkcs11:token=a;\n    serial=1\n   ?name=b", Pkcs11Uri(selectors=(("token", "a"), ("serial", "1")), name="b")),
    ],
)
def test_what_a_uri_says(uri: str, says: Pkcs11Uri) -> None:
    assert parse_pkcs11_uri(uri) == says


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("", "does not begin"),
        ("pkcs11", "does not begin"),
        ("pkcs1:token=a", "does not begin"),
        ("pkcs11:token=a;token=a", "'token' is given twice"),
        ("pkcs11:id=%01;id=%02", "'id' is given twice"),
        ("pkcs11:?name=a&name=a", "'name' is given twice"),
        ("pkcs11:?pin-source=file:/a&pin-source=file:/b", "'pin-source' is given twice"),
        ("pkcs11:Token=a", "unknown 'Token'"),
        ("pkcs11:tokne=a", "unknown 'tokne'"),
        ("pkcs11:?Name=a", "unknown 'Name'"),
        ("pkcs11:name=a", "'name' stands behind the `?`"),
        ("pkcs11:module-name=a", "'module-name' stands behind the `?`"),
        ("pkcs11:isolate=yes", "'isolate' stands behind the `?`"),
        ("pkcs11:?token=a", "'token' stands before the `?`"),
        ("pkcs11:token=a;pin-source=file:/p", "stands behind a `?`"),
        ("pkcs11:token=a&pin-source=file:/p", "stands behind a `?`"),
        ("pkcs11:%74oken=a", "no attribute"),
        ("pkcs11:a", "no attribute"),
        ("pkcs11:/srv/c", "no attribute"),
        ("pkcs11:=a", "a `;` too many"),
        ("pkcs11:;", "a `;` too many"),
        ("pkcs11:token=a;", "a `;` too many"),
        ("pkcs11:token=a;;model=b", "a `;` too many"),
        ("pkcs11:?&", "a `&` too many"),
        ("pkcs11:?name=a&", "a `&` too many"),
        ("pkcs11:?name", "'name' has no value"),
        ("pkcs11:?name=", "'name' has no value"),
        ("pkcs11:?path=", "'path' has no value"),
        ("pkcs11:?module-path=", "'module-path' has no value"),
        ("pkcs11:?module-name=", "'module-name' has no value"),
        ("pkcs11:?name=a&path=/b", "`name` or `path`, not both"),
        ("pkcs11:?path=b", "'path' must be absolute"),
        ("pkcs11:?path=~/b", "'path' must be absolute"),
        ("pkcs11:?name=../../etc", "is no name"),
        ("pkcs11:?name=.hidden", "is no name"),
        ("pkcs11:?name=a%2Fb", "is no name"),
        (f"pkcs11:?name={'a' * 65}", "is no name"),
        ("pkcs11:?isolate=true", "'isolate' is `yes` or `no`"),
        ("pkcs11:?ratchet=YES", "'ratchet' is `yes` or `no`"),
        ("pkcs11:?ratchet=", "'ratchet' has no value"),
        ("pkcs11:token=My Token", "write a space as `%20`"),
        ("pkcs11:token=a\tb", "write '\\t' as `%09`"),
        ("pkcs11:token=a/b", "write '/' as `%2F`"),
        ("pkcs11:token=Grün", "write 'ü' as `%C3%BC`"),
        ("pkcs11:token=a\0b", "`%00`"),
        ("pkcs11:token=\udcff", "not UTF-8"),
        ('pkcs11:?module-path=/a"', "`%22`"),
        ("pkcs11:token=%ff", "not UTF-8"),
        ("pkcs11:token=%ed%a0%80", "not UTF-8"),
        ("pkcs11:token=a%00b", "control character"),
        ("pkcs11:object=a%0Ab", "control character"),
        ("pkcs11:object=%C2%9B", "control character"),
        ("pkcs11:?path=/a%1Bb", "control character"),
        ("pkcs11:token=a#b", "fragment"),
        ("pkcs11:#", "fragment"),
        ("pkcs11:?name=a#b", "fragment"),
        (f"pkcs11:token={'a' * 33}", "on tokens it has 32 bytes, this is 33"),
        (f"pkcs11:token={'%C3%BC' * 17}", "on tokens it has 32 bytes, this is 34"),
        (f"pkcs11:serial={'1' * 17}", "'serial' is too long"),
        (f"pkcs11:slot-description={'1' * 65}", "'slot-description' is too long"),
        ("pkcs11:slot-id=", "decimal number"),
        ("pkcs11:slot-id=-1", "decimal number"),
        ("pkcs11:slot-id=+1", "decimal number"),
        ("pkcs11:slot-id=0x1", "decimal number"),
        ("pkcs11:slot-id=1_0", "decimal number"),
        ("pkcs11:slot-id=%D9%A1", "decimal number"),
        (f"pkcs11:slot-id={LARGEST + 1}", "at most 64 bits"),
        (f"pkcs11:slot-id={'9' * 9000}", "at most 64 bits"),
        ("pkcs11:library-version=", "MAJOR.MINOR"),
        ("pkcs11:library-version=256", "255 at most"),
        ("pkcs11:library-version=1.256", "255 at most"),
        ("pkcs11:library-version=1.2.3", "MAJOR.MINOR"),
        ("pkcs11:type=", "`type` ''"),
        ("pkcs11:type=Private", "`type` 'Private'"),
        ("pkcs11:type=data", "`type` 'data'"),
        ("pkcs11:type=public", "`type` 'public'"),
        ("pkcs11:?pin-source=", "names a file, and nothing else"),
        ("pkcs11:?pin-source=/etc/pin", "names a file, and nothing else"),
        ("pkcs11:?pin-source=env:PIN", "names a file, and nothing else"),
        ("pkcs11:?pin-source=|/bin/echo", "must not start programs"),
        ("pkcs11:?pin-source=file:pin", "must be absolute"),
        ("pkcs11:?pin-source=file:", "must be absolute"),
        ("pkcs11:?pin-source=file:/etc/", "a file's"),
        ("pkcs11:?pin-source=file://server/pin", "of this computer"),
    ],
)
def test_what_is_refused_is_named(uri: str, why: str) -> None:
    assert why in refused(uri).message


@pytest.mark.parametrize(
    "uri",
    [
        f"pkcs11:?pin-value={SECRET}",
        f"pkcs11:?name=b&pin-value=1&{SECRET}=2",
        f"pkcs11:?PIN-VALUE={SECRET}",
        f"pkcs11:?pin-\nvalue={SECRET}",
        f"pkcs11:?pin-value:{SECRET}",
        f"pkcs11:?pin%2Dvalue={SECRET}",
        f"pkcs11:?pin={SECRET}",
        f"pkcs11:?{SECRET}",
        f"pkcs11:?name={SECRET}&pin-value=1",
        f"pkcs11:?pin-source={SECRET}",
        f"pkcs11:?pin-source={SECRET}&a={SECRET}",
        f"pkcs11:?pin-source=1&{SECRET}=1",
        f"pkcs11:?pin-source=|echo%20{SECRET}",
        f"pkcs11:?pin-source=file:{SECRET}",
        f"pkcs11:?pin-source=file://{SECRET}/a",
        f"pkcs11:?pin-source={SECRET}%",
        f"pkcs11:?pin-source={SECRET}%ff",
        f"pkcs11:?pin-source={SECRET}#",
        f"pkcs11:token=a#{SECRET}",
        f"pkcs11:token=a#?pin-value={SECRET}",
        f"pkcs11:tokne=a?pin-source={SECRET}",
        f"pkcs11:token=a;pin-value={SECRET}",
        f"pkcs11:token=a;pinfile={SECRET}",
        f"pkcs11:token=a&pin-value={SECRET}",
        f"pkcs11:token=a&PIN={SECRET};tokne=b",
        f"pkcs11:token=a;{SECRET}",
        f"pkcs11:pin-\rvalue={SECRET}",
        *[f"pkcs11:token=A{separator}pin-value={SECRET}" for separator in (" ", ",", "/", ":", "%3F", "+", "|", "")],
        f"pkcs11:token=A Pin-Value={SECRET}",
        f"pkcs11:token=A pin-source={SECRET}",
        f"pkcs11:token=A pin-value:{SECRET}",
        f"pkcs11:token=A pin={SECRET}",
        f"pkcs11:token=A p\n in-value={SECRET}",
        f"pkcs11:token=A%3F%70%49n%2dvalue%3D{SECRET}",
        f"pkcs11:token=A%3Fpin-value%3D{SECRET}",
        f"pkcs11:token=A pin-value={SECRET};id=%01;tokne=1",
        f"pkcs11:token=A pin-value=1;object={SECRET}",
        f"pkcs11:type=private,pin-value:{SECRET}",
        f"pkcs11:pin-{SECRET}=1",
        f"pkcs11:?name=a,pin-value={SECRET}",
        f"pkcs11:?name=a%3Bpin-value:{SECRET}",
        f"pkcs11:?path=/a?pin-value={SECRET}",
        f"pkcs11:?path=/a%26pin-value%3D{SECRET}",
        f"pkcs11:?path={SECRET}%ff",
    ],
)
def test_a_refusal_repeats_no_pin(uri: str) -> None:
    refusal: BaseException | None = refused(uri)
    while refusal is not None:  # who reports an error shows where it comes from, too
        assert SECRET not in f"{refusal} {refusal!r} {vars(refusal)}"
        refusal = refusal.__cause__ or refusal.__context__


def test_a_refusal_says_which_uri_it_was() -> None:
    message = refused("pkcs11:token=My%20Token;serial=1;tokne=2?pin-source=file:/p").message
    assert message.startswith("'pkcs11:token=My%20Token;serial=1?...': unknown 'tokne'")
    message = refused("pkcs11:token=Pin%20Pinguin-1%20%28User%20PIN%29;tokne=2").message
    assert message.startswith("'pkcs11:token=Pin%20Pinguin-1%20%28User%20PIN%29': unknown 'tokne'")
    message = refused("pkcs11:serial=1;token=A pin-value=1234").message
    assert message.startswith("'pkcs11:serial=1;token=A pin-...': where a PIN comes from")


# -------------------------------------------------------------------------------------------------------- any at all

NAMES = (*SELECTORS, "object", "id", "type", "pin-source", "pin-value", "name", "path", "module-path", "isolate")
PIECES = st.sampled_from(
    [*NAMES, *";&?=#%|/: \n\0ü\udc80", "%00", "%ff", "%41", "yes", "private", "file:/p", "9" * 25, "2.1"]
)


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join)))
def test_anything_is_understood_or_refused(text: str) -> None:
    for uri in (text, f"pkcs11:{text}", f"pkcs11:?{text}"):
        try:
            where = parse_pkcs11_uri(uri)
        except UsageError as refusal:
            assert refusal.code == "bad_uri"
            assert refusal.message.encode()  # can be printed
        else:
            assert parse_pkcs11_uri(uri_of(where.selectors)).selectors == where.selectors


@given(
    st.lists(st.sampled_from(["token=a", "id=%01", "tokne=b", "type=cert", "x"]), max_size=3),
    st.lists(st.sampled_from(["name=a", "path=/p", "isolate=maybe", "x=y", "pin-source=7", "%"]), max_size=3),
    st.sampled_from(["pin-value=", "Pin-Value=", "pin-source=", "pin-source=|", "pin-value", " pin-value =", "pin="]),
    st.integers(0, 3),
)
def test_no_pin_is_repeated_whatever_else_is_wrong(path: list[str], query: list[str], how: str, where: int) -> None:
    query.insert(where, how + SECRET)
    message = refused(f"pkcs11:{';'.join(path)}?{'&'.join(query)}").message
    assert SECRET not in message


def text_of(limit: int) -> st.SearchStrategy[str]:
    characters = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
    return st.text(characters, max_size=limit).filter(lambda text: len(text.encode()) <= limit)


def value_of(name: str) -> st.SearchStrategy[str]:
    if name == "slot-id":
        return st.integers(0, LARGEST).map(str)
    if name == "library-version":
        return st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda pair: f"{pair[0]}.{pair[1]}")
    return text_of(SELECTORS[name][1])


@given(
    st.fixed_dictionaries({}, optional={name: value_of(name) for name in SELECTORS}),
    st.one_of(st.none(), st.binary(max_size=20)),
    st.one_of(st.none(), text_of(40)),
    st.randoms(use_true_random=False),
)
def test_what_is_written_is_read_back(
    chosen: dict[str, str], key: bytes | None, label: str | None, order: Random
) -> None:
    parts = [f"{name}={quote(value, safe='')}" for name, value in chosen.items()]
    parts += [] if key is None else ["id=" + "".join([f"%{byte:02x}" for byte in key])]
    parts += [] if label is None else [f"object={quote(label, safe='')}"]
    order.shuffle(parts)
    where = parse_pkcs11_uri(f"pkcs11:{';'.join(parts)}?name=c")
    assert where.selectors == tuple((name, chosen[name]) for name in SELECTORS if name in chosen)
    assert (where.has_id, where.id) == (key is not None, key or b"")
    assert (where.has_object, where.object) == (label is not None, label or "")
    assert parse_pkcs11_uri(uri_of(where.selectors)) == Pkcs11Uri(selectors=where.selectors)


# ---------------------------------------------------------------------------------------------------------- matching

FACTS: dict[str, object] = {
    "slot": 7,
    "label": "A label",
    "serial": "",
    "manufacturer": "Me",
    "model": "Giselle",
    "flags": 1,
    "mechanisms": [1],
    "slot_description": "Reader 1",
    "slot_manufacturer": "Her",
    "library_manufacturer": "Someone",
    "library_description": "Quiet",
    "library_version": "5.8",
}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pkcs11:", True),
        ("pkcs11:model=Giselle", True),
        ("pkcs11:model=Zoolander", False),
        ("pkcs11:model=giselle", False),
        ("pkcs11:model=Gis", False),
        ("pkcs11:model=", False),
        ("pkcs11:serial=", True),
        ("pkcs11:serial=0", False),
        ("pkcs11:token=A%20label%20%20", True),
        ("pkcs11:token=A%20label;manufacturer=You", False),
        ("pkcs11:library-description=Quiet;library-manufacturer=Someone", True),
        ("pkcs11:library-description=Leise", False),
        ("pkcs11:library-version=5.8", True),
        ("pkcs11:library-version=05.008", True),
        ("pkcs11:library-version=5", False),
        ("pkcs11:library-version=5.80", False),
        ("pkcs11:slot-id=7;slot-description=Reader%201;slot-manufacturer=Her", True),
        ("pkcs11:slot-id=07", True),
        ("pkcs11:slot-id=70", False),
        ("pkcs11:object=no%20matter", True),
    ],
)
def test_which_tokens_a_uri_selects(uri: str, expected: bool) -> None:
    assert matches(parse_pkcs11_uri(uri).selectors, FACTS) is expected


def test_a_token_that_tells_nothing_is_not_selected_by_anything() -> None:
    nothing = {"slot": 0, "flags": 0}
    assert matches((), nothing)
    assert matches((("slot-id", "0"),), nothing)
    assert not any(matches(((name, ""),), nothing) for name in SELECTORS)


@given(st.sampled_from([name for name in SELECTORS if SELECTORS[name][1]]), st.data())
def test_a_token_is_selected_by_what_it_tells(name: str, data: st.DataObject) -> None:
    value, other = data.draw(value_of(name)), data.draw(value_of(name))
    assume(value.strip() != other.strip())
    facts = {SELECTORS[name][0]: value.strip()}
    assert matches(((name, value),), facts)
    assert not matches(((name, other),), facts)
