"""``python -m ovs_lwt.lab.kernel.vm``: have a kernel for virtual machines; fetch one if need be."""

from __future__ import annotations

import sys

from ovs_lwt.lab.kernel.vm import image
from ovs_lwt.mistakes import Refused


def main() -> int:
    """Return the exit status: 1 if there is none, and none can be fetched."""
    try:
        found = image.find() or image.fetch(lambda line: print(line, file=sys.stderr))
        found.bootable()
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
