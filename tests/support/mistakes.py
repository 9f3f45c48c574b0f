"""An overlay without a mistake, to make mistakes in, and what the user is then told."""

from __future__ import annotations

import pytest

from ovs_lwt.mistakes import OverlayInvalid
from ovs_lwt.sources.overlay_file import parse_text

GOOD = """\
underlay: {udp_port: 4789, mtu: 1500}
vteps:
  host1: {address: 192.0.2.11}
  host2: {address: 192.0.2.12}
  host6: {address: "2001:db8::6"}
tenants:
  blue:
    vni: 1010
    mark: 10
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01", ip: [10.0.0.11/24, "fd00::11/64"]}
      web2: {host: host2, mac: "02:00:00:00:00:02", ip: [10.0.0.12/24]}
  red:
    vni: 1020
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(OverlayInvalid) as caught:
        parse_text(text)
    return [str(mistake) for mistake in caught.value.mistakes]
