"""A whole overlay in the lab, for stories told by packets: who heard a frame, and what was on the
underlay.

    with laboratory(overlay, tmp_path) as lab, lab.listening() as wires:
        mark = token()
        wires.say("blue/web1", ethernet(mac, BROADCAST, mark))
        assert wires.heard(mark) == {"blue/web2": 1}
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import ip_interface
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from typer.testing import CliRunner

from ovs_lwt.cli import app
from ovs_lwt.control import ask
from ovs_lwt.lab import controllers, lifecycle, namespaces
from ovs_lwt.lab.plan import BRIDGE, Controllers, GuestPlan, HostPlan, LabPlan
from ovs_lwt.lab.processes import run
from ovs_lwt.lab.switches import environment
from ovs_lwt.names import port_name
from tests.support.inhabited import Inhabited
from tests.support.overlays import Overlay, endpoint
from tests.support.ovs import eventually
from tests.support.roundtrip import OPENFLOW, difference
from tests.support.trace import Trace

_NUMBERS = count(1)
_PATIENCE = 10.0


class OverlayLab(Inhabited):
    """A lab of hosts of plane ovs, and the ways to change it and its overlay."""

    def __init__(
        self, plan: LabPlan, overlay: Overlay, stack: ExitStack, options: Sequence[str] = ()
    ) -> None:
        super().__init__(plan, overlay)
        self.options = options
        self._stack = stack

    # Asking a host's switch

    def ofctl(self, host: str, *words: str) -> str:
        """What `ovs-ofctl` says there."""
        command = ["ovs-ofctl", *OPENFLOW, *words]
        return run(command, env=environment(self.host(host)))

    def vsctl(self, host: str, *words: str) -> str:
        """What `ovs-vsctl` says there."""
        return run(["ovs-vsctl", "--timeout=10", *words], env=environment(self.host(host))).strip()

    def learns(self, host: str) -> None:
        """Let this host alone read the overlay again; its next packet goes by what it says."""
        ask(self.host(host).control, "reload")
        self.forget_paths(host)

    def forget_paths(self, host: str) -> None:
        """Let the host's datapath forget whom it led where. It does so after a change of the tables
        by itself, but on a busy machine some packets take the old path first.
        """
        command = ["ovs-appctl", "-t", "ovs-vswitchd", "revalidator/purge"]
        run(command, env=environment(self.host(host)))

    def trace(self, host: str, packet: str) -> Trace:
        """What the host's switch would do with a packet, in the words of ovs-ofctl."""
        command = ["ovs-appctl", "-t", "ovs-vswitchd", "ofproto/trace", "--names", BRIDGE, packet]
        return Trace(run(command, env=environment(self.host(host))))

    def flows(self, host: str, match: str = "") -> Sequence[str]:
        """The flows that a match selects, without statistics."""
        text = self.ofctl(
            host, "--names", "--no-stats", "dump-flows", BRIDGE, *([match] * bool(match))
        )
        return [line.strip() for line in text.splitlines() if "actions=" in line]

    def groups(self, host: str) -> Mapping[int, str]:
        """The host's groups: number -> what ovs-ofctl prints."""
        text = self.ofctl(host, "--names", "dump-groups", BRIDGE)
        return {int(number): line for line, number in re.findall(r"(group_id=(\d+),.*)", text)}

    # The round trip

    def differences(self) -> str:
        """Where any host's switch is not what `ovs-lwt export` says; nothing if none."""
        found = {
            host.name: difference(self.plan.overlay, host, *self.options)
            for host in self.plan.own_hosts
        }
        return "\n".join(f"{name}:\n{text}" for name, text in found.items() if text)

    def check(self) -> None:
        """Every switch holds what `ovs-lwt export` says."""
        found = self.differences()
        assert not found, found

    def follows(self) -> None:
        """The switches come to hold what `ovs-lwt export` says, by themselves."""
        found = [""]

        def followed() -> bool:
            found[:] = [self.differences()]
            return not found[0]

        assert eventually(followed, within=_PATIENCE), found[0]

    # Changing it

    def change(self, edit: Callable[[Overlay], object]) -> None:
        """Edit the overlay and let every host's controller read it again; then the round trip."""
        edit(self.overlay)
        _write(self.plan.overlay, self.overlay)
        for control in dict.fromkeys(host.control for host in self.plan.own_hosts):
            # What a story does is meant, however many endpoints go.
            ask(control, "reload-force")
        self.check()

    def attach(self, identity: str, host: str) -> None:
        """`ovs-lwt attach` the endpoint's namespace (a new one, if it has none) on a host; then
        the round trip.
        """
        tenant, _, name = identity.partition("/")
        described = endpoint(self.overlay, identity)
        namespace = f"{self.plan.name}-{tenant}-{name}"
        if not namespaces.exists(namespace):
            namespaces.create(namespace)
            self._stack.callback(namespaces.remove, namespace)
            namespaces.set_sysctl(namespace, "net/ipv6/conf/default/accept_dad", "0")
        self._on(host, "attach", str(self.plan.overlay), identity, "--netns", namespace)
        self.follows()
        self.guests[identity] = GuestPlan(
            tenant,
            name,
            host,
            namespace,
            port_name(tenant, name),
            described["mac"],
            # As the overlay's columns have them: IPv4 first.
            tuple(sorted(map(ip_interface, described["ip"]), key=lambda a: a.version)),
        )

    def detach(self, identity: str) -> None:
        """`ovs-lwt detach` a guest from its host; then the round trip."""
        self._on(self.guests.pop(identity).host, "detach", identity)
        self.follows()

    def restore(self, overlay: Overlay) -> None:
        """Make it again what it was when it came up."""
        wanted = {guest.id: guest for guest in self.plan.guests}
        for identity, guest in list(self.guests.items()):
            if guest != wanted.get(identity):
                self._on(self.guests.pop(identity).host, "detach", identity)
        if self.overlay != overlay:
            self.overlay = {}
            self.change(lambda nothing: nothing.update(copy.deepcopy(overlay)))
        for identity, guest in wanted.items():
            if identity not in self.guests:
                self.attach(identity, guest.host)

    def _on(self, host: str, *command: str) -> None:
        there = self.host(host)
        with namespaces.entered(there.namespace):
            done = CliRunner().invoke(app, [*command, "--ovsdb", there.ovsdb])
        assert done.exit_code == 0, done.output or repr(done.exception)


@contextlib.contextmanager
def laboratory(
    overlay: Overlay, folder: Path, *options: str, one_controller: bool = False
) -> Iterator[OverlayLab]:
    """Bring an overlay up, check that the switches hold what it says, and take it down again.

    options: what `ovs-lwt run` is given besides (and `export`)
    """
    path = _write(folder / "overlay.yaml", overlay)
    name = f"pk{os.getpid()}-{next(_NUMBERS)}"
    with ExitStack() as stack:
        stack.callback(_down, name)
        plan = _up(path, name, options, "one" if one_controller else "each")
        lab = OverlayLab(plan, overlay, stack, options)
        lab.check()
        lab.warm_up()
        yield lab
        lab.check()
        for host in plan.own_hosts:
            assert "Traceback" not in host.log.read_text(), host.log.read_text()


def _up(overlay: Path, name: str, options: Sequence[str], how: Controllers) -> LabPlan:
    arguments = controllers.arguments

    def with_options(plan: LabPlan, hosts: Sequence[HostPlan]) -> list[str]:
        return [*arguments(plan, hosts), *options]

    with mock.patch.object(controllers, "arguments", with_options):
        return lifecycle.up(overlay, name=name, controllers=how)


def _down(name: str) -> None:
    with lifecycle.shielded():
        lifecycle.down(name)


def _write(path: Path, overlay: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(overlay), sort_keys=False), "utf-8")
    return path
