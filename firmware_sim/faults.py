# SPDX-License-Identifier: Apache-2.0
"""The fault switchboard: a device that misbehaves on demand, for tests of the host and for nothing else.

    device = FaultyDevice(function)
    device.arm("stall-in")                      # from now on
    device.arm("unplug-in", after=7)            # at the eighth packet the host asks for
    device.arm("corrupt-check", times=1)        # once, then good again
    device.disarm()

`PROFILES` names everything it can do and says at which point each fault takes hold: a descriptor is read, the host asks
for a packet or sends one, the firmware gives a reply or has none. ``after`` and ``times`` count occasions at that
point. One fault is armed at a time. What belongs to the firmware and not to USB (another key under the same serial,
a power cut at the n-th flash operation) is arranged by building another `Function`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from firmware_sim.fault_profiles import PROFILES, Armed, Profile
from firmware_sim.usb_control import Handshake
from firmware_sim.usb_device import Function, State, UsbDevice
from tallystick.errors import error

__all__ = ["PROFILES", "FaultyDevice", "Profile"]


class FaultyDevice(UsbDevice):
    """A `UsbDevice` with a switchboard; with nothing armed it is one, byte for byte.

    Args:
        function: the firmware.
        options: as `UsbDevice`.
    """

    def __init__(self, function: Function, **options: Any) -> None:
        super().__init__(function, **options)
        self.firmware = function
        self.armed: Armed | None = None
        self.fired = 0
        self.function = self._tap = _Tap(self)

    def arm(self, name: str, after: int = 0, times: int | None = None) -> None:
        """Make a fault happen.

        Args:
            name: a key of `PROFILES`.
            after: occasions to let pass first.
            times: how often it happens; None: for ever.

        Raises:
            UsageError: ``usage``: there is no such profile.
        """
        if name not in PROFILES:
            raise error("usage", f"no fault is called {name!r}")
        self._tap.forget()
        self.armed = Armed(PROFILES[name], self, after, times)
        self.fired = 0

    def disarm(self) -> None:
        """Be a good device again; what is held back is lost."""
        self._tap.forget()
        self.armed = None

    def at(self, point: str) -> Armed | None:
        """The fault that takes hold at this point now, if any; it counts as an occasion."""
        armed = self.armed
        if armed is None or armed.profile.point != point or not armed.take():
            return None
        self.fired += 1
        return armed

    def poll(self) -> bool:
        """See `UsbDevice.poll`; a fault that holds something back wants time to pass."""
        going_on = super().poll()
        if self.armed is None:
            return going_on
        self.armed.ticks += 1
        return self.armed.wants_time or going_on

    def reboot(self) -> None:
        """Fall back to the default state as if the power had failed for a moment; the host is not told."""
        self._power_on()
        self.firmware.reset()

    def token_setup(self, packet: bytes) -> Handshake:
        """See `UsbDevice.token_setup`."""
        fault = self.at("setup") if self.connected else None
        return fault.profile.act(fault) if fault else super().token_setup(packet)

    def token_in(self, endpoint: int) -> bytes | Handshake:
        """See `UsbDevice.token_in`."""
        ready = self.connected and self.state is State.CONFIGURED
        fault = self.at("in" if endpoint else "in0") if ready else None
        answer = fault.profile.act(fault) if fault else None
        if answer is None:
            answer = super().token_in(endpoint)
        if endpoint and isinstance(answer, bytes):
            fault = self.at("packet")
            answer = fault.profile.act(fault, answer) if fault else answer
        return answer

    def token_out(self, endpoint: int, data: bytes) -> Handshake:
        """See `UsbDevice.token_out`."""
        fault = self.at("out") if endpoint and self.connected and self.state is State.CONFIGURED else None
        answer = fault.profile.act(fault) if fault else None
        return super().token_out(endpoint, data) if answer is None else answer

    def _get_descriptor(self, value: int, index: int) -> bytes | None:
        genuine = super()._get_descriptor(value, index)
        armed = self.armed
        if armed is None or armed.profile.point != "descriptor" or armed.profile.descriptor != value >> 8:
            return genuine
        fault = self.at("descriptor")
        answer: bytes | None = fault.profile.act(fault, value & 0xFF, genuine) if fault else genuine
        return answer


class _Tap:
    """Sits between the device and its firmware."""

    def __init__(self, device: FaultyDevice) -> None:
        self._device = device
        self._queue: deque[bytes] = deque()
        self.serial = device.firmware.serial

    def receive(self, data: bytes) -> None:
        """See `Function`."""
        if self._device.armed is not None:
            self._device.armed.heard(data)
        fault = self._device.at("request")
        if fault is not None:
            data = fault.profile.act(fault, data)
        if data:
            self._device.firmware.receive(data)

    def transmit(self) -> bytes:
        """See `Function`."""
        if self._queue:
            return self._queue.popleft()
        data = self._device.firmware.transmit()
        armed = self._device.armed
        if data:
            genuine = data
            fault = self._device.at("reply")
            if fault is not None:
                self._queue.extend(fault.profile.act(fault, data))
                data = self._queue.popleft() if self._queue else b""
            if armed is not None:
                armed.first, armed.previous = armed.first or genuine, genuine
        if not data and armed is not None:
            data = armed.due()
        if not data:
            fault = self._device.at("idle")
            data = fault.profile.act(fault) if fault is not None else b""
        return data

    def poll(self) -> bool:
        """See `Function`."""
        return self._device.firmware.poll()

    def identify(self) -> bytes:
        """See `Function`."""
        genuine = self._device.firmware.identify()
        fault = self._device.at("identify")
        answer: bytes = fault.profile.act(fault, genuine) if fault is not None else genuine
        return answer

    def reset(self) -> None:
        """See `Function`."""
        self.forget()
        self._device.firmware.reset()

    def forget(self) -> None:
        """Drop what is held back."""
        self._queue.clear()
        if self._device.armed is not None:
            self._device.armed.held.clear()
