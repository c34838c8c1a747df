# SPDX-License-Identifier: Apache-2.0
"""The narrow way to a PKCS#11 module: named operations on plain values.

A module is somebody else's code in our address space. Everything Tallystick wants of one goes through `Port.call`, so
that it may as well be loaded in a process of its own (`backends.pkcs11.isolation`): a crash, a hang or a damaged memory
is then an error with a code.

| operation | arguments | value |
|---|---|---|
| tokens | | list of maps: slot, label, serial, manufacturer, model, flags, mechanisms, slot_*, library_* |
| login | slot, PIN or None (the token asks on its own pad) | |
| enter_freely | slot | of a token that asks for no login |
| is_open | slot | whether there is a session that is logged in |
| public_keys | slot | list of [id, label, 65 bytes of a point on P-256, a modulus of RSA, or nothing], without login |
| private_keys | slot | list of [id, label] |
| certificates | slot | list of [id, label, DER] |
| generate | slot, id, label, purpose | what was read back: see `objects.READ`; with "public" |
| attributes | slot, id | the same of a key that is there |
| sign | slot, id, digest of 32 bytes, point of 65 bytes, or none, that tells keys of the same id apart | signature |
| sign_pss | slot, id, digest of 32 bytes | signature |
| derive | slot, id, point of 65 bytes | 32 bytes, the x coordinate |
| data | slot, beginning of the label | list of [label, value] |
| put_data | slot, label, value | |
| drop_data, drop_key | slot, label or id | how many objects were destroyed |
| wrappers | slot | labels of what may wrap or unwrap |
| leave | slot | |
| refresh | | after it, everything is looked at anew |
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from tallystick.container.secrets import Pin

Value: TypeAlias = bool | int | str | bytes | list["Value"] | dict[str, "Value"] | None
"""What goes in and out; of CBOR's types."""

Argument: TypeAlias = Value | Pin


class Port(Protocol):
    """A module, loaded somewhere. Operations raise what `backends.pkcs11.refusals` tells."""

    def call(self, operation: str, *arguments: Argument) -> Value:
        """Let the module do something.

        Args:
            operation: one of the module's table.
            arguments: of it.

        Returns:
            Its value.

        Raises:
            LockedError: ``pin_wrong``, ``pin_blocked``, ``pin_needed``.
            BackendError: ``device_removed``: what was open is not open any more; ``device_silent``: the module does
                not answer in time; ``chip_full``; ``backend_failed``.
            BackendUnavailableError: the module cannot be loaded.
            ContainerError: ``not_supported``.
        """

    def close(self) -> None:
        """Let go of the module; sessions nobody else uses are closed."""
