"""ovs-lwt: thousands of tenant networks over one shared VXLAN port."""

from __future__ import annotations

import warnings

from ovs_lwt.printable import guard_log

__version__ = "0.1.0"

# Before anybody of ours can log.
guard_log()

# Ryu imports eventlet, whose advice is not for our users.
warnings.filterwarnings("ignore", message="\\s*Eventlet is deprecated")
