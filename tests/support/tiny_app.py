"""A small app for either framework: says on stdout what it sees; its one option says as what."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from ovs_lwt.backends.openflow import framework

FW = framework.current()
FW.register_options(
    [
        FW.cfg.StrOpt("tiny-name", default="tiny", help="what the tiny app calls itself"),
        FW.cfg.BoolOpt("tiny-breaks", default=False, help="fail in the handler of connections"),
    ]
)


class TinyApp(framework.App):
    """Prints switches as they come and go, SIGHUPs, and its own end."""

    OFP_VERSIONS = (FW.ofproto_v1_4.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.say(f"starts on {FW.name}")
        signal.signal(signal.SIGHUP, self.hangup)

    def say(self, what: str) -> None:
        """Print one line, at once and in one piece: apps of green threads share a terminal."""
        print(f"{self.CONF.tiny_name} {what}\n", end="", flush=True)

    def hangup(self, _signum: int, _frame: FrameType | None) -> None:
        """Show that an app's own signal handler is called."""
        self.say("reloads")

    @FW.handler.set_ev_cls(FW.ofp_event.EventOFPStateChange, ["main", "dead"])  # type: ignore[untyped-decorator]
    def state(self, event: Any) -> None:
        """See a switch come or go."""
        self.say(f"sees {event.datapath.id:016x} {event.state}")
        if self.CONF.tiny_breaks:
            raise ValueError("broken on purpose")

    def close(self) -> None:
        """Show that apps are closed."""
        self.say("closes")
