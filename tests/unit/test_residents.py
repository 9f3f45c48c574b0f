"""Whose port has which name: no two guests of a host have one, and all machines agree on them."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from ovs_lwt import names
from ovs_lwt.desired import write
from ovs_lwt.mistakes import Refused
from ovs_lwt.plane import Options
from ovs_lwt.residents import endpoints_on, port_names
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.topology import Topology
from ovs_lwt.veth import plan_attach


def overlay(*tenants: dict[str, str]) -> Topology:
    """Each tenant's endpoints: name -> host. The first tenant is called t1, or as `name` says."""
    described: dict[str, Any] = {}
    for number, endpoints in enumerate(tenants, 1):
        tenant = endpoints.pop("name", f"t{number}")
        described[tenant] = {
            "vni": number,
            "endpoints": {
                name: {"host": host, "mac": f"02:00:00:00:{at >> 8:02x}:{at & 255:02x}"}
                for at, (name, host) in enumerate(endpoints.items(), 1)
            },
        }
    vteps = {"host1": {"address": "192.0.2.11"}, "host2": {"address": "192.0.2.12"}}
    return from_dict({"vteps": vteps, "tenants": described})


def exported(topology: Topology, bridge: str = "br-lwt") -> str:
    out = io.StringIO()
    write(topology, "host1", "flows", Options(bridge, None, state=Path("/nonexistent")), out)
    return out.getvalue()


def matches(flows: str) -> list[str]:
    lines = [line for line in flows.splitlines() if line and not line.startswith("#")]
    return [re.sub(r"^cookie=\S+ ", "", line).partition(" actions=")[0] for line in lines]


@pytest.fixture
def one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody finds by chance: names that are shortened have one hash, but for the last try."""
    real = hashlib.blake2b

    def weak(text: bytes, digest_size: int) -> Any:
        if b"/" not in text:
            return real(text, digest_size=digest_size)
        return real(b"always" + text.partition(b"/")[2].partition(b"/")[2], digest_size=digest_size)

    monkeypatch.setattr(names, "blake2b", weak)


class TestUnique:
    def test_all_guests_of_one_prefix(self) -> None:
        """The 16 bits that told them apart once did not: 70 % of such hosts had two of a name."""
        found = port_names(overlay({f"web-{n:04}": "host1" for n in range(2000)}), 0)
        assert len(set(found.values())) == 2000
        assert found["t1/web-0000"] == names.port_name("t1", "web-0000")

    def test_even_where_hashes_coincide(self, one_hash: None) -> None:
        topology = overlay(
            {"name": "long-tenant", "web-1": "host1", "web-2": "host1", "web-3": "host2"}
        )
        here, there = port_names(topology, 0), port_names(topology, 1)
        assert len({*here.values()}) == 2
        # The first of a host has the name that it would have alone.
        assert there["long-tenant/web-3"] == here["long-tenant/web-1"]

        flows = matches(exported(topology))
        assert len(flows) == len(set(flows)), "two flows with one match"
        plans = [plan_attach(topology, f"long-tenant/web-{n}", "g") for n in (1, 2, 3)]
        assert [plan.port_name for plan in plans] == [*here.values(), *there.values()]

    def test_the_order_of_the_file_is_nothing_to_them(self, one_hash: None) -> None:
        one = overlay({"name": "long-tenant", "a": "host1", "b": "host1"})
        other = from_dict(
            {
                "vteps": {"host2": {"address": "192.0.2.12"}, "host1": {"address": "192.0.2.11"}},
                "tenants": {
                    "long-tenant": {
                        "vni": 1,
                        "endpoints": {
                            "b": {"host": "host1", "mac": "02:00:00:00:00:02"},
                            "a": {"host": "host1", "mac": "02:00:00:00:00:01"},
                        },
                    }
                },
            }
        )
        assert port_names(one, 0) == port_names(other, 0)

    def test_a_dash_does_not_make_two_ports_one(self) -> None:
        topology = overlay({"name": "a-b", "c": "host1"}, {"name": "a", "b-c": "host1"})
        assert len(set(port_names(topology, 0).values())) == 2

    def test_case_is_told_apart(self) -> None:
        topology = overlay({"web": "host1", "Web": "host1"})
        assert set(port_names(topology, 0).values()) == {"t1-web", "t1-Web"}


def test_the_flows_of_two_guests_never_have_one_match() -> None:
    """The two names whose 16 bits coincided."""
    topology = overlay(
        {"name": "customer-7", "web-0140": "host1", "web-0310": "host1", "other": "host2"}
    )
    flows = matches(exported(topology))
    assert len(flows) == len(set(flows))


def test_the_bridge_is_never_a_guests_port() -> None:
    topology = overlay({"name": "br", "lwt": "host1", "x": "host2"})
    assert not re.search(r"in_port=br-lwt[ ,]", exported(topology))
    assert re.search(r"in_port=br-lw~", exported(topology))
    # Another bridge is another name that nobody else may have.
    assert re.search(r"in_port=br-x[ ,]", exported(overlay({"name": "br", "x": "host1"})))
    assert not re.search(
        r"in_port=br-x[ ,]", exported(overlay({"name": "br", "x": "host1"}), bridge="br-x")
    )


def test_endpoints_of_a_host_in_the_order_of_the_overlay() -> None:
    topology = overlay({"a": "host1", "b": "host2", "c": "host1"}, {"d": "host1"})
    indices, identities = endpoints_on(topology, 0)
    assert identities == ["t1/a", "t1/c", "t2/d"]
    assert [topology.endpoint_id(int(index)) for index in indices] == identities
    assert endpoints_on(topology, 1)[1] == ["t1/b"]


class TestWished:
    def plan(self, port: str, **more: Any) -> str:
        topology = overlay({"web1": "host1", "web2": "host1", "web3": "host2"})
        return plan_attach(topology, "t1/web1", "g", port=port, **more).port_name

    @pytest.mark.parametrize("port", ["tap0", "t1-web1", "t1-web3"])
    def test_any_name_that_is_free(self, port: str) -> None:
        assert self.plan(port) == port

    @pytest.mark.parametrize(
        ("port", "why"),
        [
            ("br-lwt", "one of ovs-lwt's own devices"),
            ("vxlan_sys_4789", "one of Open vSwitch's own devices"),
            ("no/name", "is not made of letters"),
            ("much-too-long-a-name", "15 characters"),
            ("t1-web2", "is what the port of t1/web2 is called"),
            ("br-mine", "the name of the bridge"),
        ],
    )
    def test_others_are_refused_with_the_reason(self, port: str, why: str) -> None:
        with pytest.raises(Refused, match=re.escape(why) + ".*--port"):
            self.plan(port, taken={"br-mine"})


def test_a_guest_is_not_attached_where_it_does_not_live() -> None:
    topology = overlay({"web1": "host1"})
    assert plan_attach(topology, "t1/web1", "g", host="host1")
    with pytest.raises(
        Refused, match="t1/web1 lives on host1, says the overlay, and this is host2"
    ):
        plan_attach(topology, "t1/web1", "g", host="host2")
    with pytest.raises(Refused, match="did you mean 'host"):
        plan_attach(topology, "t1/web1", "g", host="hots1")
