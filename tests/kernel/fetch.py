# SPDX-License-Identifier: Apache-2.0
"""The kernel to boot: the distribution's own, downloaded by apt-get, unpacked as far as needed, never installed.

The mirror drops a kernel when its successor is out, so its name is asked for each time. What was unpacked stays in a
cache folder outside the source tree: ``TALLYSTICK_CACHE``, or the user's own. ``TALLYSTICK_KERNEL`` names another
kernel: a package file, or a folder with ``boot`` and ``lib/modules`` (or ``usr/lib/modules``) in it.

    python tests/kernel/fetch.py      # download now, print where it is
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

META_PACKAGE, BUSYBOX = "linux-image-amd64", "busybox-static"
_DRIVERS = ("drivers/usb/", "drivers/virtio/", "drivers/net/", "drivers/char/", "net/9p/", "net/core/", "fs/9p/")
_CACHES = ("fs/netfs/", "fs/fscache/", "fs/configfs/")
_NET = ("virtio_net", "net_failover")


class Unavailable(Exception):  # noqa: N818 - a machine that cannot is not an error
    """This machine has no kernel to boot; says why."""


@dataclass(frozen=True)
class Kernel:
    """What a machine boots.

    Attributes:
        release: as ``uname -r`` says it.
        image: the file QEMU is given.
        modules: the folder of this release's modules.
        busybox: a static one.
    """

    release: str
    image: Path
    modules: Path
    busybox: Path


def cache() -> Path:
    """The folder of what was downloaded."""
    named = os.environ.get("TALLYSTICK_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_path("tallystick"))


def kernel() -> Kernel:
    """Find the kernel, downloading what is missing.

    Raises:
        Unavailable: there is no apt-get, no such package, or no way to it.
    """
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"the program {tool}, which gets the kernel, is not here")
    place = cache() / "kernel"
    place.mkdir(parents=True, exist_ok=True)
    newest, busybox = _current()
    named = os.environ.get("TALLYSTICK_KERNEL")
    if named and not Path(named).exists():
        raise Unavailable(f"there is no {named}, which TALLYSTICK_KERNEL names")
    if not named:
        unpacked = _unpacked(_downloaded(*newest, place), place, _wanted)
    else:
        unpacked = Path(named) if Path(named).is_dir() else _unpacked(Path(named), place, _wanted)
    tools = _unpacked(_downloaded(*busybox, place), place, lambda path: path.parts[-2:] == ("bin", "busybox"))
    return _kernel(unpacked, place, next(tools.rglob("busybox")))


def _kernel(unpacked: Path, place: Path, busybox: Path) -> Kernel:
    found = [path for base in ("lib/modules", "usr/lib/modules") for path in sorted((unpacked / base).glob("*"))]
    if not found:
        raise Unavailable(f"there are no kernel modules in {unpacked}")
    release = found[-1].name
    compressed = unpacked / "boot" / f"vmlinuz-{release}"
    if not compressed.exists():
        raise Unavailable(f"there is no {compressed}")
    plain = place / f"vmlinux-{unpacked.name}-{compressed.stat().st_mtime_ns:x}"
    return Kernel(release, _bootable(compressed, plain), found[-1], busybox)


def _current() -> tuple[tuple[str, str], tuple[str, str]]:
    """Name and version of the newest kernel, behind the package that always depends on it, and of busybox."""
    shown = _run("apt-cache", "show", "--no-all-versions", META_PACKAGE, BUSYBOX)
    rows = [dict(line.split(": ", 1) for line in one.splitlines() if ": " in line) for one in shown.split("\n\n")]
    about = {row["Package"]: row for row in rows if "Package" in row}
    depends = about.get(META_PACKAGE, {}).get("Depends", "")
    found = re.search(r"(linux-image-[^ ,]+) \(= ([^)]+)\)", depends)
    if found is None or BUSYBOX not in about:
        raise Unavailable(f"apt-cache knows no package {META_PACKAGE} or {BUSYBOX}; `apt-get update` may help")
    return (found[1], found[2]), (BUSYBOX, about[BUSYBOX]["Version"])


def _downloaded(package: str, version: str, place: Path) -> Path:
    """The package's file."""
    stem = f"{package}_{version.replace(':', '%3a')}"
    known = sorted(place.glob(f"{stem}_*.deb"))
    if not known:
        for old in place.glob(f"*{'-'.join(package.split('-')[:2])}*"):  # earlier releases: 150 MB each
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        _run("apt-get", "-q", "download", f"{package}={version}", folder=place)
        known = sorted(place.glob(f"{stem}_*.deb"))
    if not known:
        raise Unavailable(f"apt-get has downloaded no file of {stem}")
    return known[-1]


def _wanted(path: PurePosixPath) -> bool:
    text = str(path)
    if path.name.startswith("vmlinuz-") or path.name == "modules.builtin":
        return True
    _, found, inside = text.partition("/kernel/")
    if not found or "lib/modules/" not in text:
        return False
    if inside.startswith("drivers/net/"):
        return any(name in inside for name in _NET)
    return inside.startswith(_DRIVERS + _CACHES)


def _unpacked(package: Path, place: Path, wanted: Callable[[PurePosixPath], bool]) -> Path:
    """A folder with the wanted files of a package; made once, whole or not at all."""
    folder = place / package.stem
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=place) as made:
        half = Path(made) / "half"
        half.mkdir()
        reading = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        assert reading.stdout is not None
        try:
            with reading, tarfile.open(fileobj=reading.stdout, mode="r|") as archive:
                for member in archive:
                    if member.isfile() and wanted(PurePosixPath(member.name)):
                        archive.extract(member, half, filter="data")
        except tarfile.ReadError as why:
            raise Unavailable(f"{package} is no package: {why}") from why
        half.rename(folder)
    return folder


def _bootable(compressed: Path, target: Path) -> Path:
    """The kernel inside a bzImage, which starts 4 s earlier than if the guest unpacks it; the bzImage where that fails.

    Boot protocol 2.08: setup sectors at 0x1F1, the payload's place and size at 0x248.
    """
    if target.exists():
        return target
    data = compressed.read_bytes()
    start, size = struct.unpack_from("<II", data, 0x248)
    payload = data[((data[0x1F1] or 4) + 1) * 512 + start :][:size]
    if payload.startswith(b"\xfd7zXZ\0"):
        plain = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        plain = zlib.decompressobj(31).decompress(payload)
    else:
        return compressed
    if not plain.startswith(b"\x7fELF"):
        return compressed
    half = target.with_name(f"{target.name}.{os.getpid()}")
    half.write_bytes(plain)
    half.rename(target)
    return target


def _run(*command: str, folder: Path | None = None) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=folder, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as why:
        raise Unavailable(f"{' '.join(command)}: {why}") from why
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(kernel())
    except Unavailable as reason:
        sys.exit(f"no kernel: {reason}")
