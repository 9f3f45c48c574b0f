"""vagrant/provision.sh, all but what it installs: two hosts on the kernel datapath, made by it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network

import pytest

from ovs_lwt.lab import namespaces
from ovs_lwt.lab.kernel import settle
from tests.support.ovs import OvsHost, network_namespace
from tests.support.provisioned import ProvisionedHost

NETWORK = ip_network("192.168.56.0/24")
ADDRESSES = ("192.168.56.11", "192.168.56.12")
UPLINK = "u0"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ProvisionedHost]]:
    """host1 and host2 on one private network, provisioned, and in sync."""
    folder = tmp_path_factory.mktemp("p")
    settle()
    with ExitStack() as stack:
        underlay = stack.enter_context(network_namespace("prv-underlay"))
        namespaces.make_underlay(underlay, "br-underlay", 1500)
        made = []
        for number, address in enumerate(ADDRESSES, start=1):
            netns = stack.enter_context(network_namespace(f"prv-host{number}"))
            namespaces.plug(underlay, "br-underlay", netns, netns, UPLINK, 1500)
            namespaces.give_address(netns, UPLINK, ip_address(address), NETWORK)
            switch = stack.enter_context(OvsHost(netns, folder / f"{number}"))
            made.append(stack.enter_context(ProvisionedHost(f"host{number}", switch)))
        for host in made:
            host.provision(*ADDRESSES)
        for number, host in enumerate(made, start=1):
            assert host.serves(f"blue/web{number}", f"red/web{number}"), host.log
        yield made


def test_the_overlay_it_writes_is_valid(hosts: list[ProvisionedHost]) -> None:
    told = hosts[0].output("ovs-lwt", "validate", "/etc/ovs-lwt/overlay.yaml")
    assert told.endswith(": valid: 2 tenants, 4 endpoints, 2 hosts\n")


def test_the_bridge_is_the_kernels(hosts: list[ProvisionedHost]) -> None:
    for host in hosts:
        assert host.switch.appctl("dpif/show").startswith("system@ovs-system")


def test_every_guest_reaches_its_tenant_and_nobody_else(hosts: list[ProvisionedHost]) -> None:
    for host, other in (hosts, hosts[::-1]):
        told = host.output("ovs-lwt-smoke", host.name)
        for address in ("10.0.0.1", "fd00::1"):
            assert f"reaches {address}{other.name[-1]} on {other.name}" in told
        assert "✗" not in told


def test_the_smoke_test_sees_a_guest_that_does_not_answer(hosts: list[ProvisionedHost]) -> None:
    hosts[1].output("ip", "-n", "blue-web2", "link", "set", "eth0", "down")
    try:
        seen = hosts[0].run("ovs-lwt-smoke", "host1")
    finally:
        hosts[1].output("ip", "netns", "del", "blue-web2")
        # The service makes the guest again, as after a boot.
        hosts[1].output("systemctl", "restart", "ovs-lwt-guests@host2")
    assert seen.returncode == 1
    assert "✗ blue/web1 does not reach 10.0.0.12 on host2" in seen.stdout
    assert "✓ red/web1 reaches 10.0.0.12 on host2" in seen.stdout
    assert hosts[1].serves("blue/web2", "red/web2"), hosts[1].log
    hosts[0].output("ovs-lwt-smoke", "host1")


def test_the_smoke_test_sees_an_answer_in_the_other_tenant(hosts: list[ProvisionedHost]) -> None:
    """Red's guest asks at the same time: as if red had heard blue's questions as well."""
    asking = "ip netns exec red-web1 ping -q -i 0.2 -w 60 10.0.0.12 >/dev/null & red=$!"
    seen = hosts[0].run(
        "sh", "-c", f"{asking}; ovs-lwt-smoke host1; status=$?; kill $red; exit $status"
    )
    assert seen.returncode == 1
    assert "✗ red/web1 has the same address and heard" in seen.stdout


def test_a_second_run_changes_nothing(hosts: list[ProvisionedHost]) -> None:
    host = hosts[0]
    stat = ("find", "/etc/ovs-lwt", "/etc/default/ovs-lwt", "/etc/systemd/system", "/usr/local",
            "-path", "*ovs-lwt*", "-type", "f", "-printf", "%p %i %T@ %m\n")  # fmt: skip
    before, pids = host.output(*stat), host.output("sh", "-c", "cat /run/pids/*")
    host.asked()

    assert host.provision(*ADDRESSES) == "provision: nothing to change\n"

    assert not [line for line in host.asked() if line.startswith(("restart", "reload"))]
    assert host.output(*stat) == before
    assert host.output("sh", "-c", "cat /run/pids/*") == pids


def test_options_of_this_machine_are_kept(hosts: list[ProvisionedHost]) -> None:
    host = hosts[0]
    host.output("sh", "-c", "echo OVS_LWT_OPTIONS=--verbose >/etc/default/ovs-lwt")
    host.provision(*ADDRESSES)
    assert host.output("cat", "/etc/default/ovs-lwt") == "OVS_LWT_OPTIONS=--verbose\n"


def test_one_host_more_is_taken_over_without_losing_a_packet(hosts: list[ProvisionedHost]) -> None:
    host = hosts[0]
    host.asked()
    with subprocess.Popen(
        [
            *host.entered,
            "ip",
            "netns",
            "exec",
            "blue-web1",
            "ping",
            "-q",
            "-i0.2",
            "-w180",
            "10.0.0.12",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as pinging:
        told = host.provision(*ADDRESSES, "192.168.56.13")
        assert host.serves("blue/web1", "red/web1"), host.log
        pinging.send_signal(signal.SIGINT)
        assert " 0% packet loss" in pinging.communicate()[0]
    assert "writing /etc/ovs-lwt/overlay.yaml" in told
    assert "restart ovs-lwt@host1" in host.asked()
    assert "tun_dst" in host.switch.ofctl("-O", "OpenFlow14", "dump-flows", "br-lwt")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("host9", *ADDRESSES), "with 2 addresses HOST is one of host1 to host2, not 'host9'"),
        (("host1",), "usage: provision.sh [--configure] HOST ADDRESS..."),
    ],
)
def test_what_it_cannot_do_is_said_before_anything_is_written(
    hosts: list[ProvisionedHost], arguments: tuple[str, ...], told: str
) -> None:
    host = hosts[1]
    host.asked()
    done = host.run("vagrant/provision.sh", "--configure", *arguments)
    assert (done.returncode, done.stdout) == (1, f"provision: {told}\n")
    assert host.asked() == []
