"""User-mode Linux: a kernel as a process. It needs no root, no virtualisation, no disk image.

maker    where it is on this machine, and its command line
xstate   the library that it needs on processors with a large register state
"""
