"""A machine for vagrant/provision.sh to write to, which is none: a switch in a network namespace,
and around it a view of the file system where /etc, /usr/local and /run are its own.

    with OvsHost("prv-host1", folder) as switch, ProvisionedHost("host1", switch) as host:
        host.run("vagrant/provision.sh", "--configure", "host1", "192.0.2.11")

systemd's part is played by a script: it notes what it is asked, and runs what the installed units
say. `host.close`, or the end of this process, ends whatever it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from ovs_lwt.control import ask
from ovs_lwt.mistakes import Refused
from tests.support.frameworks import CHECKOUT, environment
from tests.support.ovs import OvsHost, eventually

_ASKED: Final = "/run/asked"

# What is written below /etc and /usr/local is memory that only this view has. The last command
# holds the view for as long as our end of the pipe is open.
_VIEW: Final = """
set -e
mount -t tmpfs tmpfs /run
for folder in etc usr/local; do
    mkdir -p "/run/upper/$folder" "/run/work/$folder"
    mount -t overlay overlay "/$folder" \
        -o "lowerdir=/$folder,upperdir=/run/upper/$folder,workdir=/run/work/$folder"
done
mkdir -p /run/netns /run/openvswitch /run/pids
mount --bind "$RUNDIR" /run/openvswitch
rm -rf /etc/ovs-lwt /etc/default/ovs-lwt
mkdir -p /usr/local/bin
printf '%s' "$SYSTEMCTL" >/usr/local/bin/systemctl
printf '%s' "$OVS_LWT" >/usr/local/bin/ovs-lwt
chmod +x /usr/local/bin/systemctl /usr/local/bin/ovs-lwt
echo ready
cat
kill $(cat /run/pids/* 2>/dev/null) 2>/dev/null
"""

_SYSTEMCTL: Final = r"""#!/bin/sh
set -e
echo "$*" >>/run/asked
for word; do unit=$word; done
service=${unit%%@*} instance=${unit#*@}
file=/etc/systemd/system/$service@.service
pid=/run/pids/$service
case "$*" in restart\ *@* | start\ *@*) ;; *) exit 0 ;; esac
if [ -e "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then
    case $1 in
        start) exit 0 ;;
        restart)
            kill "$(cat "$pid")"
            while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.1; done
            ;;
    esac
fi
variables=$(sed -n 's/^EnvironmentFile=-//p' "$file")
if [ -n "$variables" ] && [ -e "$variables" ]; then . "$variables"; fi
command=$(sed -n "s/^ExecStart=//p" "$file" | sed "s/%i/$instance/g")
case $(sed -n 's/^Type=//p' "$file") in
    oneshot) eval "$command" >>"/run/$service.log" 2>&1 ;;
    *) eval "exec $command" >>"/run/$service.log" 2>&1 & echo $! >"$pid" ;;
esac
"""


class ProvisionedHost:
    """One such machine; `run` runs a command as if on it."""

    def __init__(self, name: str, switch: OvsHost) -> None:
        self.name = name
        self.switch = switch
        self._view: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        assert self.switch.netns is not None
        # Both `ip netns exec` and `unshare` become the shell: its process id is the view's.
        self._view = subprocess.Popen(
            ["ip", "netns", "exec", self.switch.netns, "unshare", "--mount", "sh", "-c", _VIEW],
            env=self._environment
            | {
                "RUNDIR": str(self.switch.rundir),
                "SYSTEMCTL": _SYSTEMCTL,
                "OVS_LWT": f'#!/bin/sh\nexec {sys.executable} -m ovs_lwt.cli "$@"\n',
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._view.stdout is not None
        assert self._view.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs on it, and forget what was written."""
        if self._view is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._view.communicate(timeout=10)
            self._view.kill()
            self._view.wait()
            self._view = None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `command` in the checkout, as root of this machine, for three minutes at most."""
        return subprocess.run(
            [*self.entered, "timeout", "180", *command],
            cwd=CHECKOUT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def output(self, *command: str) -> str:
        """What `command` prints; it must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{self.log}"
        return done.stdout

    def provision(self, *addresses: str) -> str:
        """The configuration half of provision.sh; what it prints."""
        return self.output("vagrant/provision.sh", "--configure", self.name, *addresses)

    def asked(self) -> list[str]:
        """What systemctl has been asked since the last time."""
        return self.output("sh", "-c", f"cat {_ASKED}; : >{_ASKED}").splitlines()

    def serves(self, *endpoints: str, within: float = 60) -> bool:
        """Wait until the controller is in sync and serves these guests."""

        assert self._view is not None
        control = Path(f"/proc/{self._view.pid}/root/run/ovs-lwt/{self.name}.ctl")

        def there() -> bool:
            try:
                told = json.loads(ask(control, "status"))["hosts"][self.name]
            except Refused:
                return False
            return told["sync"] == "in-sync" and set(endpoints) <= set(told["ports"].values())

        return eventually(there, within)

    @property
    def log(self) -> str:
        """What its services have printed."""
        return self.run("sh", "-c", "cat /run/*.log").stdout

    @property
    def entered(self) -> tuple[str, ...]:
        """What a command line begins with to be run here."""
        assert self._view is not None
        return ("nsenter", f"--target={self._view.pid}", "--mount", "--net", f"--wd={CHECKOUT}")

    @property
    def _environment(self) -> dict[str, str]:
        path = os.environ["PATH"]
        return environment() | {"PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:{path}"}
