"""libvirt itself: its daemon with qemu's driver on a host of a test, and a guest small enough to be
emulated in seconds.

    with Libvirt(host, folder) as libvirt:
        libvirt.virsh("define", str(file))

The daemon is in the host's network namespace and in a mount namespace of its own, where all that it
keeps is in memory: the machine's own libvirt, if it has one, does not meet it. It and its domains
end with the test.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ovs_lwt.lab.kernel.vm import image, initramfs
from tests.support.ovs import OvsHost, eventually

# No cgroups, no AppArmor, no D-Bus: the daemon is nobody's service. Nor cores: libvirt 11 asks for
# unlimited ones, whatever its own limit is, and starts no domain where it may not.
_QEMU: Final = """\
security_driver = "none"
user = "root"
group = "root"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
max_core = 0
"""
_DAEMON: Final = """\
unix_sock_dir = "{folder}"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""
# A whole libvirt's package makes this user; the daemon wants it, whatever qemu.conf says.
_USER, _GROUP = (
    "libvirt-qemu:x:64055:64055::/:/bin/false\n",
    "libvirt-qemu:x:64055:\nkvm:x:64056:\n",
)
_START: Final = """\
set -e
for kept in /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt; do
    mkdir -p "$kept"
    mount -t tmpfs tmpfs "$kept"
done
mount -t tmpfs tmpfs /run
for users in passwd group; do mount --bind "$1/$users" "/etc/$users"; done
cp "$1/qemu.conf" /etc/libvirt
exec libvirtd --config "$1/libvirtd.conf" --pid-file "$1/libvirtd.pid"
"""
_SECONDS: Final = 60.0


class Libvirt:
    """A running libvirtd; `folder` is its own."""

    def __init__(self, host: OvsHost, folder: Path) -> None:
        self._host = host
        self._folder = folder
        self._socket = folder / "libvirt-sock"
        self._log = folder / "log"

    def __enter__(self) -> Self:
        folder = self._folder
        (folder / "qemu.conf").write_text(_QEMU)
        (folder / "libvirtd.conf").write_text(_DAEMON.format(folder=folder))
        for name, more in (("passwd", _USER), ("group", _GROUP)):
            (folder / name).write_text(Path("/etc", name).read_text() + more)
        inside = ["ip", "netns", "exec", str(self._host.netns), "unshare", "--mount"]
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(
                [*inside, "sh", "-c", _START, "libvirtd", str(folder)],
                env=self._host.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not eventually(lambda: self._answers() or self._daemon.poll() is not None, _SECONDS):
            self._end()
        assert self._daemon.poll() is None, self._log.read_text()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for name in self.virsh("list", "--name").split():
                self.virsh("destroy", name)
        finally:
            self._end()

    @property
    def env(self) -> Mapping[str, str]:
        """The environment in which `virsh` and Open vSwitch's tools speak with this host."""
        uri = f"qemu+unix:///system?socket={self._socket}"
        return self._host.env | {"LIBVIRT_DEFAULT_URI": uri}

    def virsh(self, *words: str) -> str:
        """What `virsh` prints; it must succeed."""
        done = self._virsh(*words)
        assert done.returncode == 0, (
            f"virsh {' '.join(words)}: {done.stderr}{self._log.read_text()}"
        )
        return done.stdout

    def _virsh(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["virsh", *words],
            env=dict(self.env),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def _answers(self) -> bool:
        return self._socket.exists() and self._virsh("list").returncode == 0

    def _end(self) -> None:
        self._daemon.terminate()
        try:
            self._daemon.wait(10)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()


_INIT: Final = """\
#!/bin/sh
set -eu
# By sysfs insmod learns that the kernel takes compressed modules as they are (Debian 13).
mount -t sysfs sysfs /sys
for module in /modules/*; do insmod "$module"; done
ip link set lo up
ip address add {address} dev eth0
ip link set eth0 up
echo "{ready}"
exec ip monitor link
"""
READY: Final = "the guest is up"

_DOMAIN: Final = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    {interface}
    <serial type='file'><source path='{console}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def domain(folder: Path, name: str, interface: str, address: str) -> Path:
    """Write the XML of a domain with this `<interface>`; return the file.

    Its guest has this address (with its prefix length) and does nothing but answer.
    """
    found = image.find()
    assert found is not None, "a kernel for virtual machines: make setup"
    programs = {name: str(shutil.which(name)) for name in ("sh", "insmod", "ip", "mount")}
    files = initramfs.with_libraries(programs)
    files["init"] = _INIT.format(address=address, ready=READY).encode()
    for number, module in enumerate(found.files_of(("virtio_pci", "virtio_net"))):
        files[f"modules/{number:02}-{module.name}"] = module.read_bytes()
    initrd = folder / f"{name}.initrd"
    initrd.write_bytes(initramfs.archive(files))
    file = folder / f"{name}.xml"
    file.write_text(
        _DOMAIN.format(
            name=name,
            kernel=found.bootable(),
            initrd=initrd,
            interface=interface,
            console=console(folder, name),
        )
    )
    return file


def console(folder: Path, name: str) -> Path:
    """What the guest of a domain says."""
    return folder / f"{name}.console"
