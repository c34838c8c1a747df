# SPDX-License-Identifier: Apache-2.0
"""``tally vendor piv`` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from piv_rig import FIRMWARE, NUMBER, Attestation, Token, between, root
from shop import Shop
from vendor_shell import Shell

from fakes import FakeClock
from tallystick.codec.ident import container_id


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
    Path("root.der").write_bytes(root().der)
    Path("between.pem").write_bytes(b"".join(one.certificate.public_bytes(Encoding.PEM) for one in between()))
    assert shell.json("piv", "root", "list") == {"pinned": []}
    assert shell.vendor("piv", "root", "add", "root.der", "between.pem") == ""
    assert "root CN=Yubico Root of the Tests" in shell.err
    assert "intermediate CN=Yubico PIV of the Tests" in shell.err
    found = shell.json("piv", "root", "list")["pinned"]
    assert sorted((one["kind"], one["maker"]) for one in found) == [("intermediate", "Yubico")] * 2 + [
        ("root", "Yubico")
    ]
    assert shell.json("tpm", "root", "list") == {"pinned": []}
    assert "CN=Yubico Intermediate of the Tests" in shell.vendor("piv", "root", "list")
    (key,) = (one["id"] for one in found if one["kind"] == "root")
    asked = shell.json("piv", "root", "remove", key[:12], status=2)["error"]
    assert (asked["code"], "CN=Yubico Root" in asked["message"]) == ("not_confirmed", True)
    assert shell.json("piv", "root", "remove", key[:12], "--yes")["id"] == key
    shell.vendor("piv", "root", "remove", key[:12], "--yes", status=4)
    (again,) = shell.json("piv", "root", "add", "between.pem", "--as-root")["pinned"][1:]
    assert again["kind"] == "root"
    shell.vendor("piv", "root", "remove", again["id"], "--yes")
    assert "counts for nothing" in shell.err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("root", "add", "nowhere.pem"), 2),
        (("root", "add", "nothing.pem"), 3),
        (("root", "remove", "beef", "--yes"), 4),
    ],
)
def test_every_mistake_has_a_remedy(shell: Shell, arguments: tuple[str, ...], status: int) -> None:
    shell.vendor("init", "acme")
    Path("nothing.pem").write_bytes(b"nothing")
    shell.vendor("piv", *arguments, status=status)
    assert "remedy:" in shell.err
    assert "error" in shell.json("piv", *arguments, status=status)


def test_containers_are_listed_with_what_their_tokens_said(shell: Shell) -> None:
    shop = opened(shell)
    Path("root.der").write_bytes(root().der)
    token = Token(shop)
    Path("one.tallyreq").write_bytes(token.request(shop.entitle().code.reveal()).sign(token.identity))
    shell.vendor("issue", "one.tallyreq", "--output", "one.tallyupd")
    assert "tally vendor piv root add" in shell.err
    assert shell.json("piv", "list") == {"containers": []}
    shell.vendor("piv", "root", "add", "root.der")
    Path("two.tallyreq").write_bytes(token.request().sign(token.identity))
    shell.vendor("issue", "two.tallyreq", "--output", "two.tallyupd")
    (known,) = shell.json("piv", "list")["containers"]
    seen = known.pop("seen_at")
    assert isinstance(seen, int)
    assert known == {
        "container": container_id(token.thumbprint),
        "level": 2,
        "firmware": "5.7.4",
        "slot": "9a",
        "pin_policy": "once",
        "touch_policy": "never",
        "form_factor": "USB-A keychain",
        "fips": False,
        "serial": None,
    }
    assert "5.7.4" in shell.vendor("piv", "list", "--limit", "1")


def test_serial_numbers_kept_are_deleted_after_a_question(shell: Shell) -> None:
    shop = opened(shell)
    Path("root.der").write_bytes(root().der)
    shell.vendor("piv", "root", "add", "root.der")
    shell.vendor("settings", "keep_serials", "yes")
    Token(shop).ask(shop.entitle().code.reveal())
    assert shell.json("piv", "list")["containers"][0]["serial"] == NUMBER
    asked = shell.json("settings", "keep_serials", "no", status=2)["error"]
    assert (asked["code"], "1 serial numbers" in asked["message"]) == ("not_confirmed", True)
    shell.vendor("settings", "keep_serials", "no", "--yes")
    assert shell.json("piv", "list")["containers"][0]["serial"] is None


def test_firmware_of_tokens_is_capped_where_that_of_tpms_is(shell: Shell) -> None:
    shop = opened(shell)
    assert "EUCLEAK" in shell.vendor("tpm", "advisory", "list")
    shell.vendor("tpm", "advisory", "add", "YUBI", "--from", "5.7", "--to", "5.8", "--reason", "notice 7")
    Path("root.der").write_bytes(root().der)
    shell.vendor("piv", "root", "add", "root.der")
    token = Token(shop, Attestation(wrong={FIRMWARE: b"\x05\x08\x00"}))
    assert "notice 7" in token.ask(shop.entitle().code.reveal()).warnings[0]
