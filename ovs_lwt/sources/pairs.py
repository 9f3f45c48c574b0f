"""Allowed pairs that say what is another endpoint's own, or nothing new."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import numpy as np

from ovs_lwt.columns import Flags, Indices, Pairs4, Pairs6, among
from ovs_lwt.pairs import other_owners, repeated_pairs
from ovs_lwt.sources.checks import Draft
from ovs_lwt.sources.report import Report, Spot
from ovs_lwt.sources.rows import EndpointRows, mac_text, pair_text


def check_pairs(rows: EndpointRows, draft: Draft, report: Report) -> None:
    """Note pairs whose MAC or address is another endpoint's own, and pairs that say nothing new."""
    own4 = rows.row4, rows.ip4
    own6 = rows.row6, rows.ip6
    tenants = list(draft.tenants)
    for pairs, own in ((rows.pairs4, own4), (rows.pairs6, own6)):
        if len(pairs):
            _Check(rows, tenants, pairs, own, report).run()


class _Check:
    """The pairs of one address family."""

    def __init__(
        self,
        rows: EndpointRows,
        tenants: list[str],
        pairs: Pairs4 | Pairs6,
        own: tuple[Indices, np.ndarray],
        report: Report,
    ) -> None:
        self._rows, self._tenants, self._report = rows, tenants, report
        self._pairs, self._own = pairs, own
        self._owner = pairs.endpoint.astype(np.intp)

    def run(self) -> None:
        rows, pairs, report = self._rows, self._pairs, self._report
        whose = other_owners(
            rows.tenant, (np.arange(len(rows)), rows.mac), (self._owner, pairs.mac)
        )
        # A MAC that could not be read is 0, and has been noted.
        whose[pairs.mac == 0] = -1

        def say_mac(at: int) -> tuple[Spot, str]:
            mac, other = mac_text(int(pairs.mac[at])), int(whose[at])
            return self._spot(at), (
                f"MAC {mac} is the own one of {self._name(other)}"
                f" ({rows.find(other, 'mac', '')}): a pair has the endpoint's own MAC, or one that"
                " no endpoint of the tenant has as its own"
            )

        report.rows(np.flatnonzero(whose >= 0), say_mac, "MAC of a pair that is another's")
        whose_ip = other_owners(rows.tenant, self._own, (self._owner, pairs.ip))

        def say_ip(at: int) -> tuple[Spot, str]:
            text, other = str(self._address(at)), int(whose_ip[at])
            return self._spot(at), (
                f"address {text} is already that of {self._name(other)}"
                f" ({rows.find(other, 'ip', text)}): an address that several endpoints may have"
                " stands in allowed_pairs of each, and in ip of none"
            )

        report.rows(np.flatnonzero(whose_ip >= 0), say_ip, "address of a pair that is another's")
        later, _ = repeated_pairs(pairs)

        def say_twice(at: int) -> tuple[Spot, str]:
            pair = pair_text(int(pairs.mac[at]), self._address(at))
            return self._spot(at), f"the pair {pair} stands twice"

        report.rows(np.sort(later), say_twice, "pair used twice")

        def say_own(at: int) -> tuple[Spot, str]:
            return self._spot(at), (
                f"{self._address(at)} with the endpoint's own MAC stands in ip already: leave it"
                " out here"
            )

        report.rows(np.flatnonzero(self._says_nothing()), say_own, "pair that is the endpoint's")

    def _says_nothing(self) -> Flags:
        """Whether a pair is the endpoint's own MAC with an address that it lists."""
        listing, listed = self._own
        near = np.isin(listing, self._owner)
        says = among((self._owner, self._pairs.ip), (listing[near], listed[near]))
        nothing: Flags = says & (self._rows.mac[self._owner] == self._pairs.mac)
        return nothing

    def _spot(self, at: int) -> Spot:
        text = pair_text(int(self._pairs.mac[at]), self._address(at))
        return self._rows.find(int(self._owner[at]), "allowed_pairs", text)

    def _address(self, at: int) -> IPv4Address | IPv6Address:
        ip = self._pairs.ip[at]
        return ip_address(ip.tobytes() if isinstance(ip, np.ndarray) else int(ip))

    def _name(self, row: int) -> str:
        return f"{self._tenants[int(self._rows.tenant[row])]}/{self._rows.name[row].as_py()}"
