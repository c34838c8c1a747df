# SPDX-License-Identifier: Apache-2.0
"""Which modules may be loaded: the administrator's file, p11-kit's registrations, and files others can write to."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.backends.pkcs11.modules import Module, Places, allowed, chosen, survey, system_places
from tallystick.backends.pkcs11.trusted_file import examined
from tallystick.backends.pkcs11.uri import Pkcs11Uri, parse_pkcs11_uri
from tallystick.errors import BackendUnavailableError, TallystickError, UsageError

STRANGER = 12345
IS_ROOT = os.geteuid() == 0  # who is not cannot give files away


class Computer:
    """A computer's files: the administrator's, p11-kit's, and modules."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package, self.local, self.library = root / "package", root / "local", root / "usr" / "lib"
        for folder in (self.package, self.local, self.library.parent, self.library):
            folder.mkdir(mode=0o755)
        self.file = root / "pkcs11.toml"
        self.user = os.geteuid()

    @property
    def places(self) -> Places:
        return Places(str(self.file), False, (str(self.package), str(self.local)), (str(self.library),), self.user)

    def module(self, name: str) -> str:
        return self._write(self.library / name, "")

    def says(self, text: str) -> None:
        self._write(self.file, text)

    def registers(self, name: str, text: str, folder: Path | None = None) -> str:
        return self._write((folder or self.package) / f"{name}.module", text)

    def names(self) -> list[str]:
        return [one.name for one in allowed(self.places)]

    def chosen(self, uri: str) -> tuple[Module, ...]:
        return chosen(parse_pkcs11_uri(uri), self.places)

    def refusal(self, uri: str = "pkcs11:") -> TallystickError:
        with pytest.raises((UsageError, BackendUnavailableError)) as caught:
            self.chosen(uri)
        assert caught.value.remedy
        return caught.value

    @staticmethod
    def _write(path: Path, text: str) -> str:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return str(path)


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    tmp_path.chmod(0o755)
    return Computer(tmp_path.resolve())


# -------------------------------------------------------------------------------------------- the administrator's file


def test_the_administrators_file_says_what_is_allowed_and_how(computer: Computer) -> None:
    plain, strange, third, slow = (computer.module(f"lib{name}.so") for name in ("plain", "strange", "third", "slow"))
    computer.says(f"""
        p11-kit = false
        [module.plain]
        path = "{plain}"
        [module.strange]
        path = "{strange}"
        third-party = true
        [module.third]
        path = "{third}"
        third-party = true
        isolate = false
        [module.slow]
        path = "{slow}"
        isolate = true
        deadline = 2.5
    """)
    assert survey(computer.places) == (
        (
            Module(plain, "plain", isolate=False, deadline_s=30.0),
            Module(strange, "strange", isolate=True),
            Module(third, "third", isolate=False),
            Module(slow, "slow", isolate=True, deadline_s=2.5),
        ),
        (),
    )


def test_an_empty_file_allows_what_no_file_allows(computer: Computer) -> None:
    computer.registers("a", f"module: {computer.module('a.so')}")
    assert computer.names() == ["a"]
    computer.says("# nothing")
    assert computer.names() == ["a"]
    computer.says("p11-kit = false")
    assert computer.names() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pk11-kit = true", "unknown 'pk11-kit'; known there: p11-kit, module"),
        ("[modules.a]\npath = '/a'", "unknown 'modules'"),
        ("[module.a]\npath = '/a'\nisolated = true", "unknown 'isolated' in [module.a]; known there: path, isolate"),
        ("[module.a]\nisolate = true", "`path` is missing in [module.a]"),
        ("[module]\npath = '/a'", "modules have names"),
        ("module = 1", "'module' is not a table"),
        ("p11-kit = 'yes'", "'p11-kit' is not true or false"),
        ("p11-kit = 1", "'p11-kit' is not true or false"),
        ("[module.a]\npath = 1", "'path' is not a text in [module.a]"),
        ("[module.a]\npath = '/a'\nisolate = 'no'", "'isolate' is not true or false in [module.a]"),
        ("[module.a]\npath = '/a'\ndeadline = true", "'deadline' is not a number in [module.a]"),
        ("[module.a]\npath = '/a'\ndeadline = '30'", "'deadline' is not a number in [module.a]"),
        *[
            (f"[module.a]\npath = '/a'\ndeadline = {bad}", "3600 at most in [module.a]")
            for bad in ("0", "-1", "3601", "nan", "inf", "-inf", "1" * 500)
        ],
        ("[module.'a b']\npath = '/a'", "'a b' is no name"),
        ("[module.'']\npath = '/a'", "'' is no name"),
        ("[module.a", "it is no TOML"),
        ("a = " + "[" * 5000, "it is no TOML"),
        ("a = " + "1" * 5000, "it is no TOML"),
        ("#" * 70000, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_not_understood_allows_nothing(computer: Computer, text: str, why: str) -> None:
    computer.registers("a", f"module: {computer.module('a.so')}")
    computer.says(text)
    for ask in (survey, allowed):
        with pytest.raises(BackendUnavailableError) as caught:
            ask(computer.places)
        assert why in caught.value.message
        assert str(computer.file) in caught.value.message
        assert "administrator" in caught.value.remedy
        with pytest.raises(BackendUnavailableError) as caught:
            ask(computer.places.replace(named=True))
        assert "TALLYSTICK_PKCS11" in caught.value.remedy
    assert computer.refusal().code == "backend_unavailable"


def test_a_file_that_is_no_text_allows_nothing(computer: Computer) -> None:
    computer.says("")
    computer.file.write_bytes(b"\xff\xfe")
    assert "it is no TOML" in computer.refusal().message


def test_a_file_that_the_user_named_must_be_there(computer: Computer) -> None:
    computer.registers("a", f"module: {computer.module('a.so')}")
    with pytest.raises(BackendUnavailableError, match="there is no such file"):
        allowed(computer.places.replace(named=True))
    with pytest.raises(BackendUnavailableError, match="its path is not absolute"):
        allowed(computer.places.replace(named=True, configuration="pkcs11.toml"))


def test_where_there_is_no_such_file_by_convention_registrations_alone_count(computer: Computer) -> None:
    computer.registers("a", f"module: {computer.module('a.so')}")
    places = computer.places.replace(configuration="")
    assert [one.name for one in allowed(places)] == ["a"]
    with pytest.raises(BackendUnavailableError) as caught:
        chosen(Pkcs11Uri(module_name="x"), places)
    assert "TALLYSTICK_PKCS11" in caught.value.remedy


def test_two_names_for_one_file_contradict_each_other(computer: Computer) -> None:
    path = computer.module("a.so")
    (computer.library / "b.so").symlink_to(path)
    computer.says(f"[module.a]\npath = '{path}'\n[module.b]\npath = '{computer.library / 'b.so'}'")
    assert "'a' and 'b' are the same file" in computer.refusal().message


def test_a_configured_module_that_is_not_there_is_told(computer: Computer) -> None:
    computer.says(
        "[module.a]\npath = '/nowhere/a.so'\n[module.b]\npath = 'relative.so'\n[module.c]\npath = \"/a\\u0000\""
    )
    assert survey(computer.places) == (
        (),
        (
            ("/nowhere/a.so", "there is no such file"),
            ("relative.so", "its path is not absolute"),
            ("/a\0", "it cannot be examined: not a file name"),
        ),
    )
    assert computer.refusal("pkcs11:?module-name=a").code == "backend_unavailable"
    assert "there is no such file" in computer.refusal("pkcs11:?module-name=a").message
    assert "there is no such file" in computer.refusal().message


# ------------------------------------------------------------------------------------------------------------- p11-kit


def test_registered_modules_run_in_a_process_of_their_own(computer: Computer) -> None:
    absolute, relative = computer.module("libb.so"), computer.module("a.so")
    computer.registers("b", f"# a comment\n\n  module :  {absolute}  \ncritical: no\n")
    computer.registers("a", "module: a.so")
    assert survey(computer.places) == ((Module(relative, "a", isolate=True), Module(absolute, "b", isolate=True)), ())


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "module:",
        "module: gone.so",
        "module: /nowhere/gone.so",
        "#module: a.so",
        "module: a.so\ntrust-policy: yes",
        "module: p11-kit-trust.so",
        "module: p11-kit-proxy.so.0",
        "module: a.so\nremote: |ssh somewhere p11-kit remote /a.so",
        "module: a.so\nenable-in:",
        "module: a.so\nenable-in: ssh, seahorse",
        "module: a.so\nenable-in: tally-ho",
        "module: a.so\ndisable-in: tally",
        "module: a.so\ndisable-in: ssh,tally",
        "module: a.so\ndisable-in: ssh tally",
    ],
)
def test_registrations_that_are_not_for_us_are_passed_over(computer: Computer, settings: str) -> None:
    for name in ("a.so", "p11-kit-trust.so", "p11-kit-proxy.so.0"):
        computer.module(name)
    computer.registers("a", settings)
    assert survey(computer.places) == ((), ())


@pytest.mark.parametrize(
    "settings",
    [
        "enable-in: tally",
        "enable-in: ssh, tally",
        "disable-in: p11-kit-proxy",
        "disable-in:",
        "trust-policy: no",
        "x: y",
        "enable-in: tally\ndisable-in: tally",
        "managed: no",
        "no setting at all",
    ],
)
def test_other_settings_do_not_matter(computer: Computer, settings: str) -> None:
    computer.module("a.so")
    computer.registers("a", f"module: a.so\n{settings}")
    assert computer.names() == ["a"]


def test_what_is_no_registration_is_not_read(computer: Computer) -> None:
    computer.module("a.so")
    for name in ("a.module.bak", ".a.module", "-a.module", "a b.module", "a"):
        (computer.package / name).write_text("module: a.so")
    assert survey(computer.places) == ((), ())


def test_the_administrators_registration_goes_before_the_packages_setting_by_setting(computer: Computer) -> None:
    first, second = computer.module("first.so"), computer.module("second.so")
    computer.registers("a", f"module: {first}\ndisable-in: tally")
    computer.registers("a", "disable-in: ssh", computer.local)
    computer.registers("b", f"module: {first}", computer.local)
    computer.registers("c", f"module: {first}")
    computer.registers("c", f"module: {second}", computer.local)
    computer.registers("d", f"module: {second}")
    computer.registers("d", "enable-in:", computer.local)
    assert [(one.name, one.path) for one in allowed(computer.places)] == [("a", first), ("c", second)]


def test_no_folders_of_p11_kit_are_no_registrations(computer: Computer) -> None:
    places = computer.places.replace(registered=("/nowhere/modules", str(computer.file)))
    assert survey(places) == ((), ())


def test_the_administrators_word_goes_before_p11_kits(computer: Computer) -> None:
    path, other = computer.module("libhsm.so"), computer.module("other.so")
    computer.registers("packaged", f"module: {path}")
    computer.registers("HSM", f"module: {other}")
    computer.says(f"[module.hsm]\npath = '{path}'")
    assert survey(computer.places) == ((Module(path, "hsm", isolate=False),), ())


# ----------------------------------------------------------------------------------------------- what others can write


def give_away(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def let_a_group_write(path: Path) -> None:
    if IS_ROOT:
        os.chown(path, -1, STRANGER)
    path.chmod(0o664)


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "others write": (lambda path: path.chmod(0o646), "others may write to .*mode 0646.*chmod go-w"),
    "a group writes": (let_a_group_write, "others may write to .*mode 0664"),
    "a folder others write to": (lambda path: path.parent.chmod(0o757), "others may write to .*mode 0757"),
    "a shared folder": (lambda path: path.parent.chmod(0o1777), "others may write to .*mode 1777"),
    "a folder further up": (lambda path: path.parent.parent.chmod(0o777), "others may write to .*mode 0777"),
}
if IS_ROOT:
    SPOILT["a stranger's"] = (give_away, "belongs to another user")
    SPOILT["a folder of a stranger"] = (lambda path: give_away(path.parent), "belongs to another user")


@pytest.mark.parametrize("way", SPOILT)
def test_a_module_that_others_can_replace_is_refused(computer: Computer, way: str) -> None:
    spoil, why = SPOILT[way]
    path = computer.module("liba.so")
    computer.registers("a", f"module: {path}")
    assert computer.names() == ["a"]
    spoil(Path(path))
    modules, refused = survey(computer.places)
    assert modules == ()
    assert [file for file, _ in refused] == [path]
    assert re.search(why, refused[0][1])
    for uri in ("pkcs11:", f"pkcs11:?module-path={path}", "pkcs11:?module-name=a"):
        refusal = computer.refusal(uri)
        assert refusal.code == ("backend_unavailable" if uri == "pkcs11:" else "module_not_allowed")
        assert re.search(why, refusal.message)


@pytest.mark.parametrize("way", SPOILT)
def test_a_configuration_that_others_can_write_to_allows_nothing(computer: Computer, way: str) -> None:
    spoil, why = SPOILT[way]
    folder = computer.root / "etc" / "tallystick"
    folder.mkdir(parents=True, mode=0o755)
    computer.file = folder / "pkcs11.toml"
    computer.says(f"[module.a]\npath = '{computer.module('liba.so')}'")
    assert computer.names() == ["a"]
    spoil(computer.file)
    refusal = computer.refusal()
    assert refusal.code == "backend_unavailable"
    assert re.search(why, refusal.message)


def test_a_registration_that_others_can_write_to_is_refused_with_what_it_overrides(computer: Computer) -> None:
    computer.module("a.so")
    computer.registers("a", "module: a.so")
    override = computer.registers("a", "critical: no", computer.local)
    Path(override).chmod(0o666)
    modules, refused = survey(computer.places)
    assert modules == ()
    assert [path for path, _ in refused] == [override]


def test_a_strangers_files_are_not_trusted_and_roots_are(computer: Computer) -> None:
    path = computer.module("a.so")
    found = examined(path, STRANGER)
    assert found == (path, "") if IS_ROOT else "belongs to another user" in found[1]
    assert examined("/etc/passwd", STRANGER) == ("/etc/passwd", "")


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files to root's group")
def test_what_roots_group_writes_is_roots(computer: Computer) -> None:
    path = Path(computer.module("a.so"))
    os.chown(path, -1, 0)
    path.chmod(0o664)
    assert examined(str(path), STRANGER) == (str(path), "")


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files to root's group")
def test_whoever_an_access_control_list_lets_write_is_not_roots_group(computer: Computer) -> None:
    path = Path(computer.module("a.so"))
    os.chown(path, -1, 0)
    nobody = 0xFFFFFFFF
    entries = [(0x01, 6, nobody), (0x02, 6, STRANGER), (0x04, 4, nobody), (0x10, 6, nobody), (0x20, 4, nobody)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", value)
    except OSError as reason:
        pytest.skip(f"no access control lists here: {reason.strerror}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert "others may write to" in examined(str(path), STRANGER)[1]
    path.chmod(0o644)  # the mask: what the list gives is not given any more
    assert examined(str(path), STRANGER) == (str(path), "")


def test_a_shared_folder_on_the_way_is_passed(computer: Computer) -> None:
    shared = computer.root / "shared"
    (shared / "mine").mkdir(parents=True)
    (shared / "mine").chmod(0o755)
    path = shared / "mine" / "a.so"
    path.write_text("")
    path.chmod(0o644)
    shared.chmod(0o1777)
    assert examined(str(path), computer.user) == (str(path), "")
    shared.chmod(0o777)
    assert "others may write to" in examined(str(path), computer.user)[1]


def test_links_are_followed_and_each_folder_on_the_way_counts(computer: Computer) -> None:
    path = computer.module("liba.so.1")
    away = computer.root / "away"
    away.mkdir(mode=0o755)
    (away / "a").symlink_to("../usr/lib/liba.so.1")
    (computer.root / "again").symlink_to(away)
    (computer.library / "liba.so").symlink_to(str(computer.root / "again" / "a"))
    link = str(computer.library / "liba.so")
    assert examined(link, computer.user) == (path, "")
    assert examined(f"/..{computer.root}/./again//../usr/lib/liba.so", computer.user) == (path, "")
    away.chmod(0o777)
    assert "others may write to" in examined(link, computer.user)[1]
    away.chmod(0o1777)
    assert examined(link, computer.user) == (path, "")
    if IS_ROOT:
        give_away(away / "a")
        assert "belongs to another user" in examined(link, computer.user)[1]


def test_what_is_no_file_is_no_module(computer: Computer) -> None:
    (computer.root / "loop").symlink_to("loop")
    os.mkfifo(computer.root / "pipe", 0o644)
    blocked = computer.root / ("x" * 300)
    for path, why in (
        (computer.library, "it is no regular file"),
        (computer.root / "pipe", "it is no regular file"),
        (Path("/"), "it is no regular file"),
        (computer.root / "loop", "too many symbolic links"),
        (computer.root / "none", "there is no such file"),
        (Path(computer.module("a.so")) / "b", "there is no such file"),
        (blocked, "File name too long"),
    ):
        assert why in examined(str(path), computer.user)[1]


def test_where_files_have_no_such_owners_they_must_only_be_there(computer: Computer) -> None:
    path = computer.module("a.so")
    (computer.root / "link").symlink_to(path)
    Path(path).chmod(0o666)
    assert examined(str(computer.root / "link"), -1) == (path, "")
    assert examined(str(computer.library), -1)[1] == "it is no file"
    assert examined(str(computer.library / "b.so"), -1)[1] == "there is no such file"


# ------------------------------------------------------------------------------------------------------ what a URI may


def test_without_a_wish_all_that_is_allowed_is_chosen(computer: Computer) -> None:
    a, b = computer.module("liba.so"), computer.module("libb.so")
    computer.says(f"[module.one]\npath = '{a}'")
    computer.registers("two", f"module: {b}")
    assert [one.name for one in computer.chosen("pkcs11:token=x")] == ["one", "two"]


def test_a_path_chooses_among_what_is_allowed_whatever_leads_there(computer: Computer) -> None:
    path = computer.module("liba.so.1.0")
    (computer.library / "liba.so").symlink_to("liba.so.1.0")
    computer.says(
        f"[module.one]\npath = '{computer.library / 'liba.so'}'\n[module.b]\npath='{computer.module('b.so')}'"
    )
    for written in (path, computer.library / "liba.so", f"{computer.root}/usr/../usr/lib/liba.so"):
        assert computer.chosen(f"pkcs11:?module-path={written}") == (Module(path, "one", isolate=False),)


@pytest.mark.parametrize("name", ["hsm", "HSM", "vendor-x", "Vendor-X"])
def test_a_name_is_the_configured_one_or_the_files(computer: Computer, name: str) -> None:
    path = computer.module("libvendor-x.so.2.1")
    computer.says(f"[module.hsm]\npath = '{path}'\n[module.other]\npath = '{computer.module('hsm2.so')}'")
    assert computer.chosen(f"pkcs11:?module-name={name}") == (Module(path, "hsm", isolate=False),)


def test_a_configured_name_goes_before_a_files(computer: Computer) -> None:
    one, two = computer.module("two.so"), computer.module("libx.so")
    computer.says(f"[module.one]\npath = '{one}'\n[module.two]\npath = '{two}'")
    assert [module.path for module in computer.chosen("pkcs11:?module-name=two")] == [two]


def test_a_module_that_is_not_allowed_is_refused_with_the_lines_that_allow_it(computer: Computer) -> None:
    path = computer.module('lib"my hsm\\.so.1')
    where = Pkcs11Uri(module_path=path)
    with pytest.raises(UsageError) as caught:
        chosen(where, computer.places)
    refusal = caught.value
    assert refusal.code == "module_not_allowed"
    assert repr(path) in refusal.message
    assert str(computer.file) in refusal.remedy
    lines = refusal.details["lines"]
    assert isinstance(lines, list)
    assert all(line in refusal.remedy for line in lines)
    computer.says("\n".join(lines))
    assert [one.path for one in chosen(where, computer.places)] == [path]


def test_a_typo_is_answered_with_what_is_meant(computer: Computer) -> None:
    path = computer.module("libsofthsm2.so")
    computer.registers("softhsm2", f"module: {path}")
    for uri in (f"pkcs11:?module-path={path.replace('soft', 'sotf')}", "pkcs11:?module-name=sotfhsm2"):
        refusal = computer.refusal(uri)
        assert refusal.code == "backend_unavailable"
        assert "there is no PKCS#11 module" in refusal.message
        assert "softhsm2" in refusal.remedy
        assert "meant?" in refusal.remedy
    far = computer.refusal("pkcs11:?module-name=yubihsm_pkcs11")
    assert "meant?" not in far.remedy
    assert str(computer.file) in far.remedy


def test_without_any_module_the_user_is_told_what_to_do(computer: Computer) -> None:
    refusal = computer.refusal()
    assert refusal.code == "backend_unavailable"
    assert str(computer.file) in refusal.remedy
    assert "[module.NAME]" in refusal.remedy


def test_a_uri_isolates_and_never_lifts_isolation(computer: Computer) -> None:
    a, b = computer.module("a.so"), computer.module("b.so")
    computer.says(f"[module.free]\npath = '{a}'\ndeadline = 5")
    computer.registers("kept", f"module: {b}")
    assert [one.isolate for one in computer.chosen("pkcs11:")] == [False, True]
    both = computer.chosen("pkcs11:?isolate=yes")
    assert [(one.isolate, one.deadline_s) for one in both] == [(True, 5.0), (True, 30.0)]
    assert computer.chosen("pkcs11:?isolate=no&module-name=free") == (Module(a, "free", isolate=False, deadline_s=5.0),)
    for uri in ("pkcs11:?isolate=no", "pkcs11:?isolate=no&module-name=kept", f"pkcs11:?isolate=no&module-path={b}"):
        refusal = computer.refusal(uri)
        assert refusal.code == "bad_uri"
        assert "`isolate=no`: 'kept' must run in a process of its own" in refusal.message
    lines = re.findall(r"`([^`]+)`", refusal.remedy)
    computer.says("\n".join(lines))
    assert computer.chosen("pkcs11:?isolate=no&module-name=kept") == (Module(b, "kept", isolate=False),)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(text=st.one_of(st.text(max_size=60), st.binary(max_size=60)))
def test_whatever_stands_in_the_files_is_read_or_refused(computer: Computer, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    computer.registers("b", "")
    (computer.package / "b.module").write_bytes(b"module: " + data)
    computer.says("")
    survey(computer.places)
    computer.file.write_bytes(data)
    try:
        survey(computer.places)
    except BackendUnavailableError as refusal:
        assert refusal.code == "backend_unavailable"


# ------------------------------------------------------------------------------------------------------- this computer


def test_the_systems_places_are_absolute_and_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLYSTICK_PKCS11", raising=False)
    places = system_places()
    assert (places.configuration, places.named) == ("/etc/tallystick/pkcs11.toml", False)
    assert places.registered == ("/usr/share/p11-kit/modules", "/etc/pkcs11/modules")
    assert all(map(os.path.isabs, places.libraries))
    assert places.user == os.geteuid()
    monkeypatch.setenv("TALLYSTICK_PKCS11", "/srv/mine.toml")
    assert system_places() == places.replace(configuration="/srv/mine.toml", named=True)


def test_this_computers_file_is_found_by_its_variable(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    computer.says(f"p11-kit = false\n[module.a]\npath = '{computer.module('a.so')}'")
    monkeypatch.setenv("TALLYSTICK_PKCS11", str(computer.file))
    assert [one.name for one in allowed()] == ["a"]
    assert survey()[1] == ()
    assert [one.name for one in chosen(Pkcs11Uri())] == ["a"]
