"""The kernel says no to a device, or passes over what it does not know.

Whoever reads the refusal learns what to do; what was made on the way is gone again.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ovs_lwt.backends.netlink import links, transport
from ovs_lwt.backends.netlink.links import Links
from ovs_lwt.backends.netlink.setup import Link, Member, Setup
from ovs_lwt.backends.netlink.transport import Kernel
from ovs_lwt.mistakes import Refused
from tests.support.fake_kernel import HEADER, FakeKernel

Answer = tuple[int, str]

BRIDGE = Link("br-lwt", "bridge", {"br_vlan_filtering": 1}, "vlan_filtering 1")
TUNNEL = Link(
    "vx-lwt",
    "vxlan",
    {"vxlan_port": 4789, "vxlan_collect_metadata": 1, "vxlan_vnifilter": 1},
    "dstport 4789 external vnifilter",
)
SETUP = Setup(
    ("vx-lwt", "br-lwt"),
    (BRIDGE, TUNNEL),
    (Member("vx-lwt", "br-lwt", {"learning": False, "locked": True}),),
)


class Machine(FakeKernel):
    """A kernel that keeps its devices: name -> attributes.

    say_no: (words of a device and attribute names) -> errno; ignores: attributes it never heard of
    """

    def __init__(self) -> None:
        super().__init__(refuse=self._take)
        self.devices: dict[str, dict[str, Any]] = {}
        self.say_no: Callable[[str, set[str]], Answer] = lambda _, __: (0, "")
        self.ignores: set[str] = set()

    def send(self, data: bytes) -> int:
        if HEADER.unpack_from(data)[1] == RTM_GETLINK:
            self.dumps = deque([list(self._listed())])
        return super().send(data)

    def _take(self, octets: bytes) -> Answer:
        message = ifinfmsg(octets)
        message.decode()
        found = dict(self._flat(message))
        name = found.pop("IFLA_IFNAME")
        if message["change"]:
            found["up"] = True
        answer = self.say_no(name, set(found))
        if answer[0]:
            return answer
        if message["header"]["type"] == RTM_DELLINK:
            return (0, "") if self.devices.pop(name, None) else (errno.ENODEV, "")
        known = {key: value for key, value in found.items() if key not in self.ignores}
        self.devices.setdefault(name, {"index": len(self.devices) + 2}).update(known)
        return 0, ""

    def _flat(self, message: Any) -> Iterator[tuple[str, Any]]:
        for key, value in message["attrs"]:
            if isinstance(value, dict) and "attrs" in value:
                yield from self._flat(value)
            else:
                yield key, value

    def _listed(self) -> Iterator[bytes]:
        for name, found in self.devices.items():
            message = ifinfmsg()
            message["header"]["type"] = RTM_NEWLINK
            message["index"], message["flags"] = found["index"], int("up" in found)
            info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", found["IFLA_INFO_KIND"])]
            for part, prefix in (("DATA", ("IFLA_BR_", "IFLA_VX")), ("SLAVE_DATA", "IFLA_BRPORT")):
                if part == "SLAVE_DATA":
                    info.append(("IFLA_INFO_SLAVE_KIND", "bridge"))
                chosen = [(key, value) for key, value in found.items() if key.startswith(prefix)]
                info.append((f"IFLA_INFO_{part}", {"attrs": chosen}))
            message["attrs"] = [
                ("IFLA_IFNAME", name),
                ("IFLA_MTU", 1500),
                *([("IFLA_MASTER", found["IFLA_MASTER"])] if "IFLA_MASTER" in found else []),
                ("IFLA_LINKINFO", {"attrs": info}),
                ("IFLA_IFALIAS", found.get("IFLA_IFALIAS", "")),
            ]
            message.encode()
            yield bytes(message.data)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(transport, "create_socket", lambda *_, **__: machine)
    return machine


@pytest.fixture
def made(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Links:
    monkeypatch.setattr(links, "_SYSCTLS", tmp_path)
    return Links(Kernel(), None)


def apply(made: Links, setup: Setup = SETUP) -> Mapping[str, object]:
    return made.apply(setup, made.there())


def no(code: int, *about: str, name: str = "", said: str = "") -> Callable[[str, set[str]], Answer]:
    """Refuse what speaks of all these attributes."""

    def answer(device: str, attributes: set[str]) -> Answer:
        wrong = attributes.issuperset(about) and name in ("", device)
        return (code, said) if wrong else (0, "")

    return answer


def refusal(made: Links, setup: Setup = SETUP) -> str:
    with pytest.raises(Refused) as caught:
        apply(made, setup)
    return str(caught.value)


def test_a_kernel_that_agrees_gets_it_all(made: Links, machine: Machine) -> None:
    assert list(apply(made)) == ["br-lwt", "vx-lwt"]
    batches = len(machine.batches)
    made.log.clear()
    apply(made)
    assert len(machine.batches) == batches, "and nothing twice"


def test_what_is_new_is_not_lost(made: Links, machine: Machine) -> None:
    apply(made, Setup((), (BRIDGE,)))
    apply(made)
    assert not made.lost


@pytest.mark.parametrize("damage", ["down", "deleted", "outside its bridge", "another port"])
def test_what_had_been_right_may_have_taken_entries_along(
    made: Links, machine: Machine, damage: str
) -> None:
    apply(made)
    tunnel = machine.devices["vx-lwt"]
    if damage == "down":
        del tunnel["up"]
    elif damage == "deleted":
        del machine.devices["vx-lwt"]
    elif damage == "another port":
        tunnel["IFLA_VXLAN_PORT"] = 8472
    else:
        tunnel["IFLA_MASTER"] = 0
    apply(made)
    assert made.lost


def test_who_may_not_is_told_to_be_root(made: Links, machine: Machine) -> None:
    machine.say_no = no(errno.EPERM, "IFLA_INFO_KIND")
    assert refusal(made) == "cannot change network devices: run this as root (sudo)"


@pytest.mark.parametrize(
    ("link", "module"),
    [
        (Link("br-lwt", "bridge", {}, ""), "bridge"),
        (TUNNEL, "vxlan"),
        (Link("br-lwt.10", "vlan", {"vlan_id": 10}, "id 10"), "8021q"),
        (Link("vrf10", "vrf", {"vrf_table": 10}, "table 10"), "vrf"),
    ],
)
def test_a_module_that_is_missing_is_named(
    made: Links, machine: Machine, link: Link, module: str
) -> None:
    machine.say_no = no(errno.EOPNOTSUPP, "IFLA_INFO_KIND", name=link.name)
    found = refusal(made, Setup((), (link,)))
    assert found == (f"this kernel has no {link.kind} devices: load its module (modprobe {module})")
    assert machine.devices == {}


def test_a_udp_port_that_is_taken_leaves_no_device_behind(made: Links, machine: Machine) -> None:
    machine.say_no = no(errno.EADDRINUSE, "up", name="vx-lwt")
    assert refusal(made) == (
        "the kernel refuses 'ip link set dev vx-lwt up': Address already in use: its UDP port is"
        " taken: see who has it (ss -lun), or choose another underlay.udp_port"
    )
    assert machine.devices == {}


def test_the_kernels_own_words_are_handed_on(made: Links, machine: Machine) -> None:
    machine.say_no = no(errno.EINVAL, "IFLA_MASTER", said="Device does not allow enslaving")
    assert refusal(made) == (
        "the kernel refuses 'ip link set dev vx-lwt master br-lwt': Invalid argument (Device does"
        " not allow enslaving)"
    )
    assert machine.devices == {}


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("IFLA_VXLAN_VNIFILTER", "IFLA_VXLAN_VNIFILTER=1 for vx-lwt (it came with Linux 5.18)"),
        ("IFLA_BRPORT_LOCKED", "IFLA_BRPORT_LOCKED=1 for vx-lwt (it came with Linux 5.18)"),
        ("IFLA_BR_VLAN_FILTERING", "(it came with CONFIG_BRIDGE_VLAN_FILTERING)"),
    ],
)
def test_what_an_older_kernel_passes_over_is_seen(
    made: Links, machine: Machine, attribute: str, said: str
) -> None:
    """It takes the message, and does half of it."""
    machine.ignores = {attribute}
    assert said in refusal(made)
    assert machine.devices == {}


def test_only_what_was_made_on_the_way_is_taken_back(made: Links, machine: Machine) -> None:
    apply(made, Setup((), (BRIDGE,)))
    machine.say_no = no(errno.EADDRINUSE, "up", name="vx-lwt")
    refusal(made)
    assert list(machine.devices) == ["br-lwt"]


def test_somebody_who_deletes_what_we_make(made: Links, machine: Machine) -> None:
    machine.ignores = {"IFLA_INFO_KIND"}
    take = machine.refuse

    def take_and_delete(octets: bytes) -> Answer:
        answer = take(octets)
        machine.devices.clear()
        return answer

    machine.refuse = take_and_delete
    assert refusal(made, Setup((), (BRIDGE,))) == (
        "br-lwt is gone as soon as it is made: see who does that"
    )


def sysctl(tmp_path: Path, path: str, value: str = "0") -> Path:
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value)
    return file


def wanting(*paths: str) -> Setup:
    return Setup((), (), (), dict.fromkeys(paths, "1"))


def test_a_sysctl_is_written_where_it_differs_and_only_then(made: Links, tmp_path: Path) -> None:
    file = sysctl(tmp_path, "net/ipv4/ip_forward")
    apply(made, wanting("net/ipv4/ip_forward"))
    assert (file.read_text(), made.log) == ("1", ["sysctl net/ipv4/ip_forward=1"])
    file.write_text("0")
    apply(made, wanting("net/ipv4/ip_forward"))
    assert file.read_text() == "0", "what was set is believed to be"
    made.forget()
    apply(made, wanting("net/ipv4/ip_forward"))
    assert file.read_text() == "1"


@pytest.mark.parametrize(
    ("path", "mend"),
    [
        ("net/mpls/platform_labels", "load its module (modprobe mpls_router)"),
        ("net/ipv4/no_such_thing", "use one that has it"),
    ],
)
def test_a_sysctl_that_this_kernel_lacks(made: Links, path: str, mend: str) -> None:
    assert refusal(made, wanting(path)) == f"this kernel has no sysctl {path}: {mend}"


def test_a_sysctl_of_a_guest_that_has_gone_is_passed_over(made: Links, tmp_path: Path) -> None:
    sysctl(tmp_path, "net/ipv4/conf/lo/rp_filter")
    apply(made, wanting("net/ipv4/conf/tap0/rp_filter"))
    assert made.log == []


def test_without_ipv6_its_sysctls_are_passed_over(made: Links) -> None:
    apply(made, wanting("net/ipv6/conf/tap0/disable_ipv6"))
    assert made.log == []


def test_a_sysctl_that_cannot_be_written_to(
    made: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysctl(tmp_path, "net/ipv4/ip_forward")

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    assert refusal(made, wanting("net/ipv4/ip_forward")) == (
        "cannot set sysctl net/ipv4/ip_forward=1 (Read-only file system): run this as root, where"
        " /proc/sys can be written to"
    )


def test_a_vlan_whose_bridge_is_not_there(made: Links) -> None:
    vlan = Link("br-lwt.10", "vlan", {"vlan_id": 10}, "id 10", over="br-lwt")
    assert refusal(made, Setup((), (vlan,))) == (
        "cannot make br-lwt.10 over br-lwt: there is no such device"
    )


def words(setup: Setup) -> Sequence[str]:
    return list(links.commands(setup))


def test_export_says_the_same_in_words() -> None:
    vlan = Link("br-lwt.10", "vlan", {"vlan_id": 10}, "id 10", over="br-lwt")
    guest = Member("blue-web1", "br-lwt")
    assert words(Setup((), (BRIDGE, vlan), (*SETUP.members, guest))) == [
        "link add name br-lwt type bridge vlan_filtering 1",
        "link set dev br-lwt alias ovs-lwt",
        "link set dev br-lwt addrgenmode none",
        "link add link br-lwt name br-lwt.10 type vlan id 10",
        "link set dev br-lwt.10 alias ovs-lwt",
        "link set dev br-lwt.10 addrgenmode none",
        "link set dev vx-lwt master br-lwt",
        "link set dev vx-lwt type bridge_slave learning off locked on",
        "link set dev blue-web1 master br-lwt",
        "link set dev vx-lwt up",
        "link set dev blue-web1 up",
        "link set dev br-lwt up",
        "link set dev br-lwt.10 up",
    ]
