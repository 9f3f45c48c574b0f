"""What an OpenFlow error message says, in the specification's words."""

from __future__ import annotations

from ovs_lwt.backends.openflow import framework


def text(message: bytes) -> str:
    """`OFPBAC_BAD_SET_ARGUMENT (OFPET_BAD_ACTION)` of an OFPT_ERROR message."""
    kind, code = int.from_bytes(message[8:10], "big"), int.from_bytes(message[10:12], "big")
    ofproto = framework.current().ofproto_v1_4
    return f"{ofproto.ofp_error_code_to_str(kind, code)}, {ofproto.ofp_error_type_to_str(kind)}"
