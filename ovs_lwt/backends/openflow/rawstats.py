"""Keep the lists of flows and groups that we asked for as bytes: a million entries need no objects.

Both frameworks parse every entry of a list into Python objects. Here the replies to our own
requests are left as they came, in the place that the frameworks have for that; the replies to other
apps' requests are parsed as ever. Updates of flow monitors bear no request's number: nobody's are
parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from ovs_lwt.backends.openflow import framework, wire

_FLOW_MONITOR = 16  # ofp_multipart_type

_expected: dict[object, frozenset[int]] = {}


def expect(connection: object, xids: frozenset[int]) -> None:
    """From now on keep replies with these transaction ids raw (none: forget the connection)."""
    install()
    if xids:
        _expected[connection] = xids
    else:
        _expected.pop(connection, None)


@cache
def install() -> None:
    """Teach the framework, once a process."""
    fw = framework.current()
    parsers = fw.ofproto_v1_4_parser._MSG_PARSERS
    reply = fw.ofproto_v1_4.OFPT_MULTIPART_REPLY
    parsers[reply] = _unless_ours(parsers[reply], fw.ofproto_v1_4.OFP_MULTIPART_REPLY_SIZE)


def _unless_ours(parse: Callable[..., Any], head: int) -> Callable[..., Any]:
    """Leave the entries of our lists out of the message: other apps get it, too, and find none."""

    def parser(
        datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: bytes
    ) -> Any:
        # A copy: this runs in the framework's receiving threads, `expect` in the agent's.
        ours = wire.multipart_type(buf) == _FLOW_MONITOR or any(
            xid in xids for xids in tuple(_expected.values())
        )
        # `msg_len` is where it stops; the message keeps all of `buf`.
        return parse(datapath, version, msg_type, head if ours else msg_len, xid, buf)

    return parser
