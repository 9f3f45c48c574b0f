"""User-mode Linux as a maker of machines: where it is, and its command line."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ovs_lwt.lab.kernel import tools
from ovs_lwt.lab.kernel.maker import How, Kind, Launch, Order, words_for
from ovs_lwt.lab.kernel.uml import xstate
from ovs_lwt.mistakes import Refused

FOLDER_VARIABLE = "OVS_LWT_UML"
_BINARY = "linux.uml"
_PACKAGE = "user-mode-linux"
# What a machine's first steps call, and the Debian packages that have them.
_TOOLS: Final = {"modprobe": "kmod", "ip": "iproute2", "pivot_root": "mount", "stty": "coreutils"}


@dataclass(frozen=True, slots=True)
class UserModeLinux:
    """The kernel `linux` (an executable file) and the folder `modules` with its modules."""

    linux: Path
    modules: Path
    kind: Kind = "uml"
    how: How = "uml"
    least_memory: int = 128

    def launch(self, order: Order) -> Launch:
        """Return how the machine is started; see `Maker`."""
        work = order.work
        command = [
            str(self.linux),
            *("rootfstype=hostfs", "rootflags=/", "rw", f"mem={order.memory}M"),
            *(f"init={work}/init", "con=null", "con0=null,fd:2", "ssl=null", "ssl0=null,fd:1"),
            *(f"ssl{n}=fd:{line}" for n, line in enumerate(order.lines, 1)),
            *("quiet", "loglevel=1", "selinux=0", "umid=m", f"uml_dir={work}/"),
            *words_for(order, self.how),
            *(
                f"vec{n}:transport=fd,fd={plug.socket.fileno()},mtu={plug.mtu},mac={plug.mac}"
                for n, plug in enumerate(order.plugs)
            ),
        ]
        environment = {"TMPDIR": _memory_folder(order.memory)}
        if xstate.needed():
            # By a name without spaces and colons, which LD_PRELOAD takes for ends of names.
            library = work / "xstate.so"
            library.symlink_to(xstate.library())
            environment["LD_PRELOAD"] = str(library)
        settings = {
            "modules_folder": str(self.modules),
            # IPv6 is a module there; no feature that needs it loads it by itself.
            "modules": "ipv6",
            "files": "hostfs",
            "output": "/dev/ttyS0",
            "line": "/dev/ttyS",
        }
        return Launch(command, environment, settings)


def find() -> UserModeLinux:
    """Return the user-mode Linux of this machine; raise `Refused` if there is none.

    ``OVS_LWT_UML`` may name a folder into which the Debian package was extracted (``dpkg -x``),
    for whoever cannot install it; else ``linux.uml`` is looked for in PATH.
    """
    tools.need(_TOOLS)
    extracted = os.environ.get(FOLDER_VARIABLE)
    if extracted:
        linux = Path(extracted, "usr/bin", _BINARY).absolute()
        if not os.access(linux, os.X_OK):
            raise Refused(
                f"{FOLDER_VARIABLE} names {extracted}, which has no usr/bin/{_BINARY}: extract"
                f" Debian's package {_PACKAGE} there (dpkg -x), or unset it"
            )
    else:
        found = tools.find(_BINARY)
        if found is None:
            raise Refused(
                f"user-mode Linux is not installed: 'apt-get install {_PACKAGE}' brings it"
                f" (Debian), or 'apt-get download {_PACKAGE}', 'dpkg -x' and"
                f" {FOLDER_VARIABLE}=FOLDER"
            )
        linux = Path(found).resolve()
    modules = linux.parent.parent / "lib/uml/modules"
    if not modules.is_dir():
        raise Refused(f"user-mode Linux lacks its modules, {modules}: reinstall {_PACKAGE}")
    return UserModeLinux(linux, modules)


def _memory_folder(memory: int) -> str:
    """Return where a machine's memory (MB) goes: a file, quick in /dev/shm if it has room.

    A container's /dev/shm is often small, and mounted so that nothing in it can be executed.
    """
    try:
        shm = os.statvfs("/dev/shm")
    except OSError:
        return tempfile.gettempdir()
    room = shm.f_bavail * shm.f_frsize >= memory << 20
    usable = not shm.f_flag & os.ST_NOEXEC and os.access("/dev/shm", os.W_OK)
    return "/dev/shm" if room and usable else tempfile.gettempdir()
