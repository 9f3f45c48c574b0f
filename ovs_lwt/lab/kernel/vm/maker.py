"""qemu as a maker of machines: its command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ovs_lwt.lab.kernel import tools
from ovs_lwt.lab.kernel.maker import How, Kind, Launch, Order, words_for
from ovs_lwt.lab.kernel.vm import image, initramfs

_PROGRAM: Final = "qemu-system-x86_64"
# What a machine's first steps call, and the Debian packages that have them.
_TOOLS: Final = {
    _PROGRAM: "qemu-system-x86",
    "modprobe": "kmod",
    "ip": "iproute2",
    "pivot_root": "mount",
    "stty": "coreutils",
    "ldd": "libc-bin",
    **initramfs.PROGRAMS,
}
# With KVM. Emulated, several wait for each other more than they gain: four times the time on a busy
# machine with two cores.
_MOST_PROCESSORS: Final = 4
# On one serial device. qemu (seen with 7.2) says three things of each port when the machine boots,
# and forgets those for which its queue has no room: with 17 ports, the last are never connected.
_PORTS: Final = 8
# Emulated processors get the x86-64-v2 that numpy's and Arrow's wheels need, and no more: each
# feature more is one more to emulate.
_EMULATED: Final = "Nehalem-v1,+rdrand"
# Nobody attacks a machine from inside that is gone in a minute; the rest spares it time.
_KERNEL_WORDS: Final = (
    "quiet loglevel=1 panic=-1 mitigations=off nokaslr random.trust_cpu=on selinux=0 apparmor=0"
    " audit=0 net.ifnames=0 console=ttyS0"
)


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """qemu with a kernel; `kvm` if the processor runs it, else it is emulated."""

    qemu: Path
    image: image.Image
    kvm: bool
    kind: Kind = "vm"
    least_memory: int = 256

    @property
    def how(self) -> How:
        """What runs it."""
        return "kvm" if self.kvm else "tcg"

    def launch(self, order: Order) -> Launch:
        """Put the initramfs into the machine's folder; return how it is started: see `Maker`."""
        work = order.work
        archive = work / "initramfs"
        archive.write_bytes(initramfs.build(self.image.files_of(image.FIRST_MODULES)))
        words = " ".join((_KERNEL_WORDS, *words_for(order, self.how)))
        processors = min(len(os.sched_getaffinity(0)), _MOST_PROCESSORS) if self.kvm else 1
        command = [
            *(str(self.qemu), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", f"pc,accel={self.how},usb=off"),
            *("-cpu", "host" if self.kvm else _EMULATED, "-smp", f"cpus={processors}"),
            *("-m", str(order.memory), "-kernel", str(self.image.bootable())),
            *("-initrd", str(archive), "-append", words),
            *_file("console", "/proc/self/fd/2", "-serial", "chardev:console"),
            *("-device", "virtio-serial-pci"),
            *_file("output", "/proc/self/fd/1", "-device", "virtconsole,nr=0,chardev=output"),
            *_lines(order.lines),
            *_folder("root", Path("/"), "readonly=on"),
            *_folder("work", work),
            *(_folder("out", order.out) if order.out is not None else ()),
        ]
        for number, plug in enumerate(order.plugs):
            command += [
                *(
                    "-netdev",
                    f"dgram,id=net{number},local.type=fd,local.str={plug.socket.fileno()}",
                ),
                "-device",
                f"virtio-net-pci,netdev=net{number},mac={plug.mac},host_mtu={plug.mtu},romfile=",
            ]
        settings = {
            "modules_folder": str(self.image.modules),
            "modules": "virtio_console virtio_net" if order.plugs else "virtio_console",
            "files": "9p",
            "output": "/dev/hvc0",
            "interfaces": str(len(order.plugs)),
        }
        return Launch(command, {}, settings)


def program() -> Path:
    """Return where qemu is; raise `Refused` if it, or what a machine's start calls, is missing."""
    return Path(tools.need(_TOOLS)[_PROGRAM])


def _file(name: str, path: str, *then: str) -> tuple[str, ...]:
    """A character device that appends to a file, and what it is for."""
    return ("-chardev", f"file,id={name},path={path},append=on", *then)


def _folder(tag: str, path: Path, *more: str) -> tuple[str, ...]:
    """A folder of ours that the machine can mount."""
    escaped = str(path).replace(",", ",,")
    options = ",".join((f"local,id={tag},path={escaped}", "security_model=none", *more))
    return (
        *("-fsdev", f"{options},multidevs=remap"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    )


def _lines(fds: Sequence[int]) -> list[str]:
    """The sockets that are lines, each a port with a name."""
    words = []
    for place, fd in enumerate(fds):
        device, port = divmod(place, _PORTS)
        if port == 0:
            words += ["-device", f"virtio-serial-pci,id=lines{device}"]
        name = f"line{place + 1}"
        words += ["-chardev", f"socket,id={name},fd={fd}"]
        words += ["-device", f"virtserialport,bus=lines{device}.0,chardev={name},name={name}"]
    return words
