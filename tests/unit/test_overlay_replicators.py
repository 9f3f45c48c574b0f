"""Who may be a replicator, and which VNIs leave room for what leaves ask of one."""

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
    vni: 1048575
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
    "no room for requests": (
        "vni: 1048575",
        "vni: 1048576",
        (
            "6: tenants.blue.vni: VNI 1048576 leaves no room for requests to replicators (host1 is"
            " one), which take its upper 4 bits: give the tenant a VNI up to 1048575, or take"
            " 'replicator: true' away"
        ),
    ),
}


@pytest.mark.parametrize(("right", "wrong", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_replicator_that_cannot_be_is_told_with_its_place(
    right: str, wrong: str, told: str
) -> None:
    with pytest.raises(OverlayInvalid) as caught:
        parse_text(OVERLAY.replace(right, wrong))
    assert [str(mistake) for mistake in caught.value.mistakes] == [f"overlay.yaml:{told}"]


def test_without_replicators_every_vni_will_do() -> None:
    text = OVERLAY.replace(", replicator: true", "").replace("1048575", "16777215")
    assert parse_text(text).tenants.vni.tolist() == [16777215]
