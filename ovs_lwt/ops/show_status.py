"""`ovs-lwt status`: an agent's status asked for, waited for, and printed for people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, TextIO

from ovs_lwt.control import ask
from ovs_lwt.mistakes import Refused, listing
from ovs_lwt.printable import printable
from ovs_lwt.status import IN_SYNC

_POLL: Final = 0.2  # s
_SHOWN: Final = 8  # names in one line


class Outcome(IntEnum):
    """The exit status."""

    IN_SYNC = 0
    NOT_YET = 3
    UNREACHABLE = 4


def status(control: Path, host: str | None) -> dict[str, Any]:
    """What the agent behind a control socket says; of one host only, if one is named.

    Raises Refused if it does not answer, or does not drive that host.
    """
    said: dict[str, Any] = json.loads(ask(control, "status"))
    if host is not None:
        if host not in said["hosts"]:
            names = listing(said["hosts"])
            raise Refused(f"the agent behind {control} does not drive {host}: it drives {names}")
        said["hosts"] = {host: said["hosts"][host]}
    return said


def outcome(said: Mapping[str, Any], *, checked: bool = False) -> Outcome:
    """Whether all hosts are in sync. checked: and have been checked at least once."""
    hosts = said["hosts"].values()
    good = all(about["state"] == IN_SYNC for about in hosts)
    if checked:
        good = good and all(about.get("checked") is not None for about in hosts)
    return Outcome.IN_SYNC if good else Outcome.NOT_YET


def waited(
    ask_once: Callable[[], dict[str, Any]], seconds: float, *, checked: bool
) -> tuple[dict[str, Any] | None, Outcome, Refused | None]:
    """Ask until all hosts are in sync, or the time is over: what was last said, how it came out,
    and why nothing was said.
    """
    deadline = time.monotonic() + seconds
    while True:
        said, refused, result = None, None, Outcome.UNREACHABLE
        try:
            said = ask_once()
            result = outcome(said, checked=checked)
        except Refused as reason:
            refused = reason
        if result is Outcome.IN_SYNC or time.monotonic() >= deadline:
            return said, result, refused
        time.sleep(_POLL)


def show(said: Mapping[str, Any], out: TextIO) -> None:
    """Print it for people: a few lines for each host, whole whatever the terminal's width."""
    out.writelines(f"{printable(line)}\n" for line in _overlay(said["overlay"]))
    for name, about in said["hosts"].items():
        out.writelines(f"{printable(line)}\n" for line in _host(name, about))


def _overlay(about: Mapping[str, Any]) -> Iterator[str]:
    if not about:
        return
    counts = (
        f"{about['tenants']:,} tenants, {about['endpoints']:,} endpoints, {about['hosts']:,} hosts"
    )
    read = f"read {_ago(about['read'])}, sha256 {about['sha256']}"
    yield f"overlay  {about['file']}: {counts}, {read}"
    for problem in about.get("refused") or ():
        yield f"         not taken over: {problem}"


def _host(name: str, about: Mapping[str, Any]) -> Iterator[str]:
    installed = ", ".join(
        f"{about[kind]:,} {kind}" for kind in _KINDS if about.get(kind) is not None
    )
    yield f"{name}  {about['state']}  plane {about['plane']}, {installed}{_last(about)}"
    if about.get("waiting"):
        yield f"  waiting {about['waiting']}"
    for finding in about["findings"]:
        mend = f" → {finding['mend']}" if finding["mend"] else ""
        yield f"  {finding['level']}  {finding['subject']}: {finding['text']}{mend}"
    for reason in about["refused"]:
        yield f"  refused  {reason}"
    if tunnel := about.get("tunnel"):
        yield f"  tunnel  {_tunnel(tunnel)}"
    for port, endpoint in sorted(about["ports"].items()):
        who = about["marking"].get(port)
        yield f"  port  {port}  {endpoint}{f', marked by {who}' if who else ''}"
    for port, error in sorted(about["errors"].items()):
        yield f"  port  {port}  {error}"
    if about.get("portless"):
        yield f"  endpoints without a port  {listing(about['portless'], _SHOWN)}"
    if about.get("strangers"):
        whose = (f"{port} ({id_})" if id_ else port for port, id_ in about["strangers"].items())
        yield f"  ports that are no endpoint's  {listing(whose, _SHOWN)}"
    if about.get("repaired"):
        yield f"  repaired  {about['repaired']:,} times since the agent started"
    for line in about.get("trouble") or ():
        yield f"  error  {line}"


_KINDS: Final = ("flows", "groups", "entries")


def _last(about: Mapping[str, Any]) -> str:
    checked = about.get("checked")
    told = [f"synced {_ago(about['synced'])}"] if about.get("synced") is not None else []
    told += [f"checked {_ago(checked)}"] if checked is not None else []
    return f" ({', '.join(told)})" if told else ""


def _tunnel(tunnel: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in tunnel.items() if value is not None)


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
