# SPDX-License-Identifier: Apache-2.0
"""A virtual machine in software: boots a kernel, runs one program in it, and talks with that program line by line.

Nothing of the host is needed but QEMU: no KVM, no privilege, no disk image. The guest sees the folders it is given,
read-only, and of the network one TCP port of the host's loopback, at `SERVER`. What it says are lines of JSON; a line
``{"ask": name, ...}`` is answered by whoever started the machine.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fetch import Kernel
from host_tpm import SoftwareTpm
from initramfs import LOADED_LATER, initramfs

QEMU = "qemu-system-x86_64"
SERVER = ("10.0.2.100", 3240)
"""Where the guest finds the port of the host it may reach."""
_APPEND = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=unstable net.ifnames=0"
_ARCHIVE_AT, _MIB = 0x1000_0000, 1 << 20
"""Where in its memory the guest finds its file system. QEMU's own ``-initrd`` would do, but QEMU 7.2 writes it over the
tables of ACPI, which are larger where there is a TPM, if the kernel starts unpacked: no TPM, no way to switch off."""

Answer = Callable[[dict[str, Any]], Any]


def obstacle(shares: Iterable[Path]) -> str:
    """Why no machine can be started here; empty where one can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the kernel test needs Linux on x86-64: the guest runs the host's own programs"
    if shutil.which(QEMU) is None:
        return f"the program {QEMU} is not installed"
    for needed in ("/usr/bin/udevadm", "/usr/lib/systemd/systemd-udevd"):
        if not Path(needed).exists():
            return f"{needed} is not there (Debian package udev)"
    if not any(Path("/usr/lib").glob("*/libusb-1.0.so.0")):
        return "libusb is not installed (Debian package libusb-1.0-0)"
    for folder in shares:
        if re.search(r"[\s,'\"$`\\]", str(folder)):
            return f"the guest cannot mount {folder}: spaces and the like in its path"
        if folder.stat().st_mode & 0o5 != 0o5:
            return f"the guest's users could not read {folder}: its mode shuts others out"
    return ""


def shared(project: Path) -> list[Path]:
    """The folders a program of the project's environment needs: the system's, the interpreter's and the project's."""
    wanted = [Path("/usr"), Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), project.resolve()]
    found: list[Path] = []
    for folder in sorted(wanted, key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(other) for other in found):
            found.append(folder)
    return found


def _placed(size: int) -> str:
    """Tells the kernel where its file system is, and to leave the place alone until it has taken it."""
    return f"initrdmem={_ARCHIVE_AT:#x},{size} memmap={size // _MIB + 1}M${_ARCHIVE_AT:#x}"


def _shares(shares: list[Path]) -> Iterator[str]:
    for number, share in enumerate(shares):
        yield from ("-fsdev", f"local,id=share{number},path={share},security_model=none,readonly=on,multidevs=remap")
        yield from ("-device", f"virtio-9p-pci,fsdev=share{number},mount_tag=share{number}")


def _tpm(tpm: SoftwareTpm | None) -> Iterator[str]:
    if tpm is not None:
        yield from ("-chardev", f"socket,id=tpm,path={tpm.control}", "-tpmdev", "emulator,id=chip,chardev=tpm")
        yield from ("-device", "tpm-crb,tpmdev=chip")


class Machine:
    """One boot.

    Args:
        kernel: what is booted.
        folder: for sockets and logs; its path must be short.
        shares: folders the guest sees.
        port: of the host's loopback that the guest may reach.
        command: what the guest runs, the path of the port it talks through behind it.
        where: the folder it runs in.
        timeout: seconds the whole of it may take.
        later: modules that are there but not loaded.
        tpm: the one on its board; None for none.
    """

    def __init__(
        self,
        kernel: Kernel,
        folder: Path,
        shares: list[Path],
        port: int,
        command: str,
        where: Path,
        timeout: float,
        later: Iterable[str] = LOADED_LATER,
        tpm: SoftwareTpm | None = None,
    ) -> None:
        self._folder = folder
        self._end = time.monotonic() + timeout
        archive = folder / "initramfs"
        size = archive.write_bytes(initramfs(kernel.modules, kernel.busybox, shares, where, command, later))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "talk"))
        self._listener.listen(1)
        # the guest may reach nothing but this one port
        (folder / "busybox").symlink_to(kernel.busybox)
        forward = f"guestfwd=tcp:{SERVER[0]}:{SERVER[1]}-cmd:{folder / 'busybox'} nc 127.0.0.1 {port}"
        command_line = [
            QEMU, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,-avx,-avx2", "-smp", "1", "-m", "640",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", str(kernel.image), "-append", f"{_APPEND} {_placed(size)}",
            "-device", f"loader,file={archive},addr={_ARCHIVE_AT:#x},force-raw=on",
            "-serial", f"file:{folder / 'console'}",
            "-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=talk,path={folder / 'talk'}",
            "-device", "virtserialport,chardev=talk,name=talk",
            "-netdev", f"user,id=net,restrict=on,{forward}", "-device", "virtio-net-pci,netdev=net,romfile=",
            *_shares(shares), *_tpm(tpm),
        ]  # fmt: skip
        with (folder / "qemu").open("wb") as log:
            self._process = subprocess.Popen(command_line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def lines(self, answer: Answer) -> Iterator[dict[str, Any]]:
        """What the guest says until it ends, except what it asks.

        Args:
            answer: given a question, returns what JSON can say.

        Raises:
            TimeoutError: it took too long.
        """
        self._listener.settimeout(60)  # QEMU connects before it boots
        link, _ = self._listener.accept()
        with link:
            rest = b""
            while True:
                link.settimeout(max(0.01, self._end - time.monotonic()))
                data = link.recv(65536)
                if not data:
                    break
                *whole, rest = (rest + data).split(b"\n")
                for line in filter(None, whole):
                    said = json.loads(line)
                    if "ask" in said:
                        link.sendall(json.dumps(answer(said)).encode() + b"\n")
                    else:
                        yield said
        self._process.wait(max(0.01, self._end - time.monotonic()))

    def console(self) -> str:
        """The kernel's messages, the output of the guest's program, and QEMU's own complaints."""
        found = ""
        for name in ("qemu", "console"):
            if (path := self._folder / name).exists():
                found += path.read_text(encoding="utf-8", errors="replace")
        return found

    def close(self) -> None:
        """Switch it off."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.close()
