"""A kernel for virtual machines: where one is on this machine, and how to get Debian's."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ovs_lwt.lab.kernel import tools
from ovs_lwt.lab.kernel.cache import cache
from ovs_lwt.mistakes import Refused

FOLDER_VARIABLE: Final = "OVS_LWT_VM"
# Debian's package of no content that needs the newest kernel.
_PACKAGE: Final = "linux-image-amd64"
_FETCHED: Final = "linux-image"
# What a machine sees its files by. Every Debian kernel has these modules and those below, but not
# every kernel that people build themselves.
FIRST_MODULES: Final = ("virtio_pci", "9pnet_virtio", "9p")
_MODULES: Final = (*FIRST_MODULES, "overlay", "virtio_console", "virtio_net")
_FETCH_SECONDS: Final = 900.0
# Linux/x86 boot protocol (Documentation/arch/x86/boot.rst): where a bzImage says what is in it.
_SETUP_SECTORS: Final = 0x1F1
_MAGIC: Final = slice(0x202, 0x206)
_PAYLOAD: Final = 0x248
_DECOMPRESS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"\xfd7zXZ\0": lambda data: lzma.LZMADecompressor().decompress(data),
    b"\x1f\x8b": gzip.decompress,
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data),
}
# An ELF note "Xen" of type 18 (XEN_ELFNOTE_PHYS32_ENTRY): qemu can start this kernel as it is.
_PVH_NOTE: Final = tuple(struct.pack("<3I4s", 4, size, 18, b"Xen\0") for size in (4, 8))


@dataclass(frozen=True, slots=True)
class Image:
    """The kernel `release`: the file `kernel`, and the folder `modules` with RELEASE in it."""

    release: str
    kernel: Path
    modules: Path

    def files_of(self, wanted: Sequence[str]) -> list[Path]:
        """Return the files of these modules and those that they need, in the order to load them.

        What is built into the kernel has none. Raises `KeyError` for what it does not have at all.
        """
        folder = self.modules / self.release
        depends: dict[str, tuple[str, list[str]]] = {}
        for text in (folder / "modules.dep").read_text().splitlines():
            path, _, names = text.partition(":")
            depends[_module(path)] = path, names.split()
        built_in = {_module(p) for p in (folder / "modules.builtin").read_text().split()}
        found: dict[Path, None] = {}
        for name in wanted:
            if name in built_in:
                continue
            path, needs = depends[name]
            # Each comes with all that it needs, the deepest last.
            for each in (*reversed(needs), path):
                found[folder / each] = None
        return list(found)

    def bootable(self) -> Path:
        """Return the file that qemu starts soonest: the kernel, unpacked into the cache.

        Emulated, a kernel takes more time to unpack itself than for all the rest of the boot.
        """
        unpacked = cache() / f"vmlinux-{self.release}"
        if unpacked.exists() and unpacked.stat().st_mtime >= self.kernel.stat().st_mtime:
            return unpacked
        data = _unpack(self.kernel.read_bytes())
        if data is None:
            return self.kernel
        new = unpacked.with_suffix(f".{os.getpid()}")
        new.write_bytes(data)
        new.replace(unpacked)
        return unpacked


def find() -> Image | None:
    """Return a kernel of this machine that a virtual machine can boot, or None.

    ``OVS_LWT_VM`` may name a folder into which a Debian package linux-image-… was extracted; else
    one that was fetched, or the newest that is installed and has the modules for it. Raises
    `Refused` if that folder has no such kernel.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        found = next(_images(Path(named).absolute()), None)
        if found is None:
            raise Refused(
                f"{FOLDER_VARIABLE} names {named}, which has no kernel with {', '.join(_MODULES)}:"
                " extract Debian's package linux-image-… there (dpkg -x) and run 'depmod -b"
                f" {named} RELEASE', or unset it"
            )
        return found
    for fetched in sorted(cache().glob(f"{_FETCHED}-*"), key=_version, reverse=True):
        for image in _images(fetched):
            return image
    return next(_images(Path("/")), None)


def fetch(say: Callable[[str], object]) -> Image:
    """Download Debian's kernel and unpack it into the cache; raise `Refused` if that fails.

    `say` is called with what is done.
    """
    programs = tools.need(
        {"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg", "depmod": "kmod"}
    )
    told = _run([programs["apt-cache"], "depends", "--important", _PACKAGE], Path("/"))
    package = re.search(r"Depends: (linux-image-\S+)", told)
    if package is None:
        raise Refused(
            f"apt knows no {_PACKAGE}, the kernel of virtual machines: 'apt-get update' may help;"
            f" else extract a kernel's package somewhere and set {FOLDER_VARIABLE} to that folder"
        )
    say(f"fetching {package[1]} into {cache()}, once: 70 MB to download, 400 MB unpacked")
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache()) as name:
        folder = Path(name)
        _run([programs["apt-get"], "-q", "download", package[1]], folder)
        (archive,) = folder.glob("*.deb")
        root = folder / "root"
        _run([programs["dpkg-deb"], "-x", str(archive), str(root)], folder)
        release = package[1].removeprefix("linux-image-")
        base = root / "usr" if (root / "usr/lib/modules").is_dir() else root
        _run([programs["depmod"], "-b", str(base), release], folder)
        to = cache() / f"{_FETCHED}-{release}"
        shutil.rmtree(to, ignore_errors=True)
        root.rename(to)
        to.chmod(0o755)
    image = next(_images(to), None)
    if image is None:
        raise Refused(f"{package[1]}, unpacked into {to}, has no kernel with {', '.join(_MODULES)}")
    return image


def _images(root: Path) -> Iterator[Image]:
    """Yield the kernels below `root` that can be a machine's, the newest first."""
    kernels = [kernel for kernel in root.glob("boot/vmlinuz-*") if os.access(kernel, os.R_OK)]
    for kernel in sorted(kernels, key=_version, reverse=True):
        release = kernel.name.removeprefix("vmlinuz-")
        for modules in (root / "lib/modules", root / "usr/lib/modules"):
            image = Image(release, kernel, modules)
            try:
                image.files_of(_MODULES)
            except (OSError, KeyError):
                continue
            yield image


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _module(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _unpack(image: bytes) -> bytes | None:
    """Return the ELF kernel in a bzImage; None if it cannot be unpacked here, or not started."""
    if image[_MAGIC] != b"HdrS":
        return None
    start, length = struct.unpack_from("<II", image, _PAYLOAD)
    start += 512 * ((image[_SETUP_SECTORS] or 4) + 1)
    payload = image[start : start + length]
    for magic, decompress in _DECOMPRESS.items():
        if payload.startswith(magic):
            # The four bytes behind are its length.
            kernel = decompress(payload[:-4])
            return kernel if any(note in kernel for note in _PVH_NOTE) else None
    return None


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_FETCH_SECONDS,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        first, *more = said.splitlines()
        raise Refused(
            f"the kernel of virtual machines could not be fetched: {command[0]}: {first}", *more
        )
    return done.stdout
