"""Virtual machines of qemu's, with Debian's own kernel: what user-mode Linux lacks is there.

image       the kernel and its modules: fetched once, unpacked, never installed
initramfs   what the kernel needs to find this machine's files
maker       the command line of qemu
"""
