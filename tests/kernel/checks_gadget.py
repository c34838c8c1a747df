# SPDX-License-Identifier: Apache-2.0
"""In the guest: the dongle as a gadget, a device that the kernel itself implements (`dummy_hcd` joins both ends).

None of the project's code for the bus takes part but ``firmware_sim gadget``: a second opinion on all of it.
"""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks_bus import ALL, named
from checks_unplug import Running, figures
from guest_bus import devices, eventually, plugged, pulled
from guest_people import refusal
from guest_raw import Raw
from initramfs import SEAT

from firmware_sim.gadget_descriptors import MS_VENDOR_CODE_1
from firmware_sim.image import ImageFlash
from firmware_sim.usb_descriptors import INTERFACE_GUID

if TYPE_CHECKING:
    from guest import Guest

IMAGE, SECOND = Path("/tmp/gadget.img"), Path("/tmp/second.img")
TREES = Path("/sys/kernel/config/usb_gadget")
LOG = Path("/tmp/gadget.log")


def _start(image: Path, *options: str, uid: int = 0) -> int:
    """Start ``python -m firmware_sim gadget`` in a copy of this process, which has loaded the modules; its id."""
    LOG.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            if uid:
                os.setuid(uid)
            log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["firmware_sim", "gadget", str(image), *options]
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
            try:
                runpy.run_module("firmware_sim", run_name="__main__", alter_sys=True)
            except SystemExit as end:
                status = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return pid


def _end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _refused(image: Path, *options: str, uid: int = 0) -> str:
    """Start it where it must refuse; returns what it says."""
    status = _end(_start(image, *options, uid=uid))
    said = LOG.read_text()
    assert status == 1, said
    assert "Traceback" not in said
    assert "remedy: " in said, said
    return said


def _insert(*names: str) -> None:
    for name in names:
        subprocess.run(["/busybox", "insmod", f"/modules/{name}.ko"], check=True)


def it_says_what_it_misses(guest: Guest) -> Any:
    for image in (IMAGE, SECOND):
        ImageFlash.create(str(image), 64)  # the usual 256 pages take longer to read
    later = Path("/modules/order").read_text().split()
    assert "root" in _refused(Path("/tmp/of-a-user.img"), uid=SEAT)
    assert "modprobe libcomposite" in _refused(IMAGE)
    functions = [name for name in later if name == "usb_f_fs"]
    _insert(*[name for name in later if name not in {*functions, "dummy_hcd"}])
    subprocess.run(["/busybox", "mount", "-t", "configfs", "none", "/sys/kernel/config"], check=True)
    assert "modprobe dummy_hcd" in _refused(IMAGE)
    _insert("dummy_hcd")
    assert "no USB device controller 'nosuch'" in _refused(IMAGE, "--udc", "nosuch")
    assert "modprobe usb_f_fs" in _refused(IMAGE)
    assert [*TREES.iterdir()] == [], "what was begun is taken down again"
    _insert(*functions)


def the_kernel_finds_the_gadget(guest: Guest) -> Any:
    guest.gadget = _start(IMAGE)
    eventually(lambda: LOG.exists() and re.search("Interrupt|Error", LOG.read_text()))
    assert "Interrupt to pull it out" in LOG.read_text(), LOG.read_text()
    said = LOG.read_text()
    assert "private testing only" in said
    serial = guest.serials["gadget"] = said.partition("dongle ")[2].partition(",")[0]
    folder = plugged(serial)
    assert (folder / "speed").read_text().strip() == "480"
    assert (folder / "bMaxPower").read_text().strip() == "100mA"
    assert os.path.realpath(f"/dev/tallystick/{serial}").startswith("/dev/bus/usb/")
    return said


def windows_would_bind_winusb_to_the_gadget(guest: Guest) -> Any:
    """By Microsoft's descriptors of version 1.0: the string 0xEE, a compatible id, a property."""
    with Raw(guest.serials["gadget"]) as raw:
        assert bytes(raw.device.ctrl_transfer(0x80, 6, 0x03EE, 0, 18))[2:16].decode("utf-16-le") == "MSFT100"
        compatible = bytes(raw.device.ctrl_transfer(0xC0, MS_VENDOR_CODE_1, 0, 4, 256))
        assert compatible[18:26] == b"WINUSB\0\0"
        properties = bytes(raw.device.ctrl_transfer(0xC1, MS_VENDOR_CODE_1, 0, 5, 512))
        assert "DeviceInterfaceGUID".encode("utf-16-le") in properties
        assert INTERFACE_GUID.encode("utf-16-le") in properties
        return len(compatible), len(properties)


def figures_of_the_gadget(guest: Guest) -> Any:
    serial = guest.serials["gadget"]
    guest.running["gadget"] = Running(guest, f"usb:serial={serial}", "render")
    return figures(guest, "gadget on dummy_hcd", serial, guest.running["gadget"])


def nobody_else_gets_its_image_or_its_port(guest: Guest) -> Any:
    said = _refused(IMAGE) + _refused(SECOND)
    assert "another program uses" in said
    assert "another dongle is on dummy_udc.0" in said
    with Raw(guest.serials["gadget"]) as raw:
        raw.echo()
    return said


def a_killed_gadget_is_gone_and_its_successor_goes_on(guest: Guest) -> Any:
    """SIGKILL in the middle of what it does: what it leaves behind is cleared away, the account is whole."""
    running, serial = guest.running["gadget"], guest.serials["gadget"]
    before = running.used()
    begun = time.monotonic()
    os.kill(guest.gadget, signal.SIGKILL)
    code = refusal(lambda: running.seat.consume(1))
    assert code == "device_removed"
    _end(guest.gadget)
    pulled(serial)
    assert [path.name for path in TREES.iterdir()] == ["tallystick-dummy_udc.0"]
    steps = [time.monotonic() - begun]
    guest.gadget = _start(IMAGE)
    eventually(lambda: serial in devices())
    steps.append(time.monotonic() - begun)
    running.seat.consume(1)
    steps.append(time.monotonic() - begun)
    assert before == running.used() - 1
    return steps


def it_leaves_nothing_behind(guest: Guest) -> Any:
    running = guest.running.pop("gadget")
    os.kill(guest.gadget, signal.SIGTERM)
    assert _end(guest.gadget) == 0, LOG.read_text()
    pulled(guest.serials["gadget"])
    assert refusal(lambda: running.seat.consume(1)) == "device_removed"
    running.container.close()
    assert [*TREES.iterdir()] == []
    assert "functionfs" not in Path("/proc/self/mounts").read_text()
    assert not Path("/run/tallystick-dummy_udc.0").exists()


CHECKS = (
    it_says_what_it_misses,
    the_kernel_finds_the_gadget,
    *[named(check, "by_the_gadget", "gadget") for check in ALL],
    windows_would_bind_winusb_to_the_gadget,
    figures_of_the_gadget,
    nobody_else_gets_its_image_or_its_port,
    a_killed_gadget_is_gone_and_its_successor_goes_on,
    it_leaves_nothing_behind,
)
