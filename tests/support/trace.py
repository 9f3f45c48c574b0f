"""What `ovs-appctl ofproto/trace` says becomes of a packet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Encapsulation as the userspace datapath does it, and the way out of the host.
_PUSHED = re.compile(r"(?:clone\()?tnl_push\(.*?,out_port\([\w-]+\)\),u0\)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """What `ofproto/trace` says becomes of a packet."""

    text: str

    @property
    def actions(self) -> str:
        """What the datapath would do."""
        return self._line("Datapath actions")

    @property
    def copies(self) -> Sequence[tuple[str, int]]:
        """Every copy that leaves the bridge: (port, mark), by way of the underlay as "tunnel"."""
        found, mark = [], 0
        for action in _PUSHED.sub("tunnel", self.actions).split(","):
            if marked := re.fullmatch(r"set\(skb_mark\((\w+)\)\)", action):
                mark = int(marked[1], 0)
            elif action != "drop":
                found.append((action, mark))
        return found

    @property
    def final(self) -> Mapping[str, str]:
        """The packet's fields after the last table: tun_id, metadata, pkt_mark, …

        A field that is zero is not printed.
        """
        line = self._line("Final flow")
        if line == "unchanged":
            line = self._line("Flow")
        return dict(re.findall(r"(\w+)=([^,]*)", line))

    @property
    def tables(self) -> Sequence[str]:
        """The tables it visited: numbers, in order."""
        return re.findall(r"^ ?(\d+)\. ", self.text, re.MULTILINE)

    def _line(self, name: str) -> str:
        found = re.findall(rf"^{name}: (.*)$", self.text, re.MULTILINE)
        assert found, self.text
        return str(found[-1])
