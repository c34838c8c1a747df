# SPDX-License-Identifier: Apache-2.0
"""Recognizes virtual machines, WSL and OS containers, because what identifies a computer differs there.

The order matters: a container in a virtual machine is a container (its root file system and machine-id say nothing),
and WSL is a virtual machine with habits of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tallystick.backends.traits.base import PHYSICAL, Profile
from tallystick.backends.traits.tree import Tree

_CONTAINER_ADVICE: Final = (
    "A new run of this container may not be recognized: mount a secret file and name it with `?identity-file=PATH`, "
    "and keep the license container's folder on a volume."
)
_VM_ADVICE: Final = "A clone of this virtual machine is another computer: give up the licenses before cloning it."
_WSL_ADVICE: Final = "Licenses activated here are not those of Windows itself; resetting the distribution loses them."

_DMI: Final = ("sys_vendor", "product_name", "board_vendor", "bios_vendor", "product_version")

# What firmware tables and hypervisors call themselves -> product. Bare-metal machines of these vendors ("Amazon EC2",
# "Microsoft Corporation", "Google") are told apart by more than the vendor's name.
_VENDORS: Final = (
    ("vmware", "VMware"), ("virtualbox", "VirtualBox"), ("innotek", "VirtualBox"), ("qemu", "QEMU"), ("kvm", "KVM"),
    ("bochs", "QEMU"), ("xen", "Xen"), ("parallels", "Parallels"), ("bhyve", "bhyve"), ("openstack", "OpenStack"),
    ("virtual machine", "Hyper-V"), ("google compute engine", "Google Compute Engine"), ("rhev", "oVirt"),
    ("ovirt", "oVirt"),
    ("virtualmac", "Apple Virtualization"), ("apple virtualization", "Apple Virtualization"), ("nutanix", "Nutanix"),
    ("digitalocean", "DigitalOcean"), ("vserver", "Hetzner Cloud"), ("alibaba cloud ecs", "Alibaba Cloud"),
    ("crosvm", "crosvm"), ("firecracker", "Firecracker"), ("cloud hypervisor", "Cloud Hypervisor"),
)  # fmt: skip

_CGROUPS: Final = (
    (re.compile(r"/kubepods"), "kubernetes"),
    (re.compile(r"/docker[/-][0-9a-f]{64}"), "docker"),
    (re.compile(r"/libpod-[0-9a-f]{64}"), "podman"),
    (re.compile(r"/(?:cri-)?containerd[/-]"), "containerd"),
    (re.compile(r"/lxc[./]"), "lxc"),
)


def detect_profile(tree: Tree, environ: Mapping[str, str]) -> Profile:
    """Say what kind of computer a Linux system runs on.

    Args:
        tree: the file system.
        environ: the process environment, where Kubernetes announces itself; may be empty.

    Returns:
        The profile, with the advice to show; `base.PHYSICAL` where nothing points elsewhere.
    """
    version = (tree.text("/proc/version") or "").lower()
    container = _container(tree, environ)
    if container:
        return Profile("container", container, _CONTAINER_ADVICE)
    if "microsoft" in version:
        return Profile("wsl", "WSL2" if "wsl2" in version or "microsoft-standard" in version else "WSL1", _WSL_ADVICE)
    return vm_profile(_hypervisor(tree))


def vm_profile(product: str) -> Profile:
    """Make the profile of a virtual machine.

    Args:
        product: its name; empty for a physical computer.

    Returns:
        The profile.
    """
    return Profile("vm", product, _VM_ADVICE) if product else PHYSICAL


def hypervisor_named(*texts: str) -> str:
    """Find a hypervisor's name in what firmware says of vendor and model.

    Args:
        texts: the fields.

    Returns:
        The product, empty where none is recognized.
    """
    said = " ".join(texts).lower()
    return next((product for mark, product in _VENDORS if mark in said), "")


def _container(tree: Tree, environ: Mapping[str, str]) -> str:
    """Name the container runtime, empty outside of one."""
    manager = tree.text("/run/systemd/container") or ""
    if (
        "KUBERNETES_SERVICE_HOST" in environ
        or tree.exists("/run/secrets/kubernetes.io")
        or tree.exists("/var/run/secrets/kubernetes.io")
        or (tree.text("/etc/hosts") or "").startswith("# Kubernetes-managed")  # the kubelet writes it so
    ):
        return "kubernetes"
    if tree.exists("/.dockerenv"):
        return "docker"
    if tree.exists("/run/.containerenv"):
        return "podman"
    if manager and manager != "wsl":  # systemd in WSL calls itself a container, too
        return manager
    groups = (tree.text("/proc/self/cgroup") or "") + (tree.text("/proc/1/cgroup") or "")
    return next((runtime for pattern, runtime in _CGROUPS if pattern.search(groups)), "")


def _hypervisor(tree: Tree) -> str:
    """Name the hypervisor under a Linux system, empty on bare metal."""
    said = [tree.text(f"/sys/class/dmi/id/{name}") or "" for name in _DMI]
    flags = _has_hypervisor_flag(tree.text("/proc/cpuinfo") or "")
    kind = tree.text("/sys/hypervisor/type") or ""
    if kind == "xen" and "control_d" in (tree.text("/proc/xen/capabilities") or ""):
        return ""  # the host's own system (dom0) owns the hardware
    if product := hypervisor_named(kind, *said):
        return product
    if flags:
        return said[0] or "unknown hypervisor"
    return "KVM" if tree.exists("/sys/firmware/devicetree/base/hypervisor") else ""


def _has_hypervisor_flag(cpuinfo: str) -> bool:
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return "hypervisor" in flags.split()
