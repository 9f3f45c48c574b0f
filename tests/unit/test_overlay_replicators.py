"""Who may be a replicator, and by which UDP port it is asked."""

from __future__ import annotations

import pytest

from ovs_lwt.mistakes import OverlayInvalid
from ovs_lwt.sources.overlay_file import parse_text

OVERLAY = """\
vteps:
  host1: {address: 192.0.2.11, replicator: true}
  host2: {address: 192.0.2.12}
tenants:
  blue:
    vni: 1010
    endpoints:
      web1: {host: host1, mac: "02:00:00:00:00:01"}
"""


def test_nobody_replicates_who_is_not_told_to() -> None:
    assert parse_text(OVERLAY).vteps.replicator.tolist() == [True, False]


MISTAKES = {
    "of somebody else": (
        "replicator: true",
        "replicator: true, external: true",
        (
            "2: vteps.host1.replicator: somebody else runs this VTEP (external: true), and ovs-lwt"
            " cannot make it replicate: make one of your own hosts the replicator"
        ),
    ),
    "on another plane": (
        "replicator: true",
        "replicator: true, plane: bridge",
        (
            "2: vteps.host1.replicator: plane bridge cannot replicate for others: put the host on"
            " plane ovs, or make a host of plane ovs the replicator"
        ),
    ),
    "neither true nor false": (
        "replicator: true",
        "replicator: sometimes",
        ("2: vteps.host1.replicator: write true or false, not 'sometimes'"),
    ),
    "by the tunnels' own UDP port": (
        "vteps:",
        "underlay: {udp_port: 4790, replication_udp_port: 4790}\nvteps:",
        (
            "1: underlay.replication_udp_port: UDP port 4790 is udp_port already: give the requests"
            " to replicators another"
        ),
    ),
    "the tunnels by the requests' UDP port": (
        "vteps:",
        "underlay: {udp_port: 14789}\nvteps:",
        (
            "1: underlay.replication_udp_port: UDP port 14789 is udp_port already: give the"
            " requests to replicators another"
        ),
    ),
    "by no UDP port": (
        "vteps:",
        "underlay: {replication_udp_port: 65536}\nvteps:",
        ("1: underlay.replication_udp_port: replication_udp_port 65536 is outside 1..65535"),
    ),
}


@pytest.mark.parametrize(("right", "wrong", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_replicator_that_cannot_be_is_told_with_its_place(
    right: str, wrong: str, told: str
) -> None:
    with pytest.raises(OverlayInvalid) as caught:
        parse_text(OVERLAY.replace(right, wrong))
    assert [str(mistake) for mistake in caught.value.mistakes] == [f"overlay.yaml:{told}"]


@pytest.mark.parametrize("vni", [1, 0x1003F2, 0x8003F2, 0xFFFFFF])
def test_with_replicators_every_vni_will_do(vni: int) -> None:
    assert parse_text(OVERLAY.replace("1010", str(vni))).tenants.vni.tolist() == [vni]


def test_requests_have_a_udp_port_of_their_own() -> None:
    assert parse_text(OVERLAY).underlay.replication_udp_port == 14789
    chosen = parse_text("underlay: {replication_udp_port: 4799}\n" + OVERLAY)
    assert chosen.underlay.replication_udp_port == 4799
