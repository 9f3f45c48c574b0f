"""A flood list wider than the kernel datapath's action list: the slow path, and every VTEP all the
same gets a copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_lwt.backends.openflow.limits import ONE_GROUP, ONE_PASS, WIDEST
from ovs_lwt.lab.kernel import settle
from tests.support import wide
from tests.support.overlays import spread, view
from tests.support.ovs import OvsHost


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OvsHost]:
    settle()
    with OvsHost("kwf", tmp_path_factory.mktemp("wide") / "h") as host:
        wide.build(host, userspace=False)
        yield host


@pytest.mark.parametrize("hosts", [ONE_GROUP - 10, ONE_PASS, 1000, 3000])
def test_every_vtep_gets_one_copy(host: OvsHost, hosts: int) -> None:
    of = view(spread(hosts), "host0001", nd_by_flow=False, userspace=False, offers=True)
    wide.load(host, of)
    with wide.listening(host) as wires:
        copies = wide.copies(wires, of)
    assert copies == wide.everybody(of)
    slow = "slow_path(action)" in host.appctl("dpctl/dump-flows", "-m")
    # In between it depends, on the underlay's address family for one.
    assert slow is (hosts > 2 * ONE_PASS)


@pytest.mark.parametrize("hosts", [400, 1000, WIDEST])
def test_every_vtep_but_the_leaf_gets_one_copy_where_a_leaf_asks(host: OvsHost, hosts: int) -> None:
    """Leaves of several shares: each share is passed over in the chain in turn."""
    of = view(spread(hosts), "host0001", nd_by_flow=False, userspace=False, offers=True)
    wide.load(host, of)
    with wide.listening(host) as wires:
        for leaf in wide.one_of_each_share(of):
            found, heard_here = wide.copies_asked_for(host, wires, of, leaf)
            assert found == wide.everybody(of, but=leaf)
            assert heard_here == 1
