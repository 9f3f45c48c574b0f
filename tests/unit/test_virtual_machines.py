"""Virtual machines without one: the kernel they boot, how it comes here, and the initramfs."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ovs_lwt.lab.kernel import DIED, FEATURES, OTHERS, Feature, Result, choice, choose, find
from ovs_lwt.lab.kernel.maker import Order
from ovs_lwt.lab.kernel.uml import maker as uml_maker
from ovs_lwt.lab.kernel.uml.maker import UserModeLinux
from ovs_lwt.lab.kernel.vm import image, initramfs, kvm
from ovs_lwt.lab.kernel.vm import maker as vm
from ovs_lwt.mistakes import Refused

MODULES = """\
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/ring.ko
kernel/drivers/virtio/ring.ko:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/drivers/virtio/ring.ko kernel/net/9p/9pnet.ko
kernel/net/9p/9pnet.ko:
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/ring.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/ring.ko
"""
PVH_NOTE = struct.pack("<3I4sQ", 4, 8, 18, b"Xen\0", 0x1000000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.delenv("OVS_LWT_VM", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/ovs-lwt"


def bzimage(payload: bytes) -> bytes:
    """What the boot protocol says of a kernel whose setup code is one sector long."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 0x100, len(payload))
    return bytes(head) + bytes(0x100) + payload + bytes(512)


def extracted(root: Path, release: str, kernel: bytes = b"a kernel") -> Path:
    """A folder as `dpkg -x` and depmod leave it."""
    modules = root / "lib/modules" / release
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text(MODULES)
    (modules / "modules.builtin").write_text("kernel/fs/overlayfs/overlay.ko\n")
    (root / "boot").mkdir(exist_ok=True)
    (root / "boot" / f"vmlinuz-{release}").write_bytes(kernel)
    return root


# The kernel


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress])
def test_a_kernel_is_unpacked_once(compress, tmp_path: Path, cache: Path) -> None:  # type: ignore[no-untyped-def]
    kernel = b"\x7fELF" + PVH_NOTE * 1000
    root = extracted(tmp_path / "k", "6.1.0-1-amd64", bzimage(compress(kernel) + b"\0\0\0\1"))
    (found,) = image._images(root)

    assert found.bootable().read_bytes() == kernel
    assert found.bootable() == cache / "vmlinux-6.1.0-1-amd64"
    assert list(cache.iterdir()) == [cache / "vmlinux-6.1.0-1-amd64"]

    newer = bzimage(compress(kernel + b"newer") + b"\0\0\0\1")
    found.kernel.write_bytes(newer)
    os.utime(found.kernel, (2e9, 2e9))
    assert found.bootable().read_bytes() == kernel + b"newer"


@pytest.mark.parametrize(
    "kernel",
    [
        b"not a kernel at all",
        bzimage(lzma.compress(b"\x7fELF" + bytes(1000)) + b"\0\0\0\1"),
        bzimage(b"\x28\xb5\x2f\xfd packed by zstd"),
    ],
    ids=["foreign", "without PVH", "zstd"],
)
def test_a_kernel_that_cannot_be_unpacked_boots_as_it_is(kernel: bytes, tmp_path: Path) -> None:
    (found,) = image._images(extracted(tmp_path / "k", "6.1.0-1-amd64", kernel))
    assert found.bootable() == found.kernel


def test_modules_come_with_what_they_need_before_them(tmp_path: Path) -> None:
    (found,) = image._images(extracted(tmp_path / "k", "6.1.0-1-amd64"))
    files = [path.name for path in found.files_of(("virtio_pci", "9pnet_virtio", "overlay", "9p"))]
    assert files == [
        *("ring.ko", "virtio.ko", "virtio_pci.ko", "9pnet.ko", "9pnet_virtio.ko.xz", "9p.ko")
    ]
    with pytest.raises(KeyError):
        found.files_of(("carpet",))


def test_the_newest_kernel_that_was_fetched_is_taken(cache: Path) -> None:
    for release in ("6.1.0-9-amd64", "6.1.0-10-amd64"):
        extracted(cache / f"linux-image-{release}", release)
    (cache / "linux-image-6.1.0-11-amd64").mkdir()  # cut short
    found = image.find()
    assert found is not None
    assert found.release == "6.1.0-10-amd64"


def test_a_named_folder_without_a_kernel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVS_LWT_VM", str(tmp_path))
    with pytest.raises(Refused, match=f"OVS_LWT_VM names {tmp_path}, which has no kernel with"):
        image.find()
    extracted(tmp_path, "6.1.0-1-amd64")
    found = image.find()
    assert found is not None
    assert found.kernel == tmp_path / "boot/vmlinuz-6.1.0-1-amd64"


# Fetching it


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs that fetch and unpack, in the folder that is returned."""
    extracted(tmp_path / "package", "6.1.0-7-amd64")
    (tmp_path / "package/lib/modules/6.1.0-7-amd64/modules.dep").rename(tmp_path / "modules.dep")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in {
        "apt-cache": "echo linux-image-amd64; echo '  Depends: linux-image-6.1.0-7-amd64'",
        "apt-get": 'case "$*" in *" download linux-image-6.1.0-7-amd64") echo >k.deb ;; esac',
        "dpkg-deb": f'cp -r {tmp_path}/package "$3"',
        "depmod": f'cp {tmp_path}/modules.dep "$2/lib/modules/$3"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


def test_debians_kernel_is_fetched_and_unpacked(debian: Path, cache: Path) -> None:
    said: list[str] = []
    fetched = image.fetch(said.append)
    assert fetched == image.find()
    assert fetched.kernel == cache / "linux-image-6.1.0-7-amd64/boot/vmlinuz-6.1.0-7-amd64"
    assert list(cache.iterdir()) == [cache / "linux-image-6.1.0-7-amd64"]
    assert said == [
        f"fetching linux-image-6.1.0-7-amd64 into {cache}, once: 70 MB to download, 400 MB unpacked"
    ]


@pytest.mark.parametrize(
    ("program", "script", "complaint"),
    [
        ("apt-cache", "true", "apt knows no linux-image-amd64.*'apt-get update' may help"),
        (
            "apt-get",
            "echo no route to host >&2; exit 100",
            "could not be fetched.*no route to host",
        ),
        ("depmod", "true", "has no kernel with virtio_pci"),
    ],
)
def test_what_cannot_be_fetched_is_said(
    program: str, script: str, complaint: str, debian: Path, cache: Path
) -> None:
    (debian / program).write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(Refused, match=complaint):
        image.fetch(lambda line: None)
    assert not list(cache.glob("fetching-*"))


# The initramfs


def entries(archive: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and content of each file, as the kernel reads them."""
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        at += (110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return
        yield name, mode, archive[at : at + size]
        at += (size + 3) // 4 * 4


def test_the_initramfs_has_programs_their_libraries_and_modules_in_order(tmp_path: Path) -> None:
    modules = [tmp_path / "b.ko", tmp_path / "a.ko.xz"]
    for module in modules:
        module.write_text(module.name)
    made = {name: (mode, data) for name, mode, data in entries(initramfs.build(modules))}

    assert made["init"][1].startswith(b"#!/bin/sh\n")
    assert sorted(name for name in made if name.startswith("modules/")) == [
        "modules/00-b.ko",
        "modules/01-a.ko.xz",
    ]
    for program in ("sh", "insmod", "mount", "switch_root"):
        mode, data = made[f"bin/{program}"]
        assert data.startswith(b"\x7fELF")
        assert stat.S_ISREG(mode)
        assert mode & 0o111
    assert any(name.endswith("/libc.so.6") for name in made)
    assert stat.S_ISCHR(made["dev/console"][0])
    # A folder stands before what is in it.
    names = list(made)
    assert all(names.index(str(Path(n).parent)) < names.index(n) for n in names if "/" in n)


# The command line


def order(tmp_path: Path, **changed: object) -> Order:
    return replace(Order(tmp_path, None, 512, (), (7, 8)), **changed)  # type: ignore[arg-type]


def a_machine(tmp_path: Path, *, with_kvm: bool = False) -> vm.VirtualMachine:
    root = tmp_path / "k"
    if not root.exists():
        extracted(root, "6.1.0-1-amd64")
        for line in MODULES.splitlines():
            file = root / "lib/modules/6.1.0-1-amd64" / line.partition(":")[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (found,) = image._images(root)
    return vm.VirtualMachine(Path("/usr/bin/qemu-system-x86_64"), found, with_kvm)


def test_qemu_is_told_what_was_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "a, b"
    emulated = a_machine(tmp_path).launch(order(tmp_path, out=out, memory=640)).command
    assert [emulated[emulated.index("-m") + 1], emulated[emulated.index("-smp") + 1]] == [
        "640",
        "cpus=1",
    ]
    assert "pc,accel=tcg,usb=off" in emulated
    line = " ".join(emulated)
    assert "local,id=root,path=/,security_model=none,readonly=on" in line
    assert f"local,id=out,path={str(out).replace(',', ',,')},security_model=none" in line
    assert "socket,id=line2,fd=8" in line
    assert (tmp_path / "initramfs").exists()

    with_kvm = a_machine(tmp_path, with_kvm=True).launch(order(tmp_path)).command
    assert "pc,accel=kvm,usb=off" in with_kvm
    assert "host" in with_kvm


# Which machine


OPENVSWITCH = FEATURES[0]
(NFT,) = (feature for feature in OTHERS if feature.name == "nft")


@pytest.fixture
def possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Why there is no KVM, user-mode Linux and qemu here; None where there is."""
    why: dict[str, str | None] = {"kvm": None, "uml": None, "qemu": None}

    def unless(what: str, value: object) -> object:
        if why[what] is not None:
            raise Refused(str(why[what]))
        return value

    monkeypatch.setattr(kvm, "absent", lambda: why["kvm"])
    monkeypatch.setattr(kvm, "trouble", lambda machine: why["kvm"])
    uml = UserModeLinux(Path("/uml"), Path("/modules"))
    monkeypatch.setattr(uml_maker, "find", lambda: unless("uml", uml))
    monkeypatch.setattr(vm, "program", lambda: unless("qemu", Path("/qemu")))
    monkeypatch.setattr(
        choice, "missing_features", lambda needed: [f for f in needed if f is OPENVSWITCH]
    )
    found = a_machine(tmp_path).image
    monkeypatch.setattr(image, "find", lambda: found)
    return why


@pytest.mark.parametrize(
    ("needed", "not_there", "taken", "why"),
    [
        ([NFT], {}, None, "it has all that is needed"),
        ([OPENVSWITCH], {}, "kvm", "this machine's lacks 'Open vSwitch datapath'"),
        ([OPENVSWITCH], {"kvm": "it hangs"}, "uml", "no KVM: it hangs"),
        ([OPENVSWITCH], {"qemu": "no qemu"}, "uml", "no KVM: no qemu"),
        ([OPENVSWITCH], {"kvm": "it hangs", "uml": "not installed"}, "tcg", "not installed"),
        ([NFT, OPENVSWITCH], {"kvm": "it hangs"}, "tcg", "no user-mode Linux: it lacks nft"),
    ],
)
def test_the_quickest_kernel_that_has_it_all_is_taken(
    needed: list[Feature],
    not_there: dict[str, str],
    taken: str | None,
    why: str,
    possible: dict[str, str | None],
) -> None:
    possible |= not_there
    chosen = choose(needed)
    assert (chosen.maker.how if chosen.maker else None) == taken
    assert why in chosen.why


def test_where_no_kernel_will_do_every_reason_is_said(possible: dict[str, str | None]) -> None:
    possible |= {"kvm": "it hangs", "uml": "not installed", "qemu": "no qemu"}
    with pytest.raises(Refused) as refused:
        choose([OPENVSWITCH])
    for reason in ("lacks 'Open vSwitch datapath'", "it hangs", "not installed", "no qemu"):
        assert reason in str(refused.value)


def test_a_virtual_machine_is_emulated_where_kvm_runs_none(
    possible: dict[str, str | None],
) -> None:
    assert find("vm").how == "kvm"
    possible["kvm"] = "it hangs"
    assert find("vm").how == "tcg"


# KVM


def test_kvm_is_tried_by_a_boot_and_what_came_of_it_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "absent", lambda: None)
    boots: list[str] = []
    answer = Result(124, "", "")

    def run(maker: vm.VirtualMachine, *_: object, **__: object) -> Result:
        boots.append(maker.how)
        return answer

    monkeypatch.setattr(kvm, "run_in_kernel", run)
    emulated = a_machine(tmp_path)
    for _ in range(2):
        assert kvm.trouble(emulated) == "/dev/kvm opens, but a kernel does not come up in 20 s"
    assert boots == ["kvm"]

    monkeypatch.setattr(kvm, "_BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another")
    answer = Result(DIED, "", "qemu: permission denied\n")
    assert kvm.trouble(emulated) == "/dev/kvm runs no kernel: qemu: permission denied"

    (tmp_path / "boot").write_text("a third")
    answer = Result(0, "", "")
    assert kvm.trouble(emulated) is None
    assert kvm.trouble(emulated) is None
    assert len(boots) == 3
