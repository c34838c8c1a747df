# SPDX-License-Identifier: Apache-2.0
"""``tally vendor tpm`` and ``tally vendor settings`` as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from attest_rig import authority, maker, root, rsa_key
from chips import Chip
from cryptography.hazmat.primitives.serialization import Encoding
from shop import Shop
from vendor_shell import Shell

from fakes import FakeClock
from tallystick.codec.ident import container_id
from tallystick.license.model import Terms


def opened(shell: Shell) -> Shop:
    """A shop whose vendor is the one that commands are about."""
    shop = Shop(shell.folder, FakeClock())
    shop.office.close()
    (shell.folder / "vendor").rename("v")
    shop.home = shell.folder / "v"
    shop.office = shop.open()
    return shop


def test_roots_are_pinned_listed_and_removed(shell: Shell) -> None:
    shell.vendor("init", "acme")
    both = root().certificate.public_bytes(Encoding.PEM) + maker().certificate.public_bytes(Encoding.PEM)
    Path("both.pem").write_bytes(both)
    Path("amd.der").write_bytes(authority("AMDTPM").der)
    assert shell.json("tpm", "root", "list") == {"pinned": []}
    assert shell.vendor("tpm", "root", "add", "both.pem", "amd.der") == ""
    assert "root CN=Maker of TPMs Root" in shell.err
    assert "intermediate CN=Maker of TPMs" in shell.err
    assert "by its name of AMD" in shell.err
    assert "no maker of TPMs known here" in shell.err
    found = shell.json("tpm", "root", "list")["pinned"]
    assert sorted((one["kind"], one["maker"]) for one in found) == [("intermediate", ""), ("root", ""), ("root", "AMD")]
    key = next(one["id"] for one in found if one["maker"])
    assert (
        ":".join(key[at : at + 2].upper() for at in range(0, 6, 2))
        in shell.vendor("tpm", "root", "add", "amd.der") + shell.err
    )
    assert "CN=AMDTPM" in shell.vendor("tpm", "root", "list")
    asked = shell.json("tpm", "root", "remove", key[:12], status=2)["error"]
    assert (asked["code"], "CN=AMDTPM" in asked["message"]) == ("not_confirmed", True)
    assert shell.json("tpm", "root", "remove", key[:12], "--yes")["id"] == key
    shell.vendor("tpm", "root", "remove", key[:12], "--yes", status=4)
    (again,) = shell.json("tpm", "root", "add", "both.pem", "--as-root")["pinned"][1:]
    assert again["kind"] == "root"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("root", "add", "nowhere.pem"), 2),
        (("root", "add", "nothing.pem"), 3),
        (("root", "remove", "beef", "--yes"), 4),
        (("advisory", "add", "ifx", "--from", "1", "--to", "2", "--reason", "x"), 2),
        (("advisory", "remove", "7", "--yes"), 4),
        (("settle", "TS-0123A-BCDEF-GHJK5", "--yes"), 4),
    ],
)
def test_every_mistake_has_a_remedy(shell: Shell, arguments: tuple[str, ...], status: int) -> None:
    shell.vendor("init", "acme")
    Path("nothing.pem").write_bytes(b"nothing")
    shell.vendor("tpm", *arguments, status=status)
    assert "remedy:" in shell.err
    assert "error" in shell.json("tpm", *arguments, status=status)


def test_advisories_by_command(shell: Shell) -> None:
    shell.vendor("init", "acme")
    brought = shell.json("tpm", "advisory", "list")["advisories"]
    assert brought
    assert {one["id"] for one in brought} == {None}
    made = shell.json("tpm", "advisory", "add", "NTC", "--from", "7.2", "--to", "7.2", "--reason", "notice 7")
    versions = {"first": "7.2.0.0", "last": "7.2.65535.65535"}
    assert made == {"id": 1, "manufacturer": "NTC", **versions, "max_level": 1, "reason": "notice 7"}
    assert "notice 7" in shell.vendor("tpm", "advisory", "list")
    shell.vendor("tpm", "advisory", "add", "NTC", "--from", "1", "--to", "1", "--reason", "x", "--max-level", "0")
    assert "up to L0" in shell.err
    assert shell.json("tpm", "advisory", "remove", "1", status=2)["error"]["code"] == "not_confirmed"
    shell.vendor("tpm", "advisory", "remove", "1", "--yes")
    assert "7.2.0.0" in shell.err
    assert shell.json("tpm", "advisory", "list")["advisories"][0]["id"] == 2


def test_settings_by_command(shell: Shell) -> None:
    shell.vendor("init", "acme")
    only, *_ = shell.json("settings")["settings"]
    assert (only["name"], only["value"]) == ("keep_ek_certificates", "no")
    assert "keep_ek_certificates" in shell.vendor("settings")
    assert shell.json("settings", "keep_ek_certificates", "yes")["settings"][0]["value"] == "yes"
    assert "yes" in shell.vendor("settings", "keep_ek_certificates")
    shell.vendor("settings", "keep_ek_certificates", "perhaps", status=2)
    shell.vendor("settings", "nothing", status=4)
    shell.vendor("settings", "keep_ek_certificates", "no")


def test_a_rewound_container_is_seen_and_settled(shell: Shell) -> None:
    shop = opened(shell)
    chip = Chip(shop)
    code = shop.entitle().code.reveal()
    Path("one.tallyreq").write_bytes(chip.request(code))
    shell.vendor("issue", "one.tallyreq", "--output", "one.tallyupd")
    assert "warning: its TPM counts up to L1" in shell.err
    assert "only its TPM opens it" in shell.err
    shown = container_id(chip.thumbprint)
    (known,) = shell.json("tpm", "list")["containers"]
    assert (known["container"], known["level"], known["rewound_at"], known["manufacturer"]) == (shown, 1, None, "IFX")
    assert known["certificate_kept"] is False
    assert "7.85.0.0" in shell.vendor("tpm", "list", "--limit", "1")
    sold = shell.json("list")["entitlements"][0]["id"]
    shell.vendor("refresh", sold, "--output", "more.tallyupd")
    assert "withheld" not in shell.err, "it asks for no level"
    Path("two.tallyreq").write_bytes(chip.step(counter=3).request())
    shell.vendor("issue", "two.tallyreq", "--output", "two.tallyupd", status=5)
    assert f"tally vendor tpm settle {shown}" in shell.err
    assert "counter went back from 41 to 3" in shell.vendor("tpm", "list")
    assert "container_rewound" in shell.vendor("list", "cases")
    assert shell.json("tpm", "settle", shown, status=2)["error"]["code"] == "not_confirmed"
    settled = shell.json("tpm", "settle", shown, "--yes", "--reason", "ticket 7")
    assert settled["rewound_at"] is None
    assert "ticket 7" in shell.vendor("audit", "list")
    Path("three.tallyreq").write_bytes(chip.step().request())
    shell.vendor("issue", "three.tallyreq", "--output", "three.tallyupd")


def test_what_is_withheld_is_said(shell: Shell) -> None:
    shop = opened(shell)
    Path("roots").write_bytes(root().der)
    Path("below").write_bytes(maker().der)
    shell.vendor("tpm", "root", "add", "roots", "below")
    shop.sell("two", Terms(min_level=2))
    Path("one.tallyreq").write_bytes(Chip(shop).request(shop.entitle("two").code.reveal()))
    assert shell.json("issue", "one.tallyreq")["withheld"] == []
    sold = shell.json("list")["entitlements"][0]["id"]
    shell.vendor("refresh", sold, "--output", "more.tallyupd")
    assert "1 withheld" in shell.err
    (update,) = shell.json("refresh", sold)["updates"]
    assert (update["licenses"], len(update["withheld"])) == ([], 1)


def test_certificates_kept_are_deleted_after_a_question(shell: Shell) -> None:
    shop = opened(shell)
    shell.vendor("settings", "keep_ek_certificates", "yes")
    Chip(shop, ek=rsa_key("EK")).ask(shop.entitle().code.reveal())
    assert shell.json("tpm", "list")["containers"][0]["certificate_kept"] is True
    asked = shell.json("settings", "keep_ek_certificates", "no", status=2)["error"]
    assert (asked["code"], "1 certificates" in asked["message"]) == ("not_confirmed", True)
    shell.vendor("settings", "keep_ek_certificates", "no", "--yes")
    assert shell.json("tpm", "list")["containers"][0]["certificate_kept"] is False
