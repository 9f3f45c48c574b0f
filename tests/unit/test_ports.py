"""Claims of ports, held against the overlay."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_lwt.ports import Renaming, resolve
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.view import LocalPorts
from ovs_lwt.vswitch import LocalPort
from tests.support.overlays import two_tenants

TOPOLOGY = from_dict(two_tenants())
HOST1 = TOPOLOGY.vtep_index("host1")


def guests(found: LocalPorts) -> list[tuple[str, int, bool]]:
    return [
        (TOPOLOGY.endpoint_id(int(endpoint)), int(port), bool(marked))
        for endpoint, port, marked in zip(found.endpoint, found.port, found.marked, strict=True)
    ]


def test_claims_become_ports_in_the_order_of_endpoints() -> None:
    found, errors = resolve(
        TOPOLOGY,
        HOST1,
        [
            LocalPort("r", 3, "red/web1", marking="tc"),
            LocalPort("b", 8, "blue/web1"),
            LocalPort("uplink", 1),
        ],
    )
    assert guests(found) == [("blue/web1", 8, False), ("red/web1", 3, True)]
    assert errors == {}


def test_no_ports_are_no_guests() -> None:
    found, errors = resolve(TOPOLOGY, HOST1, [])
    assert guests(found) == []
    assert len(found) == 0
    assert errors == {}
    columns = (found.endpoint, found.port, found.marked)
    assert [column.dtype for column in columns] == [np.uint32, np.uint32, np.bool_]


@pytest.mark.parametrize(
    ("claim", "error"),
    [
        ("bleu/web1", "the overlay has no tenant 'bleu' (did you mean 'blue'?)"),
        ("blue/web4", "tenant 'blue' has no endpoint 'web4'"),
        ("blue/web2", "blue/web2 lives on host2, says the overlay, and this is host1"),
        ("blue", "'blue' is not an endpoint: write it TENANT/NAME"),
        ("blue/", "'blue/' is not an endpoint"),
        ("/web1", "the overlay has no tenant ''"),
        ("", "'' is not an endpoint"),
        ("blue/web1/eth0", "tenant 'blue' has no endpoint 'web1/eth0'"),
    ],
)
def test_a_wrong_claim_is_told_to_its_port_and_harms_no_other(claim: str, error: str) -> None:
    found, errors = resolve(
        TOPOLOGY, HOST1, [LocalPort("wrong", 1, claim), LocalPort("right", 2, "blue/web1")]
    )
    assert guests(found) == [("blue/web1", 2, False)]
    assert list(errors) == ["wrong"]
    assert errors["wrong"].startswith(error)


def test_of_two_ports_on_one_endpoint_the_lower_number_has_it() -> None:
    ports = [
        LocalPort("third", 30, "blue/web1"),
        LocalPort("first", 10, "blue/web1"),
        LocalPort("second", 20, "blue/web1"),
    ]
    found, errors = resolve(TOPOLOGY, HOST1, ports)
    assert guests(found) == [("blue/web1", 10, False)]
    assert set(errors) == {"second", "third"}
    assert errors["third"].startswith("blue/web1 is behind port 'first' already: take one")
    # Whoever had it goes: the next one has it, without a word from anybody.
    found, errors = resolve(TOPOLOGY, HOST1, [ports[0], ports[2]])
    assert guests(found) == [("blue/web1", 20, False)]


def test_a_claim_of_another_host_leaves_the_endpoint_free() -> None:
    host2 = TOPOLOGY.vtep_index("host2")
    found, errors = resolve(
        TOPOLOGY, host2, [LocalPort("a", 1, "blue/web1"), LocalPort("b", 2, "blue/web2")]
    )
    assert guests(found) == [("blue/web2", 2, False)]
    assert errors["a"] == "blue/web1 lives on host1, says the overlay, and this is host2"


def test_two_ports_of_one_number_are_not_two_guests() -> None:
    """Their flows would have one match, and the one guest would speak for the other."""
    ports = [LocalPort("b", 3, "red/web1"), LocalPort("a", 3, "blue/web1")]
    found, errors = resolve(TOPOLOGY, HOST1, ports)
    assert len(found) == 1
    assert errors == {"a": "has the OpenFlow number 3, as port 'b' has"}


def test_a_port_that_was_renamed_is_taken_for_the_last_name_whatever_is_seen() -> None:
    """The database shows what was written by and by, the name between two renames included."""
    renaming = Renaming()

    def over(claim: str, now: float) -> str | None:
        [port] = renaming.over([LocalPort("p1", 1, claim)], now)
        return port.claim

    renaming.note({"p1": ("blue/web1", "azure/web1")}, 0.0)
    assert over("blue/web1", 0.0) == "azure/web1"
    renaming.note({"p1": ("azure/web1", "blue/web1")}, 1.0)
    for seen in ("blue/web1", "azure/web1", "blue/web1"):
        assert over(seen, 2.0) == "blue/web1"
    # Somebody else's hand counts, and so does time.
    assert over("red/web1", 3.0) == "red/web1"
    renaming.note({"p1": ("blue/web1", "azure/web1")}, 10.0)
    assert over("azure/web1", 30.0) == "azure/web1"
    assert over("blue/web1", 31.0) == "blue/web1"
