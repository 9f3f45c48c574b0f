"""A flood list wider than the kernel datapath's action list: the slow path, and every VTEP all the
same gets a copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ovs_lwt.backends.openflow.limits import ONE_GROUP, ONE_PASS
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
    of = view(spread(hosts), "host0001", nd_by_flow=False, userspace=False)
    wide.load(host, of)
    with wide.listening(host) as wires:
        copies = wide.copies(wires, of)
    vteps = of.topology.vteps
    assert copies == {(vteps.address(index), 1010): 1 for index in range(1, hosts)}
    slow = "slow_path(action)" in host.appctl("dpctl/dump-flows", "-m")
    # In between it depends, on the underlay's address family for one.
    assert slow is (hosts > 2 * ONE_PASS)
