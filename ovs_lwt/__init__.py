"""ovs-lwt: thousands of tenant networks over one shared VXLAN port."""

from __future__ import annotations

import warnings

__version__ = "0.1.0"

# Python-ovs and Ryu import eventlet where it is installed; its advice is not for our users.
warnings.filterwarnings("ignore", message="\\s*Eventlet is deprecated")
