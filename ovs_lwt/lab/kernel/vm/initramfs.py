"""The initramfs of a virtual machine: programs of this machine and modules, as a cpio archive.

The format is "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

from ovs_lwt.lab.kernel import tools

# What initramfs.sh calls, and the Debian packages that have them.
PROGRAMS: Final = {
    "sh": "dash",
    "insmod": "kmod",
    "mount": "mount",
    "switch_root": "util-linux",
}
_FOLDERS: Final = ("bin", "dev", "modules", "proc", "root", "run", "sys")
# A console for the first process: devices are 5:1.
_CONSOLE: Final = ("dev/console", stat.S_IFCHR | 0o600, 5, 1)
_LIBRARY: Final = re.compile(r"(/\S+) \(0x")
_SECONDS: Final = 30.0


def build(modules: Sequence[Path]) -> bytes:
    """Return an archive that loads `modules` in this order, then runs what is on the host."""
    files = with_libraries(tools.need(PROGRAMS))
    files["init"] = resources.files(__package__).joinpath("initramfs.sh").read_bytes()
    for number, module in enumerate(modules):
        files[f"modules/{number:02}-{module.name}"] = module.read_bytes()
    return archive(files)


def with_libraries(programs: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of programs (name -> where it is here) as bin/NAME, with their libraries."""
    files = {f"bin/{name}": Path(where).read_bytes() for name, where in programs.items()}
    for library in _libraries(programs.values()):
        files[library.lstrip("/")] = Path(library).read_bytes()
    return files


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a cpio archive of these files (path -> content), all of them executable, and of the
    folders and devices that a system needs.
    """
    folders = {
        *_FOLDERS,
        *(str(parent) for name in files for parent in PurePosixPath(name).parents),
    }
    entries = [_entry(name, stat.S_IFDIR | 0o755) for name in sorted(folders - {"."})]
    entries.append(_entry(_CONSOLE[0], _CONSOLE[1], device=_CONSOLE[2:]))
    entries += [_entry(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    return b"".join([*entries, _entry("TRAILER!!!", 0)])


def _libraries(programs: Iterable[str]) -> Iterator[str]:
    """Yield the shared libraries of programs, the dynamic linker included, each once."""
    said = subprocess.run(
        ["ldd", *programs], capture_output=True, text=True, timeout=_SECONDS, check=False
    ).stdout
    yield from dict.fromkeys(_LIBRARY.findall(said))


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """Return one file of the archive; inode numbers are of use only for hard links."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(head + path) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
