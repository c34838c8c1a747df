# SPDX-License-Identifier: Apache-2.0
"""Which file system a folder is on, and whether it is one a container may live on.

A container relies on ``flock`` between processes and on an atomic, durable rename. File systems served by another
computer promise neither, so they are refused by name; the names come from the kernel's table of mounts. No I/O here.
"""

from __future__ import annotations

_POINT = 4  # the mount point's column
_NETWORK = frozenset(
    "9p acfs afpfs afs beegfs ceph cifs coda davfs fuse.ceph-fuse fuse.curlftpfs fuse.davfs2 fuse.gcsfuse "
    "fuse.glusterfs fuse.google-drive-ocamlfuse fuse.goofys fuse.juicefs fuse.mount.s3 fuse.rclone fuse.s3fs "
    "fuse.smbnetfs fuse.sshfs fuse.vmhgfs-fuse gpfs lustre ncpfs nfs nfs4 orangefs prl_fs smb2 smb3 smbfs "
    "vboxsf".split()
)


def is_network(kind: str) -> bool:
    """Tell whether a file system of this kind is served by another computer or another kernel.

    Args:
        kind: the name the kernel gives the file system, for example ``ext4`` or ``fuse.sshfs``.

    Returns:
        True when neither locks nor renames can be relied on there.
    """
    return kind in _NETWORK


def mount_kind(mountinfo: str, major: int, minor: int, path: str) -> str | None:
    """Find the file system of a folder in the text of ``/proc/self/mountinfo``.

    Args:
        mountinfo: the whole table.
        major: major number of the folder's ``st_dev``.
        minor: minor number of the folder's ``st_dev``.
        path: the folder's absolute path without symbolic links, used where the numbers are in no row (btrfs).

    Returns:
        The kind, for example ``ext4`` or ``nfs4``; None when the table does not tell.
    """
    device = f"{major}:{minor}"
    best = ""
    found: str | None = None
    for line in mountinfo.splitlines():
        mounted, _, rest = line.partition(" - ")
        fields = mounted.split(" ")
        if len(fields) <= _POINT or not rest:
            continue
        kind = rest.split(" ", 1)[0]
        if fields[2] == device:
            return kind
        point = _unescape(fields[_POINT])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, kind
    return found


def _unescape(field: str) -> str:
    """Undo the octal escapes of blanks, tabs, line ends and backslashes."""
    for escape, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, plain)
    return field
