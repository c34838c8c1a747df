# SPDX-License-Identifier: Apache-2.0
"""What the readers make of computers: Linux by file trees, macOS and Windows by what their tools print."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from backends import computer as world
from backends.computer import Computer, Hand
from tallystick.backends.traits import commands, default_sources, macos, windows
from tallystick.backends.traits.base import (
    PHYSICAL,
    WEIGHTS,
    Profile,
    Reading,
    Trait,
    TraitSource,
    alternatives,
    cleaned,
    cleaned_mac,
    is_complete,
    join,
    profile_of,
    read_all,
    settle,
)
from tallystick.backends.traits.linux import LinuxTraits
from tallystick.backends.traits.macos import MacosTraits
from tallystick.backends.traits.profile import detect_profile, hypervisor_named
from tallystick.backends.traits.tree import Tree
from tallystick.backends.traits.windows import WindowsTraits

RECORDED = Path(__file__).parent / "recorded"
CPU = "vendor_id=GenuineIntel;cpu family=6;model=158;model name=Intel(R) Core(TM) i7-9700 CPU @ 3.00GHz"


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


# ----------------------------------------------------------------------------------------------------- Linux: traits


def test_a_linux_computer_shows_six_traits(computer: Computer) -> None:
    assert computer.read() == {
        "machine-id": world.MACHINE_ID,
        "product-uuid": world.PRODUCT_UUID,
        "board-serial": world.BOARD_SERIAL.lower(),
        "nic": "54bf649a1122",
        "root-fs": world.ROOT_UUID,
        "cpu": CPU,
    }
    assert set(computer.read()) == set(WEIGHTS)


def test_an_empty_tree_has_nothing_but_what_every_linux_has(tmp_path: Path) -> None:
    assert LinuxTraits(str(tmp_path)).read() == {"root-fs": None, "cpu": None}


@pytest.mark.parametrize(
    ("path", "trait"),
    [
        ("/etc/machine-id", "machine-id"),
        ("/sys/class/dmi/id/product_uuid", "product-uuid"),
        ("/sys/class/dmi/id/board_serial", "board-serial"),
        ("/sys/class/net", "nic"),
        ("/proc/self/mountinfo", "root-fs"),
        ("/proc/cpuinfo", "cpu"),
    ],
)
def test_what_cannot_be_read_is_none_and_changes_nothing_else(computer: Computer, path: str, trait: str) -> None:
    before = computer.read()
    computer.forbid(path)
    assert computer.read() == {**before, trait: None}


@pytest.mark.parametrize("text", ["", "uninitialized\n", "00000000000000000000000000000000\n"])
def test_a_machine_id_that_says_nothing_gives_way_to_the_one_of_dbus(computer: Computer, text: str) -> None:
    computer.write("/etc/machine-id", text)
    assert "machine-id" not in computer.read()
    computer.write("/var/lib/dbus/machine-id", world.MACHINE_ID)
    assert computer.read()["machine-id"] == world.MACHINE_ID
    computer.forbid("/var/lib/dbus/machine-id")
    assert computer.read()["machine-id"] is None


def test_firmware_placeholders_are_no_traits(computer: Computer) -> None:
    computer.write("/sys/class/dmi/id/product_uuid", "03000200-0400-0500-0006-000700080009\n")
    computer.write("/sys/class/dmi/id/board_serial", "To be filled by O.E.M.\n")
    assert {"product-uuid", "board-serial"} & set(computer.read()) == set()


def test_a_board_without_firmware_tables_shows_the_serial_number_of_its_device_tree(computer: Computer) -> None:
    computer.remove("/sys/class/dmi/id/board_serial")
    computer.write("/sys/firmware/devicetree/base/serial-number", "10000000a1b2c3d4\0")
    assert computer.read()["board-serial"] == "10000000a1b2c3d4"


def test_the_processor_of_an_arm_board_is_named_by_part_and_model(computer: Computer) -> None:
    text = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd08\n\n"
    computer.write("/proc/cpuinfo", text + "Serial\t\t: 10000000a1b2c3d4\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n")
    cpu = "CPU implementer=0x41;CPU architecture=8;CPU part=0xd08;Model=Raspberry Pi 4 Model B Rev 1.4"
    assert computer.read()["cpu"] == cpu


def test_microcode_and_clock_frequency_do_not_make_another_processor(computer: Computer) -> None:
    text = world.CPUINFO.format(flags="msr new_mitigation")
    computer.write("/proc/cpuinfo", text.replace("0xf8", "0x100").replace("800.021", "4700.0").replace(": 13", ": 12"))
    assert computer.read()["cpu"] == CPU


# ---------------------------------------------------------------------------------------------- Linux: network cards

THUNDERBOLT = "pci0000:00/0000:00:07.0/0000:05:00.0"


def test_a_dock_a_bridge_and_containers_ends_are_not_this_computer(computer: Computer) -> None:
    before = computer.read()
    computer.nic("enx00e04c680102", "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0", "00:e0:4c:68:01:02")
    for name in ("docker0", "veth1a2b3c4", "virbr0", "tun0"):
        computer.virtual_nic(name)
    dock = computer.nic("ens5", THUNDERBOLT, "00:e0:4c:68:01:03")
    computer.write(f"{dock}/../removable", "removable\n")
    computer.nic("ib0", "pci0000:00/0000:00:03.0", "80:00:02:08:fe:80", kind="32")
    vf = computer.nic("ens1v0", "pci0000:00/0000:00:01.1", "56:00:00:00:00:01")
    computer.link(f"{vf}/physfn", "../0000:00:01.0")
    assert computer.read() == before


def test_a_fixed_card_behind_a_bridge_is_on_board(computer: Computer) -> None:
    home = computer.nic("enp5s0", THUNDERBOLT, "54:bf:64:9a:11:33")
    computer.write(f"{home}/removable", "fixed\n")
    assert computer.read()["nic"] == "54bf649a1133\n54bf649a1122"


def test_cards_are_ordered_by_their_place_on_the_bus_whatever_they_are_called(computer: Computer) -> None:
    computer.nic("aaa", "pci0000:00/0000:01:00.0", "54:bf:64:9a:11:44")
    assert computer.read()["nic"] == "54bf649a1122\n54bf649a1144"


def test_two_interfaces_of_one_card_count_once(computer: Computer) -> None:
    computer.nic("wlan0", "pci0000:00/0000:02:00.0", "38:ba:f8:aa:bb:cc")
    computer.nic("mon0", "pci0000:00/0000:02:00.0", "38:ba:f8:aa:bb:cc")
    assert computer.read()["nic"] == "54bf649a1122\n38baf8aabbcc"


def test_a_card_with_an_assigned_address_is_hidden_not_changed(computer: Computer) -> None:
    computer.nic("wlan0", "pci0000:00/0000:02:00.0", "3a:01:02:03:04:05", assigned="3")
    assert computer.read()["nic"] == "54bf649a1122\n"
    computer.write("/sys/class/net/eno1/addr_assign_type", "3\n")
    assert computer.read()["nic"] is None


def test_a_card_whose_address_is_no_address_is_no_trait(computer: Computer) -> None:
    computer.write("/sys/class/net/eno1/address", "00:00:00:00:00:00\n")
    assert "nic" not in computer.read()


# ------------------------------------------------------------------------------------------- Linux: root file system


def test_the_root_file_system_is_found_through_device_mapper(computer: Computer) -> None:
    computer.write("/proc/self/mountinfo", "25 1 253:0 / / rw - ext4 /dev/mapper/vg\\040one-root rw\n")
    computer.link("/sys/dev/block/253:0", "../../devices/virtual/block/dm-0")
    computer.remove("/dev/disk/by-uuid/" + world.ROOT_UUID)
    computer.link("/dev/disk/by-uuid/AAAA-BBBB", "../../dm-0")
    assert computer.read()["root-fs"] == "aaaa-bbbb"


def test_btrfs_is_found_by_its_source_because_its_device_number_is_anonymous(computer: Computer) -> None:
    computer.write("/proc/self/mountinfo", "25 1 0:31 /@ / rw - btrfs /dev/nvme0n1p2 rw,subvol=/@\n")
    assert computer.read()["root-fs"] == world.ROOT_UUID


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/run/udev/data/b259:2", "S:disk/by-uuid/x\nE:ID_FS_TYPE=ext4\nE:ID_FS_UUID={uuid}\nE:ID_FS_VERSION=1.0\n"),
        ("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID={uuid} ro quiet\n"),
        ("/etc/fstab", "# comment\nUUID=1111-2222 /boot/efi vfat umask=0077 0 1\nUUID={uuid} /  ext4 defaults 0 1\n"),
    ],
)
def test_without_udev_links_other_places_say_the_same(computer: Computer, path: str, text: str) -> None:
    computer.remove("/dev/disk/by-uuid/" + world.ROOT_UUID)
    computer.link("/dev/disk/by-uuid/1111-2222", "../../nvme0n1p1")
    assert computer.read()["root-fs"] is None
    computer.write(path, text.format(uuid=world.ROOT_UUID.upper()))
    assert computer.read()["root-fs"] == world.ROOT_UUID


def test_a_root_without_a_block_device_has_no_uuid(computer: Computer) -> None:
    computer.write("/proc/self/mountinfo", "600 500 0:77 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u\n")
    assert "root-fs" not in computer.read()


def test_the_topmost_mount_at_the_root_counts(computer: Computer) -> None:
    below, boot = "1 1 0:2 / / rw - rootfs rootfs rw\n", "30 25 8:1 / /boot rw - ext4 /dev/sda1 rw\n"
    computer.write("/proc/self/mountinfo", below + world.ROOT_MOUNT + "broken line\n" + boot)
    assert computer.read()["root-fs"] == world.ROOT_UUID


# ------------------------------------------------------------------------------------------------------ the file tree


def test_a_pipe_a_folder_and_an_endless_file_do_not_stop_a_reader(computer: Computer) -> None:
    tree = Tree(str(computer.root))
    os.mkfifo(computer.path("/etc/pipe"))
    computer.path("/etc/folder").mkdir()
    computer.write("/etc/long", "x" * 200_000)
    assert tree.text("/etc/pipe") == ""
    assert tree.text("/etc/folder") == ""
    assert tree.text("/etc/machine-id/below") == ""
    assert len(tree.text("/etc/long") or "") == 65536
    assert tree.names("/etc/machine-id") == []


def test_links_are_followed_once_and_stay_below_the_root(computer: Computer) -> None:
    computer.link("/dev/mapper/root", "../dm-0")
    computer.link("/dev/absolute", "/dev/dm-0")
    tree = Tree(str(computer.root))
    assert tree.link("/dev/mapper/root") == "/dev/dm-0"
    assert tree.link("/dev/absolute") == "/dev/dm-0"
    assert tree.link("/etc/machine-id") == "/etc/machine-id"


# ---------------------------------------------------------------------------------------------------------- profiles


def docker(computer: Computer) -> None:
    computer.write("/.dockerenv", "")


def podman(computer: Computer) -> None:
    computer.write("/run/.containerenv", 'engine="podman-4.3.1"\n')


def kubernetes_by_hosts(computer: Computer) -> None:
    computer.write("/etc/hosts", "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")


def kubernetes_by_secret(computer: Computer) -> None:
    computer.write("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "default")


def kubernetes_by_cgroup(computer: Computer) -> None:
    computer.write("/proc/1/cgroup", "0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-ab12.scope\n")


def docker_by_cgroup(computer: Computer) -> None:
    computer.write("/proc/self/cgroup", "12:cpu,cpuacct:/docker/" + "0f" * 32 + "\n")


def nspawn(computer: Computer) -> None:
    computer.write("/run/systemd/container", "systemd-nspawn\n")


def wsl2(computer: Computer) -> None:
    computer.write("/proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)\n")
    computer.write("/proc/cpuinfo", world.CPUINFO.format(flags="hypervisor"))
    computer.write("/run/systemd/container", "wsl\n")


def wsl1(computer: Computer) -> None:
    computer.write("/proc/version", "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)\n")


def docker_in_wsl(computer: Computer) -> None:
    wsl2(computer)
    docker(computer)


def kvm(computer: Computer) -> None:
    computer.write("/sys/class/dmi/id/sys_vendor", "QEMU\n")
    computer.write("/proc/cpuinfo", world.CPUINFO.format(flags="hypervisor"))


def hyperv(computer: Computer) -> None:
    computer.write("/sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n")
    computer.write("/sys/class/dmi/id/product_name", "Virtual Machine\n")


def cloud(computer: Computer) -> None:
    computer.write("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
    computer.write("/proc/cpuinfo", world.CPUINFO.format(flags="hypervisor"))


def nameless(computer: Computer) -> None:
    computer.remove("/sys/class/dmi/id/sys_vendor")
    computer.write("/proc/cpuinfo", world.CPUINFO.format(flags="hypervisor"))


def xen_guest(computer: Computer) -> None:
    computer.write("/sys/hypervisor/type", "xen\n")


def arm_guest(computer: Computer) -> None:
    computer.write("/sys/firmware/devicetree/base/hypervisor/compatible", "linux,kvm\0")


def bare_metal_cloud(computer: Computer) -> None:
    computer.write("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n")


def surface(computer: Computer) -> None:
    computer.write("/sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n")
    computer.write("/sys/class/dmi/id/product_name", "Surface Laptop 4\n")


def xen_host(computer: Computer) -> None:
    xen_guest(computer)
    computer.write("/proc/xen/capabilities", "control_d\n")


def docker_host(computer: Computer) -> None:
    computer.write("/proc/self/cgroup", "0::/system.slice/docker-registry-watch.service\n")
    computer.virtual_nic("docker0")


@pytest.mark.parametrize(
    ("change", "kind", "details"),
    [
        (docker, "container", "docker"),
        (podman, "container", "podman"),
        (kubernetes_by_hosts, "container", "kubernetes"),
        (kubernetes_by_secret, "container", "kubernetes"),
        (kubernetes_by_cgroup, "container", "kubernetes"),
        (docker_by_cgroup, "container", "docker"),
        (nspawn, "container", "systemd-nspawn"),
        (docker_in_wsl, "container", "docker"),
        (wsl2, "wsl", "WSL2"),
        (wsl1, "wsl", "WSL1"),
        (kvm, "vm", "QEMU"),
        (hyperv, "vm", "Hyper-V"),
        (cloud, "vm", "Amazon EC2"),
        (nameless, "vm", "unknown hypervisor"),
        (xen_guest, "vm", "Xen"),
        (arm_guest, "vm", "KVM"),
        (bare_metal_cloud, "physical", ""),
        (surface, "physical", ""),
        (xen_host, "physical", ""),
        (docker_host, "physical", ""),
        (lambda _: None, "physical", ""),
    ],
)
def test_the_kind_of_computer(computer: Computer, change: Callable[[Computer], None], kind: str, details: str) -> None:
    change(computer)
    profile = computer.source.profile()
    assert (profile.kind, profile.details) == (kind, details)
    assert bool(profile.advice) is (kind != "physical")


def test_kubernetes_announces_itself_in_the_environment(computer: Computer) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert detect_profile(Tree(str(computer.root)), environ).details == "kubernetes"
    assert LinuxTraits(str(computer.root), environ).profile().details == "kubernetes"


def test_an_unreadable_system_is_taken_for_a_physical_one(computer: Computer) -> None:
    for path in ("/proc/version", "/proc/cpuinfo", "/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"):
        computer.forbid(path)
    assert computer.source.profile() == PHYSICAL


def test_weights_follow_the_kind_of_computer() -> None:
    assert PHYSICAL.weights() == dict(WEIGHTS)
    assert Profile("vm").weights()["cpu"] < WEIGHTS["cpu"]
    assert Profile("wsl").weights()["nic"] == 0
    container = Profile("container").weights()
    assert container["nic"] == 0
    assert container["machine-id"] < WEIGHTS["machine-id"]
    assert Profile("mainframe").weights() == dict(WEIGHTS)


# ------------------------------------------------------------------------------------------- sampling and normalizing


def test_only_what_two_readings_agree_on_is_enrolled() -> None:
    first = {"cpu": "c", "machine-id": "m1", "nic": "aa\nbb", "root-fs": None, "gpu": "g", "board-serial": "b"}
    second = {"cpu": "c", "machine-id": "m2", "nic": "bb\n", "root-fs": "r", "gpu": "g"}
    assert settle(first, second, WEIGHTS) == (Trait("nic", b"bb", 20), Trait("cpu", b"c", 10))


def test_a_trait_without_weight_is_not_enrolled() -> None:
    reading = {"nic": "aa", "cpu": "c"}
    assert [trait.name for trait in settle(reading, reading, Profile("wsl").weights())] == ["cpu"]


def test_a_source_that_does_not_know_the_kind_of_computer_says_physical() -> None:
    class Plain(TraitSource):
        def read(self) -> Reading:
            return {"cpu": "c"}

    assert profile_of([Plain()]) == PHYSICAL


def test_of_several_sources_the_first_with_a_value_wins() -> None:
    sources = (Hand({"cpu": None, "nic": "a"}), Hand({"cpu": "c", "nic": "b", "root-fs": None}, Profile("vm", "KVM")))
    assert read_all(sources) == {"cpu": "c", "nic": "a", "root-fs": None}
    assert profile_of(sources) == Profile("vm", "KVM")
    assert profile_of(()) == PHYSICAL


@pytest.mark.parametrize(
    ("value", "found", "complete"),
    [(None, (), False), ("", (), False), ("a", ("a",), True), ("a\nb", ("a", "b"), True), ("a\n", ("a",), False)],
)
def test_alternatives(value: str | None, found: tuple[str, ...], complete: bool) -> None:
    assert alternatives(value) == found
    assert is_complete(value) is complete
    assert join(found, hidden=not complete) == (value or None)


@pytest.mark.parametrize(
    "junk",
    [
        "To be filled by O.E.M.", "Default string", "System Serial Number", "None", "N/A", "Not Specified",
        "0123456789",
        "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "xxxxxxxxxx", "...", "", " \0",
        "12345678-1234-5678-90AB-CDDEEFAABBCC", "Base Board Serial Number", "BSN12345678901234567",
    ],
)  # fmt: skip
def test_junk_is_dropped(junk: str) -> None:
    assert cleaned(junk) == ""


def test_real_values_are_kept_in_lower_case() -> None:
    assert cleaned(" 4C4C4544-0042\n") == "4c4c4544-0042"
    assert cleaned("BSS-0123456789") == "bss-0123456789"  # a row of digits behind a maker's letters may be a number


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("54:BF:64:9A:11:22", "54bf649a1122"),
        ("54-bf-64-9a-11-22", "54bf649a1122"),
        ("02fc00000001", "02fc00000001"),
        ("00:00:00:00:00:00", ""),
        ("ff:ff:ff:ff:ff:ff", ""),
        ("01:00:5e:00:00:01", ""),
        ("N/A", ""),
        ("54:bf:64:9a:11", ""),
    ],
)
def test_network_addresses(address: str, expected: str) -> None:
    assert cleaned_mac(address) == expected


# ------------------------------------------------------------------------------------------------- macOS and Windows


def recorded(**files: str) -> Callable[[Sequence[str]], str | None]:
    """A runner that prints what was recorded, by the tool's name; nothing for other tools."""

    def run(arguments: Sequence[str]) -> str | None:
        tool = arguments[0].replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
        name = files.get(tool)
        return (RECORDED / name).read_bytes().decode() if name else None

    return run


MAC = {
    "ioreg": "macos_ioreg.txt", "networksetup": "macos_ports.txt", "diskutil": "macos_diskutil.txt",
    "sysctl": "macos_sysctl.txt",
}  # fmt: skip
PC = {"reg": "windows_reg.txt", "powershell": "windows_cim.txt"}


def test_a_mac_shows_five_traits() -> None:
    source = MacosTraits(recorded(**MAC))
    assert source.read() == {
        "product-uuid": "0a1b2c3d-4e5f-5a6b-8c7d-9e0f1a2b3c4d",
        "board-serial": "fvx1234567",
        "nic": "f84d89123456",
        "root-fs": "7d3e0c5b-1a2f-4b6c-9d8e-0f1a2b3c4d5e",
        "cpu": "Apple M1 Pro;MacBookPro18,3",
    }
    assert source.profile() == PHYSICAL


def test_a_mac_with_ethernet_prefers_it_and_knows_that_one_port_is_hidden() -> None:
    ports = recorded(**{**MAC, "networksetup": "macos_ports_mini.txt"})
    assert MacosTraits(ports).read()["nic"] == "a82066319557\n"


def test_a_mac_in_a_virtual_machine_is_recognized() -> None:
    source = MacosTraits(recorded(sysctl="macos_vm_sysctl.txt", ioreg="macos_vm_ioreg.txt"))
    assert (source.profile().kind, source.profile().details) == ("vm", "Apple Virtualization")
    assert "board-serial" not in source.read()


def test_a_guest_of_an_unknown_hypervisor_is_a_virtual_machine() -> None:
    source = MacosTraits(lambda _: "hw.model: Macmini9,1\nkern.hv_vmm_present: 1\n")
    assert source.profile().details == "unknown hypervisor"


@pytest.mark.parametrize("missing", MAC)
def test_a_tool_that_fails_on_a_mac_makes_its_traits_unreadable(missing: str) -> None:
    whole = MacosTraits(recorded(**MAC)).read()
    some = MacosTraits(recorded(**{tool: name for tool, name in MAC.items() if tool != missing})).read()
    assert set(some) == set(whole)
    assert {name for name in whole if some[name] is None} == {
        "ioreg": {"product-uuid", "board-serial"},
        "networksetup": {"nic"},
        "diskutil": {"root-fs"},
        "sysctl": {"cpu"},
    }[missing]
    assert all(some[name] in (None, value) for name, value in whole.items())


def test_a_mac_without_built_in_ports_has_no_network_trait() -> None:
    assert macos.parse_ports("\nHardware Port: Bluetooth PAN\nDevice: en2\nEthernet Address: 8c:2d:aa:33:03:ea\n") == ""


def test_a_windows_computer_shows_six_traits() -> None:
    source = WindowsTraits(recorded(**PC))
    assert source.read() == {
        "machine-id": "2f1c7a90-8d3e-4b5f-a6c1-0d9e8f7a6b5c",
        "product-uuid": world.PRODUCT_UUID,
        "board-serial": world.BOARD_SERIAL.lower(),
        "nic": "54bf649a1122\n38baf8aabbcc",  # on PCI, by device id; the dock and Bluetooth are left out
        "root-fs": "8a2c51f0",
        "cpu": "intel(r) core(tm) i7-9700 cpu @ 3.00ghz",
    }
    assert source.profile() == PHYSICAL


@pytest.mark.parametrize("output", ["windows_cim_stopped.txt", ""])
def test_a_stopped_service_on_windows_makes_traits_unreadable_not_changed(output: str) -> None:
    assert WindowsTraits(recorded(reg="windows_reg.txt", powershell=output)).read() == {
        "machine-id": "2f1c7a90-8d3e-4b5f-a6c1-0d9e8f7a6b5c",
        **dict.fromkeys(("product-uuid", "board-serial", "nic", "root-fs", "cpu")),
    }


def test_a_registry_that_cannot_be_read_makes_the_machine_id_unreadable() -> None:
    assert WindowsTraits(recorded(powershell="windows_cim.txt")).read()["machine-id"] is None


def test_a_hyper_v_guest_is_recognized_and_its_adapter_is_not_on_pci() -> None:
    source = WindowsTraits(recorded(reg="windows_reg.txt", powershell="windows_vm_cim.txt"))
    assert (source.profile().kind, source.profile().details) == ("vm", "Hyper-V")
    reading = source.read()
    assert "nic" not in reading
    assert reading["cpu"] == "intel(r) xeon(r) platinum 8272cl cpu @ 2.60ghz"


def test_an_adapter_on_pci_without_a_permanent_address_is_hidden() -> None:
    text = "PnPDeviceID      : PCI\\VEN_8086\\1\r\nPermanentAddress : \r\n"
    assert windows.parse_cim(text)["nic"] is None


def test_names_of_hypervisors() -> None:
    assert hypervisor_named("innotek GmbH", "VirtualBox") == "VirtualBox"
    assert hypervisor_named("Dell Inc.") == ""


# ------------------------------------------------------------------------------------ captures that others published

UNREAD = dict.fromkeys(("product-uuid", "board-serial", "nic", "root-fs", "cpu"))
"""What a reader says of tools that do not run."""

MAC_CAPTURES: dict[str, tuple[str, dict[str, str | None], str]] = {  # file -> tool, traits, kind of computer
    "macos_ioreg_macbookpro12.txt": (
        "ioreg", {"product-uuid": "5d0c8b1a-42e7-5f36-9a1c-7e60b2d9f481", "board-serial": "c02pk7tdfvh8"}, "physical",
    ),
    "macos_ioreg_macbookpro17.txt": (
        "ioreg", {"product-uuid": "1ab2345c-03e4-57d4-a375-1234d48de123", "board-serial": "a01bc3qfq05d"}, "physical",
    ),
    "macos_ioreg_guest.txt": (  # claims to be an iMac: only sysctl could tell
        "ioreg", {"product-uuid": "b7e41f09-6c3d-5a82-8e57-1d94c0a2f36b", "board-serial": "c02tx8r4hx87"}, "physical",
    ),
    "macos_ports_imac.txt": ("networksetup", {"nic": "3c36001b5e27\nf8ccf2830d4a"}, "physical"),
    "macos_ports_macbook_intel.txt": ("networksetup", {"nic": "f800c26d38b1"}, "physical"),
    "macos_ports_macbook_m1.txt": ("networksetup", {"nic": "aaaaaaaaaacc"}, "physical"),
    "macos_ports_macbook_sonoma.txt": ("networksetup", {"nic": "6000509d4e63"}, "physical"),
    "macos_diskutil_m1.txt": ("diskutil", {"root-fs": "4b91e6d3-7c28-4f05-a1be-92d03c6f58a7"}, "physical"),
    "macos_diskutil_imac.txt": ("diskutil", {"root-fs": "e07a5c42-19db-4836-b5f4-6d81a3902c7e"}, "physical"),
    "macos_sysctl_m1.txt": ("sysctl", {"cpu": "Apple M1"}, "physical"),
    "macos_sysctl_macmini.txt": ("sysctl", {"cpu": "Intel(R) Core(TM)2 Duo CPU     P7550  @ 2.26GHz"}, "physical"),
    "macos_sysctl_runner.txt": ("sysctl", {"cpu": "Apple M1 (Virtual);VirtualMac2,1"}, "Apple Virtualization"),
    "macos_sysctl_vmware.txt": ("sysctl", {"cpu": "VMware7,1"}, "VMware"),
}  # fmt: skip


@pytest.mark.parametrize("name", MAC_CAPTURES)
def test_a_published_capture_of_a_mac_is_read(name: str) -> None:
    tool, traits, kind = MAC_CAPTURES[name]
    source = MacosTraits(recorded(**{tool: name}))
    assert source.read() == {**UNREAD, **traits}
    assert (source.profile().details or source.profile().kind) == kind


ASKED = {
    "product": ("UUID",),
    "board": ("SerialNumber",),
    "processor": ("Name",),
    "disk": ("VolumeSerialNumber",),
    "system": ("Manufacturer", "Model"),
    "adapter": ("PnPDeviceID", "PermanentAddress"),
}
"""What the reader asks PowerShell for, by the second word of a file's name."""


def asked(name: str) -> str:
    """What PowerShell prints of a published listing when it is asked for the reader's properties alone."""
    labels = ASKED[name.split("_")[1]]
    width = max(map(len, labels))
    lines = ["", ""]
    for listing in (RECORDED / name).read_text(encoding="utf-8").split("\n\n"):
        values = {label.strip(): value.strip() for label, _, value in (x.partition(":") for x in listing.splitlines())}
        lines += [*(f"{label:<{width}} : {values[label]}" for label in labels), ""]
    return "\r\n".join([*lines, "", "", ""])


def windows_of(*names: str) -> WindowsTraits:
    """A Windows computer of which these listings were published; its registry is closed."""

    def run(arguments: Sequence[str]) -> str | None:
        return "".join(map(asked, names)) if arguments[0].endswith("powershell.exe") else None

    return WindowsTraits(run)


PC_CAPTURES: dict[str, tuple[dict[str, str | None], str]] = {  # file -> traits, kind of computer
    "windows_product_hp.txt": ({"product-uuid": "3c7a91e4-58d2-4b06-9f1d-a27e60c4b835"}, "physical"),
    "windows_board_hp.txt": ({"board-serial": "pxkud00wbia7q2"}, "physical"),
    "windows_board_dell.txt": ({"board-serial": "/7kq4wn2/cn1296371b04d2/"}, "physical"),
    "windows_processor_hp.txt": ({"cpu": "13th gen intel(r) core(tm) i7-1370p"}, "physical"),
    "windows_processor_vmware.txt": ({"cpu": "intel(r) xeon(r) cpu e5-4657l v2 @ 2.40ghz"}, "physical"),
    "windows_disk_dell.txt": ({"root-fs": "c1e07b52"}, "physical"),
    "windows_adapter_laptop.txt": ({"nic": "001f164b70a2"}, "physical"),
    "windows_system_hp.txt": ({}, "physical"),  # with a hypervisor under Windows itself, yet no guest
    "windows_system_hyperv.txt": ({}, "Hyper-V"),
    "windows_system_vmware.txt": ({}, "VMware"),
    "windows_system_virtualbox.txt": ({}, "VirtualBox"),
}


@pytest.mark.parametrize("name", PC_CAPTURES)
def test_a_published_capture_of_windows_is_read(name: str) -> None:
    traits, kind = PC_CAPTURES[name]
    source = windows_of(name)
    assert source.read() == {"machine-id": None, **UNREAD, **traits}
    assert (source.profile().details or source.profile().kind) == kind


def test_the_listings_of_one_notebook_are_read_together() -> None:
    source = windows_of(*(f"windows_{part}_hp.txt" for part in ("product", "board", "processor", "system")))
    assert source.read() == {
        "machine-id": None,
        "product-uuid": "3c7a91e4-58d2-4b06-9f1d-a27e60c4b835",
        "board-serial": "pxkud00wbia7q2",
        "cpu": "13th gen intel(r) core(tm) i7-1370p",
        "root-fs": None,
        "nic": None,
    }
    assert source.profile() == PHYSICAL


def test_a_board_without_a_number_of_its_own_is_no_trait_of_a_guest() -> None:
    source = windows_of(*(f"windows_{part}_vmware.txt" for part in ("board", "processor", "system")))
    assert source.read() == {
        "machine-id": None,
        "product-uuid": None,
        "cpu": "intel(r) xeon(r) cpu e5-4657l v2 @ 2.40ghz",
        "root-fs": None,
        "nic": None,
    }
    assert source.profile().details == "VMware"


@pytest.mark.parametrize("labels", ASKED.values(), ids=ASKED)
def test_the_reader_asks_for_the_properties_that_were_recorded(labels: tuple[str, ...]) -> None:
    assert f"| Format-List {','.join(labels)} |" in windows.CIM[-1]


@pytest.mark.parametrize(
    ("name", "guid"),
    [("windows_reg_guest.txt", "71c4e0a9-3d5b-4f82-96be-0ad7158c2f63"), ("windows_reg_missing.txt", None)],
)
def test_a_published_capture_of_the_registry_is_read(name: str, guid: str | None) -> None:
    assert WindowsTraits(recorded(reg=name)).read() == {"machine-id": guid, **UNREAD}


def test_where_every_recorded_file_comes_from_is_written_down() -> None:
    written = set(re.findall(r"`(\w+\.txt)`", (RECORDED / "README.md").read_text(encoding="utf-8")))
    assert written == {path.name for path in RECORDED.glob("*.txt")}


# -------------------------------------------------------------------------------------------------- tools and systems


def test_tools_are_run_without_a_shell_and_their_failures_are_silence() -> None:
    assert commands.run([sys.executable, "-c", "print('a; b')"]) == "a; b" + os.linesep
    assert commands.run([sys.executable, "-c", "raise SystemExit(3)"]) is None
    assert commands.run(["/nonexistent/tool"]) is None


@pytest.mark.parametrize(
    ("platform", "reader"), [("linux", LinuxTraits), ("darwin", MacosTraits), ("win32", WindowsTraits)]
)
def test_each_system_has_its_reader(platform: str, reader: type) -> None:
    assert [type(source) for source in default_sources(platform)] == [reader]


def test_other_systems_have_none() -> None:
    assert default_sources("sunos5") == ()


def test_this_computer_can_be_read() -> None:
    for source in default_sources():
        reading = source.read()
        assert set(reading) <= set(WEIGHTS)
        assert reading == source.read()
        assert source.profile().kind in ("physical", "vm", "wsl", "container")
