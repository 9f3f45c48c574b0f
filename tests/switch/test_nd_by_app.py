"""Where the datapath cannot make an advertisement of a solicitation, the app does (`--nd app`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.controller import (
    BRIDGE,
    Controller,
    Ear,
    cli,
    controller,
    difference,
    flows,
    write,
)
from tests.support.frameworks import Interpreter
from tests.support.overlays import two_tenants
from tests.support.ovs import OvsHost, eventually, in_netns, network_namespace
from tests.support.packets import (
    Advertisement,
    Wire,
    link_local,
    read_advertisement,
    solicitation,
    token,
)

WEB1 = ("02:00:00:00:00:01", "fd00::11")
WEB2 = ("02:00:00:00:00:02", "fd00::12")
RED2 = ("02:00:00:00:00:22", "fd00::22")


@dataclass(frozen=True, slots=True)
class Scene:
    """A host whose guest blue/web1 asks, and the app that answers."""

    host: OvsHost
    overlay: Path
    guest: str
    app: Controller

    def answers(self, *asked: str) -> list[Advertisement]:
        """What the guest hears that asks for these addresses, and then for one it surely gets."""
        with closing(Wire(self.guest, "eth0")) as wire:
            for target in (*asked, link_local(WEB2[0])):
                wire.send(solicitation(WEB1, target, token()))

            def heard() -> list[Advertisement]:
                return [said for said in map(read_advertisement, wire.heard()) if said]

            last = link_local(WEB2[0])
            assert eventually(lambda: any(said.about == last for said in heard())), self.app.log
            return [said for said in heard() if said.about != last]


@pytest.fixture(scope="module")
def scene(on: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    overlay = two_tenants()
    endpoints = overlay["tenants"]["blue"]["endpoints"]
    endpoints["web2"]["ip"].append(f"{WEB2[1]}/64")
    overlay["tenants"]["red"]["endpoints"]["web2"] |= {"mac": RED2[0], "ip": [f"{RED2[1]}/64"]}
    name = f"nd-{os.getpid()}"
    with ExitStack() as stack:
        host = stack.enter_context(OvsHost(f"{name}-h"))
        guest = stack.enter_context(network_namespace(f"{name}-g"))
        file = write(tmp_path_factory.mktemp(on.package) / "overlay.yaml", overlay)
        options = ("--framework", on.framework, "--nd", "app")
        app = stack.enter_context(controller(host, file, *options, python=on.python))
        attach = ("attach", str(file), "blue/web1", "--netns", guest, "--ovsdb", host.remote)
        attached = cli(*attach, netns=host.netns)
        assert attached.returncode == 0, attached.stderr
        assert app.in_sync("blue/web1"), app.log
        yield Scene(host, file, guest, app)


def test_the_answer_is_what_the_neighbour_would_say(scene: Scene) -> None:
    assert scene.answers(WEB2[1]) == [
        Advertisement(
            source=WEB2,
            target=WEB1,
            about=WEB2[1],
            link_layer=WEB2[0],
            router=False,
            solicited=True,
            override=True,
            hop_limit=255,
            checksum_right=True,
        )
    ]


def test_the_guests_kernel_takes_it(scene: Scene) -> None:
    """Nobody is there to answer its ping; it knows the neighbour's MAC all the same."""
    ping = f"ping -6 -c1 -W0.2 {WEB2[1]} >/dev/null; ip -6 neigh show {WEB2[1]}"
    assert eventually(lambda: f"lladdr {WEB2[0]}" in in_netns(scene.guest, "sh", "-c", ping))


def test_nobody_answers_for_strangers_another_tenants_or_oneself(scene: Scene) -> None:
    assert scene.answers("fd00::77", RED2[1], WEB1[1]) == []


def test_the_flows_are_what_export_says(scene: Scene) -> None:
    assert difference(scene.host, scene.overlay, "--nd", "app") == ""
    assert difference(scene.host, scene.overlay) != ""
    asking = [flow for flow in flows(scene.host) if "CONTROLLER:65535" in flow]
    assert len(asking) == 6, "two addresses each of blue's web1 and web2, and of red's web2"
    assert all("icmp_type=135,icmp_code=0,nd_target=" in flow for flow in asking)


def test_the_switch_limits_how_much_it_asks(scene: Scene) -> None:
    row = scene.host.vsctl("get", "bridge", BRIDGE, "controller").strip("[]")
    for column, limit in (("controller_rate_limit", "1000"), ("controller_burst_limit", "250")):
        assert scene.host.vsctl("get", "controller", row, column) == limit


def test_a_new_neighbour_is_known_soon(scene: Scene) -> None:
    """The app answers from what the switch holds, and keeps no list of its own."""

    def known(*asked: str) -> bool:
        # The switch's cache of decisions follows its flows a moment later.
        macs = [(said.about, said.link_layer) for said in scene.answers("fd00::99", WEB2[1])]
        return macs == [(target, WEB2[0]) for target in asked]

    before, ear = scene.overlay.read_text("utf-8"), Ear(scene.host)
    assert known(WEB2[1])
    write(scene.overlay, before.replace(f"{WEB2[1]}/64", "fd00::99/64"))
    scene.app.reload()
    assert eventually(lambda: known("fd00::99"))
    assert len(ear.changes()) == 2
    write(scene.overlay, before)
    scene.app.reload()
    assert eventually(lambda: known(WEB2[1]))
