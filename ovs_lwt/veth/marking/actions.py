"""tc's actions, listed apart from the filters that use them: what pyroute2 0.9.7 does not know yet.

Filters can be listed for one device at a time only, actions for all of a namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETACTION, RTM_NEWACTION
from pyroute2.netlink.rtnl.tcmsg.common_act import tca_act_prio

from ovs_lwt.veth.netlink import ask

_CONTINUE: Final = -1  # TC_ACT_UNSPEC


class tcamsg(nlmsg):  # type: ignore[misc]  # noqa: N801 (the structure's name in the kernel)
    """A list of actions: `tc actions list`.

    C structure (include/uapi/linux/rtnetlink.h)::

        struct tcamsg {
            unsigned char  tca_family;
            unsigned char  tca__pad1;
            unsigned short tca__pad2;
        };
    """

    __slots__ = ()
    prefix = "TCA_ROOT_"
    fields = (("family", "B"), ("pad1", "B"), ("pad2", "H"))
    nla_map = (
        ("TCA_ROOT_UNSPEC", "none"),
        ("TCA_ROOT_TAB", "tca_act_prio"),
        ("TCA_ROOT_FLAGS", "hex"),
        ("TCA_ROOT_COUNT", "uint32"),
    )
    tca_act_prio = tca_act_prio


def skbedit(index: int, mark: int) -> dict[str, Any]:
    """Return a list of one action, as messages hold it: ``skbedit mark M continue index I``."""
    parameters = {"index": index, "action": _CONTINUE}
    options = [("TCA_SKBEDIT_PARMS", parameters), ("TCA_SKBEDIT_MARK", mark)]
    return _one([("TCA_ACT_KIND", "skbedit"), ("TCA_ACT_OPTIONS", {"attrs": options})])


def change(host: Any, index: int, mark: int) -> None:
    """Make an action that is there, and that filters go on using, what `skbedit` says."""
    request = tcamsg()
    request["attrs"] = [("TCA_ROOT_TAB", skbedit(index, mark))]
    ask(host, request, RTM_NEWACTION, NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE)


def skbedits(host: Any) -> Iterator[tuple[int, int]]:
    """List all actions of this kind: (index, mark), as `marks_set` has them.

    host: an `IPRoute`
    """
    request = tcamsg()
    request["attrs"] = [("TCA_ROOT_TAB", _one([("TCA_ACT_KIND", "skbedit")]))]
    host.marshal.msg_map[RTM_GETACTION] = tcamsg  # the type of the answers too
    # A kernel that has not loaded the module knows no actions of this kind.
    with suppress(NetlinkError):
        for message in ask(host, request, RTM_GETACTION, NLM_F_REQUEST | NLM_F_DUMP):
            yield from marks_set(message.get_attr("TCA_ROOT_TAB"))


def marks_set(actions: Any) -> Iterator[tuple[int, int]]:
    """Of a list of actions, as a filter holds it too: (index, mark) of those of kind skbedit.

    The mark is -1 where it is none, or where the packet is not left to those that come after.
    """
    for _, action in actions["attrs"] if actions is not None else ():
        options = action.get_attr("TCA_ACT_OPTIONS")
        if action.get_attr("TCA_ACT_KIND") != "skbedit" or options is None:
            continue
        mark, parameters = (
            options.get_attr(name) for name in ("TCA_SKBEDIT_MARK", "TCA_SKBEDIT_PARMS")
        )
        like_ours = mark is not None and parameters["action"] == _CONTINUE
        yield parameters["index"], mark if like_ours else -1


def _one(action: list[tuple[str, Any]]) -> dict[str, Any]:
    return {"attrs": [("TCA_ACT_PRIO_1", {"attrs": action})]}
