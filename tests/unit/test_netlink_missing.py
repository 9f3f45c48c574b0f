"""What pyroute2 lacked: encoded and decoded as the kernel and iproute2 do it."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ifinfmsg.plugins import vxlan as plugin
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ovs_lwt.backends.netlink import missing

# `ip route add 20.1.2.0/24 table 10 encap ip id 10 dst 10.1.1.2 via 10.1.1.2 dev vxlan1 onlink
# proto 76`, and the same with `encap ip6 id 10 dst fd00::2`, as Linux 6.18 lists them.
ROUTE = """
    7c000000 18002200 01000000 00000000 02180000 0a4c0001 04000000 08000f00 0a000000
    08000100 14010200 08000500 0a010102 08000400 06000000 38001600
    0c000100 00000000 0000000a 08000200 0a010102 08000300 00000000
    05000500 00000000 05000400 00000000 06000600 00000000 06001500 02000000
"""
ROUTE6 = """
    94000000 18002200 01000000 00000000 02180000 0a4c0001 04000000 08000f00 0a000000
    08000100 14010400 08000500 0a010102 08000400 06000000 50001600
    0c000100 00000000 0000000a 14000200 fd000000 00000000 00000000 00000002
    14000300 00000000 00000000 00000000 00000000 05000500 00000000 05000400 00000000
    06000600 00000000 06001500 04000000
"""
# `bridge vni add vni 5000-5100` after 1010, as listed.
VNIS = """
    38000000 78000200 01000000 00000000 07000000 05000000
    0c000180 08000100 f2030000 14000180 08000100 88130000 08000200 ec130000
"""


def decoded(message: type, listed: str) -> Any:
    found = message(bytes.fromhex(listed))
    found.decode()
    return found


def test_a_route_that_encapsulates_in_ip() -> None:
    encap = decoded(rtmsg, ROUTE).get_attr("RTA_ENCAP")
    assert encap.get_attr("LWTUNNEL_IP_ID") == 10
    assert encap.get_attr("LWTUNNEL_IP_DST") == "10.1.1.2"
    assert encap.get_attr("LWTUNNEL_IP_SRC") == "0.0.0.0"
    assert encap.get_attr("LWTUNNEL_IP_FLAGS") == 0


def test_a_route_that_encapsulates_in_ipv6() -> None:
    encap = decoded(rtmsg, ROUTE6).get_attr("RTA_ENCAP")
    assert encap.get_attr("LWTUNNEL_IP6_ID") == 10
    assert encap.get_attr("LWTUNNEL_IP6_DST") == "fd00::2"
    assert encap.get_attr("LWTUNNEL_IP6_HOPLIMIT") == 0


def test_a_vni_filter_has_single_vnis_and_ranges() -> None:
    found = decoded(missing.tunnel_msg, VNIS)
    assert found["ifindex"] == 5
    first, second = found.get_attrs("VXLAN_VNIFILTER_ENTRY")
    assert first.get_attr("VXLAN_VNIFILTER_ENTRY_START") == 1010
    assert first.get_attr("VXLAN_VNIFILTER_ENTRY_END") is None
    assert second.get_attr("VXLAN_VNIFILTER_ENTRY_START") == 5000
    assert second.get_attr("VXLAN_VNIFILTER_ENTRY_END") == 5100


@pytest.mark.parametrize("listed", [VNIS, ROUTE, ROUTE6])
def test_what_was_decoded_is_encoded_again_to_the_same_bytes(listed: str) -> None:
    message = missing.tunnel_msg if listed is VNIS else rtmsg
    again = message()
    again.setvalue(decoded(message, listed).getvalue())
    again.encode()
    assert bytes(again.data).hex() == "".join(listed.split())


def test_a_vxlan_link_may_filter_by_vni() -> None:
    data = {"attrs": [("IFLA_VXLAN_COLLECT_METADATA", 1), ("IFLA_VXLAN_VNIFILTER", 1)]}
    link = ifinfmsg()
    info = {"attrs": [("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", data)]}
    link["attrs"] = [("IFLA_LINKINFO", info)]
    link.encode()
    # Length 5, type 30, value 1.
    assert bytes(link.data).hex().endswith("0500" + "1e00" + "01000000")
    found = decoded(ifinfmsg, bytes(link.data).hex()).get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    assert found.get_attr("IFLA_VXLAN_VNIFILTER") == 1


def test_what_the_library_knew_has_kept_its_numbers() -> None:
    known = [name for name, _ in plugin.vxlan.nla_map]
    ours = [name for name, _ in missing.vxlan.nla_map]
    assert ours == [*known, "IFLA_VXLAN_VNIFILTER"]
    assert ours.index("IFLA_VXLAN_VNIFILTER") == 30  # include/uapi/linux/if_link.h


def test_registering_twice_is_fine_and_sockets_decode_the_answers() -> None:
    missing.register()
    missing.register()
    assert ifinfmsg.ifinfo.data_map["vxlan"] is missing.vxlan
    assert {MarshalRtnl.msg_map[number] for number in (120, 121, 122)} == {missing.tunnel_msg}
