# SPDX-License-Identifier: Apache-2.0
"""The guest's first and only file system: busybox, the modules needed, and a script that mounts the rest read-only.

`initramfs` returns the archive the kernel unpacks: cpio, "newc", see its early-userspace/buffer-format.rst. Nothing is
compressed and nothing is built on disk: 5 MB, made in 0.1 s.
"""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

MODULES = (
    "virtio_pci", "virtio_console", "virtio_net", "virtio_rng", "9pnet_virtio", "9p",
    "usbcore", "vhci_hcd", "dummy_hcd", "libcomposite", "usb_f_fs", "tpm_crb",
)  # fmt: skip
LOADED_LATER = frozenset({"dummy_hcd", "libcomposite", "usb_f_fs"})
"""By the tests, which first look what is said without them; they lie in ``/modules``, in `order`."""
SEAT, OTHER, REMOTE, MEMBER = 1000, 1001, 1002, 1003
"""Users of the guest: at the seat, another one, one in the group ``plugdev``, and one in the group ``tss``."""
PLUGDEV, TSS = 46, 108

_GROUPS = {
    "root": 0, "tty": 5, "disk": 6, "lp": 7, "kmem": 15, "dialout": 20, "cdrom": 24, "tape": 26, "audio": 29,
    "video": 44, "input": 104, "render": 105, "kvm": 106, "sgx": 107, "tss": TSS, "plugdev": PLUGDEV,
    "seat": SEAT, "other": OTHER, "remote": REMOTE, "member": MEMBER,
}  # fmt: skip
"""Every group the rules of udev name: it complains where one is missing."""
_MEMBERS = {"plugdev": "remote", "tss": "member"}

_INIT = r"""#!/busybox sh
b=/busybox
$b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc; $b mount -t sysfs sys /sys
$b mkdir -p /dev/shm /dev/pts
$b mount -t tmpfs -o mode=755 tmpfs /run
for d in /dev/shm /tmp; do $b mount -t tmpfs -o mode=1777 tmpfs $d; done
for m in @MODULES@; do $b insmod /modules/$m || echo "insmod $m failed"; done
i=0
for s in @SHARES@; do
    $b mkdir -p $s
    $b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose share$i $s || echo "mount $s failed"
    i=$((i+1))
done
$b ip link set lo up
$b ip link set eth0 up && $b ip addr add 10.0.2.15/24 dev eth0
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
cd @FOLDER@
for p in /sys/class/virtio-ports/*; do [ "$($b cat $p/name)" = talk ] && port=/dev/${p##*/}; done
@COMMAND@ $port >/dev/console 2>&1 </dev/null
echo "the program ended with status $?" >/dev/console
$b sync; $b poweroff -f; $b reboot -f
"""


def initramfs(
    modules: Path,
    busybox: Path,
    shares: Sequence[Path],
    folder: Path,
    command: str,
    later: Iterable[str] = LOADED_LATER,
) -> bytes:
    """Make the archive.

    Args:
        modules: folder of the kernel's modules.
        busybox: the program.
        shares: folders mounted where they are on the host, in the order of QEMU's devices.
        folder: where the command runs.
        command: what the guest is for; it is given the path of the port it talks through.
        later: modules that are there but not loaded.
    """
    files = order(modules, MODULES)
    names = {path: _stem(path) for path in files}
    early = set(order(modules, [name for name in MODULES if name not in set(later)]))
    archive = _Archive()
    for name in ("dev", "proc", "sys", "run", "tmp", "modules", "etc", "root", "var", "usr"):
        archive.folder(name)
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.link(name, f"usr/{name}")
    archive.link("var/run", "../run")
    archive.console()
    archive.file("busybox", busybox.read_bytes(), 0o755)
    for path in files:
        archive.file(f"modules/{names[path]}.ko", _content(path))
    archive.file("modules/order", "".join(f"{names[path]}\n" for path in files if path not in early).encode())
    archive.file("etc/passwd", _passwd())
    archive.file("etc/group", _group())
    archive.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n")
    if (cached := Path("/etc/ld.so.cache")).exists():
        archive.file("etc/ld.so.cache", cached.read_bytes())
    script = _INIT.replace("@MODULES@", " ".join(f"{names[path]}.ko" for path in files if path in early))
    script = script.replace("@SHARES@", " ".join(map(str, shares))).replace("@FOLDER@", str(folder))
    archive.file("init", script.replace("@COMMAND@", command).encode(), 0o755)
    return archive.end()


def order(modules: Path, names: Iterable[str]) -> list[Path]:
    """The files of modules and of what they depend on, in an order in which they load.

    Args:
        modules: folder of the kernel's modules.
        names: with underscores.
    """
    files = {_stem(path): path for path in modules.rglob("*.ko*")}
    builtin = {_stem(Path(line)) for line in (modules / "modules.builtin").read_text(encoding="ascii").split()}
    found: list[Path] = []

    def add(name: str) -> None:
        if name in builtin:
            return
        path = files[name]
        for needed in _depends(path):
            add(needed)
        if path not in found:
            found.append(path)

    for name in names:
        add(name)
    return found


def _stem(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _depends(path: Path) -> list[str]:
    """What modinfo says: a line of the section ``.modinfo``, ended by zero."""
    _, found, rest = _content(path).partition(b"\0depends=")
    return [name.replace("-", "_") for name in rest.split(b"\0", 1)[0].decode().split(",") if name] if found else []


def _passwd() -> bytes:
    users = {"root": 0, "tss": TSS, "seat": SEAT, "other": OTHER, "remote": REMOTE, "member": MEMBER}
    return "".join(f"{name}:x:{uid}:{uid}::/tmp/{name}:/bin/sh\n" for name, uid in users.items()).encode()


def _group() -> bytes:
    return "".join(f"{name}:x:{gid}:{_MEMBERS.get(name, '')}\n" for name, gid in _GROUPS.items()).encode()


class _Archive:
    """A cpio archive in memory."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._entries = 0

    def folder(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self._add(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def console(self) -> None:
        """The kernel opens it before anything is mounted."""
        self._add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))

    def end(self) -> bytes:
        self._add("TRAILER!!!", 0)
        return bytes(self._data)

    def _add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._entries += 1
        path = name.encode() + b"\0"
        fields = (self._entries, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._pad()
        self._data += data
        self._pad()

    def _pad(self) -> None:
        self._data += bytes(-len(self._data) % 4)
