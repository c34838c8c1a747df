# SPDX-License-Identifier: Apache-2.0
"""Schemes and their backends: built-in ones, plug-ins of others, and what is said of those that do not work."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tallystick import registry
from tallystick.backends.file import FileBackend
from tallystick.errors import TallystickError


class EntryPoint:
    """What the registry reads of an entry point."""

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value


class Explosive:
    """A plug-in that is broken in a way of its own."""

    def __init__(self) -> None:
        raise RuntimeError("no such device node")


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The plug-ins installed; the test adds to them."""
    installed: list[EntryPoint] = []
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: installed if group == registry.ENTRY_POINTS else []
    )
    return installed


def refused(uri: str) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        registry.backend(uri)
    return caught.value


def test_file_is_built_in() -> None:
    assert isinstance(registry.backend("file:"), FileBackend)


@pytest.mark.parametrize("uri", ["", "file", ":", "fi le:", "/home/me", "ä:x", "a-b:x"])
def test_what_is_no_uri_is_said_to_be_none(uri: str) -> None:
    assert refused(uri).code == "bad_uri"


def test_an_unknown_scheme_is_named(plug_ins: list[EntryPoint]) -> None:
    refusal = refused("carrier:pigeon")
    assert refusal.code == "unknown_scheme"
    assert refusal.details == {"scheme": "carrier"}


def test_a_plug_in_is_found_by_its_scheme_and_loaded_when_used(plug_ins: list[EntryPoint]) -> None:
    plug_ins.append(EntryPoint("mine", "tallystick.backends.file:FileBackend"))
    plug_ins.append(EntryPoint("absent", "no.such.module:Backend"))
    assert isinstance(registry.backend("mine:x"), FileBackend)
    assert refused("absent:x").code == "backend_unavailable"


def test_a_built_in_scheme_cannot_be_replaced(plug_ins: list[EntryPoint]) -> None:
    plug_ins.append(EntryPoint("file", "test_registry:Explosive"))
    assert isinstance(registry.backend("file:"), FileBackend)
    assert len([row for row in registry.availability() if row.scheme == "file"]) == 1


def test_a_broken_plug_in_spoils_nothing_but_itself(
    plug_ins: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tally doctor` lists every backend, whatever somebody else's code raises when it is loaded."""
    plug_ins.append(EntryPoint("broken", f"{__name__}:Explosive"))
    plug_ins.append(EntryPoint("nameless", "tallystick.backends.file:NoSuchClass"))
    monkeypatch.setitem(__import__("sys").modules, __name__, _this())
    rows = {row.scheme: row for row in registry.availability()}
    assert rows["file"].available
    assert not rows["broken"].available
    assert "no such device node" in rows["broken"].reason
    assert not rows["nameless"].available
    refusal = refused("broken:x")
    assert refusal.code == "backend_unavailable"
    assert isinstance(refusal.__cause__, RuntimeError)


class Refusing:
    """Fails as an import does."""

    def __init__(self, reason: ImportError) -> None:
        self._reason = reason

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse the library of TPMs."""
        if name == "tpm2_pytss":
            raise self._reason


@pytest.mark.parametrize(
    ("reason", "says", "remedy"),
    [
        (
            ModuleNotFoundError("No module named 'tpm2_pytss'", name="tpm2_pytss"),
            "tpm: containers need the extra 'tpm'",
            'Install it: sudo apt install libtss2-dev && pip install "tallystick[tpm]"',
        ),
        (
            ImportError("libtss2-esys.so.0: cannot open shared object file"),
            "the library of the extra 'tpm' does not load: libtss2-esys.so.0: cannot open shared object file",
            "Install what it needs: sudo apt install libtss2-dev",
        ),
    ],
)
def test_an_extra_that_is_missing_and_one_that_does_not_load_are_told_apart(
    reason: ImportError, says: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tpm2_pytss", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(reason), *sys.meta_path])
    refusal = refused("tpm:")
    assert (refusal.code, refusal.message, refusal.remedy) == ("backend_unavailable", says, remedy)
    row = next(row for row in registry.availability() if row.scheme == "tpm")
    assert (row.available, row.reason, row.remedy) == (False, says, remedy)


def _this() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(Explosive=Explosive)
