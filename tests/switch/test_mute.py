"""Ports kept from the host's stack, by nft on this machine's kernel: the table, and its keeper."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ovs_lwt.veth import Mute, MuteKeeper
from ovs_lwt.veth.mute import nft, tc
from ovs_lwt.veth.mute.devices import Device, Devices
from ovs_lwt.veth.nftables import NftLacks
from tests.support.ovs import eventually, in_netns, network_namespace

HOST = f"mtk-{os.getpid()}-h"
TAP = "tap0"
WALLED = Mute("userspace")


def plug(name: str = TAP) -> None:
    """A port that somebody else has made, as libvirt would."""
    in_netns(HOST, "ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    in_netns(HOST, "ip", "link", "set", name, "up")


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with network_namespace(HOST):
        plug()
        yield


@pytest.fixture
def keeper() -> Iterator[MuteKeeper]:
    keeper = MuteKeeper(HOST)
    yield keeper
    keeper.close()


def said(keeper: MuteKeeper, sentence: str, within: float = 5) -> bool:
    """Poll as an agent does, until the keeper has told of this."""
    told: list[str] = []

    def tells() -> bool:
        told.extend(keeper.run())
        return any(re.search(sentence, text) for text in told)

    return eventually(tells, within)


def keep(keeper: MuteKeeper, *names: str) -> None:
    keeper.want(dict.fromkeys(names or (TAP,), WALLED))
    assert said(keeper, "is kept from the host's stack by nft")


def conf(name: str, family: str = "ipv6") -> dict[str, str]:
    """A device's sysctls."""
    names = "disable_ipv6 accept_ra" if family == "ipv6" else "rp_filter forwarding"
    files = f"cd /proc/sys/net/{family}/conf/{name}; grep -H . {names}"
    return dict(line.split(":", 1) for line in in_netns(HOST, "sh", "-c", files).splitlines())


def kept() -> nft.Table:
    table = nft.read(HOST)
    assert table is not None
    return table


def test_a_port_claimed_by_hand_is_made_mute(keeper: MuteKeeper) -> None:
    in_netns(HOST, "ip", "-6", "address", "add", "fd00::1/64", "dev", TAP)
    keep(keeper)
    assert kept() == nft.Table({TAP: None})
    assert "NOARP" in in_netns(HOST, "ip", "link", "show", TAP)
    assert in_netns(HOST, "ip", "-6", "address", "show", "dev", TAP) == ""
    assert (conf(TAP)["disable_ipv6"], conf(TAP)["accept_ra"]) == ("1", "0")
    four = conf(TAP, "ipv4")
    assert (four["rp_filter"], four["forwarding"]) == ("1", "0")
    assert eventually(lambda: keeper.run() == [], 2)


def test_one_dump_tells_of_all_sysctls_that_are_kept() -> None:
    """What the kernel's arrays say is what its files say."""
    for sysctl, value in (
        ("ipv6/disable_ipv6", "1"),
        ("ipv6/accept_ra", "2"),
        ("ipv4/rp_filter", "2"),
        ("ipv4/forwarding", "1"),
        ("ipv4/src_valid_mark", "1"),
        ("ipv4/accept_local", "1"),
    ):
        family, name = sysctl.split("/")
        devices = Devices(HOST)
        for wanted in (value, "0"):
            in_netns(HOST, "sysctl", "-qw", f"net.{family}.conf.{TAP}.{name}={wanted}")
            found = devices.listed()[TAP]
            assert found.setting(sysctl) == wanted, sysctl
        devices.close()


@pytest.mark.parametrize(
    ("drift", "told"),
    [
        ("nft flush ruleset", "the table inet ovs-lwt keeps 1 guests' ports .* again"),
        ("nft flush set inet ovs-lwt ports", "the table inet ovs-lwt keeps 1 .* again"),
        ("nft flush chain inet ovs-lwt arriving", "the table inet ovs-lwt keeps 1 .* again"),
        ("nft insert rule inet ovs-lwt delivered accept", "the table .* keeps 1 .* again"),
        ("nft add chain inet ovs-lwt more", "the table .* keeps 1 .* again"),
        ("sysctl -qw net.ipv6.conf.tap0.disable_ipv6=0", "again: it had ipv6/disable_ipv6=0"),
        ("sysctl -qw net.ipv6.conf.all.disable_ipv6=0", "again: it had ipv6/disable_ipv6=0"),
        ("sysctl -qw net.ipv4.ip_forward=1", "again: it had ipv4/forwarding=1"),
        ("sysctl -qw net.ipv4.conf.tap0.rp_filter=0", "again: it had ipv4/rp_filter=0"),
        ("sysctl -qw net.ipv6.conf.tap0.accept_ra=1", "again: it had ipv6/accept_ra=1"),
        ("ip link set tap0 arp on", "again: it had ARP"),
    ],
)
def test_what_somebody_changed_is_mended(keeper: MuteKeeper, drift: str, told: str) -> None:
    keep(keeper)
    assert eventually(lambda: keeper.run() == [] and not keeper._due, 3)
    in_netns(HOST, *drift.split())
    assert said(keeper, told)
    assert kept() == nft.Table({TAP: None})
    assert eventually(lambda: keeper.run() == [], 3)


def test_a_table_that_sleeps_is_awake_again(keeper: MuteKeeper) -> None:
    keep(keeper)
    in_netns(HOST, "nft", "add table inet ovs-lwt { flags dormant; }")
    assert said(keeper, "the table inet ovs-lwt keeps 1 guests' ports .* again")
    assert "dormant" not in in_netns(HOST, "nft", "list", "table", "inet", "ovs-lwt")


def test_a_routed_port_may_send_on_with_its_tenants_mark_alone(keeper: MuteKeeper) -> None:
    keeper.want({TAP: Mute("route", mark=10)})
    assert said(keeper, "port tap0 is kept")
    assert kept() == nft.Table({TAP: 10})
    keeper.want({TAP: Mute("route", mark=11)})
    assert eventually(lambda: not keeper.run() and kept() == nft.Table({TAP: 11}), 3)
    keeper.want({TAP: Mute("route")})
    assert eventually(lambda: not keeper.run() and kept() == nft.Table({TAP: None}), 3)


def test_whoever_loses_its_claim_stays_mute_as_long_as_it_is_there(
    keeper: MuteKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(keeper)
    keeper.want({})
    in_netns(HOST, "nft", "flush", "ruleset")
    assert said(keeper, "again")
    assert kept().ports == {TAP: None}

    monkeypatch.setattr("ovs_lwt.veth.mute.keeper._GRACE", 0.5)
    in_netns(HOST, "ip", "link", "del", TAP)
    assert eventually(lambda: not keeper.run() and nft.read(HOST) is None, 10), "the last takes all"


def test_what_attach_has_put_there_before_its_device_stays(keeper: MuteKeeper) -> None:
    keep(keeper)
    nft.keep(HOST, {"blue-web1": None})
    keeper.want({})
    in_netns(HOST, "ip", "link", "del", TAP)
    assert eventually(lambda: not keeper.run() and not keeper._due, 3)
    assert "blue-web1" in kept().ports


def test_a_device_of_that_name_that_is_another_is_left_alone(keeper: MuteKeeper) -> None:
    """As where a switch of another namespace has a port of that name: ours may be the uplink."""
    before = conf(TAP)
    index = Devices(HOST).listed()[TAP].index
    keeper.want({TAP: Mute("userspace", index=index + 1), "elsewhere": WALLED})
    assert not said(keeper, ".", within=1)
    keeper.want({TAP: Mute("userspace", index=index, mac="02:00:00:00:00:99")})
    assert not said(keeper, ".", within=1)
    assert (nft.read(HOST), conf(TAP), keeper.errors()) == (None, before, {})


@pytest.mark.parametrize(
    "name", ["vnet~1", "a@b", "1st", "x.y-z_0", "q\u00fc", "tap*", "0x10", "7"]
)
def test_names_that_nft_has_no_word_for(keeper: MuteKeeper, name: str) -> None:
    in_netns(HOST, "ip", "link", "set", TAP, "down")
    in_netns(HOST, "ip", "link", "set", TAP, "name", name)
    keep(keeper, name)
    assert kept() == nft.Table({name: None})


def test_a_name_that_nft_cannot_take_costs_no_other_port_its_wall(keeper: MuteKeeper) -> None:
    plug("@x")
    keeper.want({TAP: WALLED, "@x": WALLED})
    assert said(keeper, "may hear what is sent at port @x: .*give it another name")
    assert kept().ports == {TAP: None}
    assert set(keeper.errors()) == {"@x"}


def test_a_machine_that_can_do_neither_says_so_once(
    keeper: MuteKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    keeper.want({TAP: WALLED})
    lacking = r"nft is not installed \(apt-get install nftables\); .*cls_matchall act_gact"
    assert said(keeper, f"the host may hear what is sent at port tap0: {lacking}")
    assert set(keeper.errors()) == {TAP}
    in_netns(HOST, "ip", "link", "set", TAP, "mtu", "1400")
    assert not said(keeper, "at port tap0", within=1)
    monkeypatch.undo()
    keeper._audit_at = 0
    assert said(keeper, "is kept from the host's stack by nft")
    assert keeper.errors() == {}


def test_where_proc_cannot_be_written_the_port_is_named(
    keeper: MuteKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    keeper.want({TAP: WALLED})
    assert said(keeper, r"at port tap0: sysctl net/ipv6/.* cannot be set \(Read-only file system")


def test_a_new_agent_finds_all_as_it_was(keeper: MuteKeeper) -> None:
    keep(keeper)
    before = in_netns(HOST, "nft", "-a", "list", "ruleset")
    again = MuteKeeper(HOST)
    again.want({TAP: WALLED})
    assert again.run() == []
    assert in_netns(HOST, "nft", "-a", "list", "ruleset") == before
    again.close()


def test_a_thousand_ports_cost_one_list(
    keeper: MuteKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is one dump, whatever has happened; and between looks nothing is asked at all."""
    names = [f"vnet{number}" for number in range(1000)]
    pairs = zip(names[::2], names[1::2], strict=True)
    links = "".join(f"link add {name} type veth peer {peer}\n" for name, peer in pairs)
    with Path(tempfile.gettempdir(), HOST).open("w") as batch:
        batch.write(links)
    in_netns(HOST, "ip", "-batch", batch.name, timeout=120)
    Path(batch.name).unlink()
    keeper.want(dict.fromkeys(names, WALLED))
    began = time.monotonic()
    assert said(keeper, "port vnet999 is kept", within=60)
    first = time.monotonic() - began
    assert kept().ports.keys() == set(names)
    assert eventually(lambda: keeper.run() == [] and not keeper._due, 20)

    asked: list[str] = []
    listed = Devices.listed

    def counted(devices: Devices) -> dict[str, Device]:
        asked.append("dump")
        return listed(devices)

    monkeypatch.setattr(Devices, "listed", counted)
    monkeypatch.setattr(nft, "read", lambda _: asked.append("table"))
    monkeypatch.setattr(keeper, "_audit_at", time.monotonic() + 60)
    began = time.monotonic()
    while time.monotonic() - began < 5:
        keeper.run()
        time.sleep(0.05)
    assert asked.count("table") == 0
    assert 1 <= asked.count("dump") <= 4
    began = time.process_time()
    keeper._look()
    print(f"first {first:.2f} s, a look {time.process_time() - began:.3f} s")


def test_several_who_ask_at_once_lose_nothing() -> None:
    """An agent and attaches: each reads, then writes; nobody overwrites the others'."""
    names = [f"t{number}" for number in range(12)]
    with ExitStack() as stack:
        script = (
            "import sys; from ovs_lwt.veth.mute import nft;"
            " nft.keep(sys.argv[1], {sys.argv[2]: None});"
            " nft.keep(sys.argv[1], {}, [sys.argv[2]]) if int(sys.argv[2][1:]) % 2 else None"
        )
        running = [subprocess.Popen([sys.executable, "-c", script, HOST, name]) for name in names]
        for process in running:
            stack.callback(process.wait)
    assert all(process.returncode == 0 for process in running)
    assert kept() == nft.Table({name: None for name in names if int(name[1:]) % 2 == 0})
    assert json.loads(in_netns(HOST, "nft", "-j", "list", "tables"))


def test_a_guest_that_comes_back_at_the_last_moment_keeps_its_wall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `attach` puts there is not taken for what was left by the guest before."""
    grace = 1.5
    monkeypatch.setattr("ovs_lwt.veth.mute.keeper._GRACE", grace)
    keeper = MuteKeeper(HOST, glance=0.1)
    keeper.want({TAP: Mute("userspace", index=Devices(HOST).listed()[TAP].index)})
    assert said(keeper, "is kept from the host's stack by nft")
    # Detached: the device, its wall, and then its claim are gone.
    in_netns(HOST, "ip", "link", "del", TAP)
    gone = time.monotonic()
    nft.keep(HOST, {}, [TAP])
    keeper.want({})
    assert eventually(lambda: not keeper.run() and TAP in keeper._strays, 3)
    assert eventually(lambda: keeper.run() == [] and time.monotonic() > gone + 0.7 * grace, 3)
    # Attached once more; its claim is still to come.
    nft.keep(HOST, {TAP: None})
    plug()
    again = time.monotonic()
    while time.monotonic() < again + 0.8 * grace:
        keeper.run()
        assert TAP in kept().ports
        time.sleep(0.05)
    keeper.close()


def test_whoever_holds_the_lock_keeps_no_agent(keeper: MuteKeeper) -> None:
    """An `attach` that somebody has suspended (Ctrl-Z), or `flock` on the namespace by hand."""
    with Path("/run/netns", HOST).open() as namespace:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        keeper.want({TAP: WALLED})
        began = time.monotonic()
        assert said(keeper, "may hear what is sent at port tap0: another process holds the lock")
        for _ in range(20):
            keeper.run()
        assert time.monotonic() - began < 5
    assert said(keeper, "is kept from the host's stack by nft")
    assert keeper.errors() == {}
    # What stands there is kept through the next strife, and is no cause for alarm.
    with Path("/run/netns", HOST).open() as namespace:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        plug("tap1")
        keeper.want({TAP: WALLED, "tap1": WALLED})
        assert said(keeper, "at port tap1: another process")
        assert set(keeper.errors()) == {"tap1"}
    assert eventually(lambda: not keeper.run() and kept().ports.keys() == {TAP, "tap1"}, 5)


def test_nft_that_hangs_is_no_reason_to_forget_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took no answer for no table would make it anew, with one port alone."""
    nft.keep(HOST, {"others": None})
    slow = tmp_path / "nft"
    slow.write_text("#!/bin/sh\nexec sleep 5\n")
    slow.chmod(0o755)
    monkeypatch.setattr("ovs_lwt.veth.nftables._SECONDS", 0.2)
    with monkeypatch.context() as context:
        context.setenv("PATH", str(tmp_path), prepend=":")
        with pytest.raises(NftLacks, match="nft has not answered"):
            nft.keep(HOST, {TAP: None})
    nft.keep(HOST, {TAP: None})
    assert kept().ports.keys() == {"others", TAP}


def test_filters_of_tc_go_when_nft_has_come(
    keeper: MuteKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its message asks for. They would let on an older mark, and drop the tenant's next one.

    This kernel lacks the classifiers: what is told to tc is written down instead.
    """
    guarded: set[int] = set()
    monkeypatch.setattr(tc, "found", lambda _: {index: {0: 2} for index in guarded})
    monkeypatch.setattr(tc, "guard", lambda _, index, mute: guarded.add(index))
    monkeypatch.setattr(tc, "clear", lambda _, index: guarded.discard(index))
    with monkeypatch.context() as context:
        context.setattr("shutil.which", lambda *_, **__: None)
        keeper.want({TAP: Mute("route", mark=10)})
        assert said(keeper, "filters of tc keep it from the host's stack")
    again = MuteKeeper(HOST)
    again.want({TAP: Mute("route", mark=10)})
    assert guarded
    assert said(again, "is kept from the host's stack by nft")
    assert guarded == set()
    again.close()
