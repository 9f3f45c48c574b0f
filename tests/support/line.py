"""A session and a fake switch, joined by a line on which time passes only when the test says so."""

from __future__ import annotations

from dataclasses import dataclass, field

from ovs_lwt.backends.openflow.session import Event, Session, State
from ovs_lwt.view import View
from tests.support.fake_switch import ConnectionDropped, FakeSwitch, messages_in
from tests.support.fake_switch import State as Held


@dataclass(slots=True)
class Line:
    """`connect` first; then every method goes on until nobody has anything to say."""

    switch: FakeSwitch = field(default_factory=FakeSwitch)
    session: Session = field(default_factory=Session)
    now: float = 1000.0
    events: list[Event] = field(default_factory=list)

    def connect(self) -> None:
        """The switch connects, for the first time or again."""
        self.switch.reconnect()
        self.session.connected(self.now)
        self.settle()

    def desire(self, view: View) -> None:
        """Hand the session a view and let it work."""
        self.session.desire(view, self.now)
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.session.tick(self.now)
        self.settle()

    def settle(self) -> None:
        """Carry bytes to and fro until both are quiet."""
        while self.session.outbox or self.session.produce(self.now):
            self.turn()
        self._hear()

    def turn(self) -> None:
        """Carry what the session has to say, and the switch's answers back."""
        data = b"".join(self.session.outbox)
        self.session.outbox.clear()
        try:
            answers = self.switch.take(data)
        except ConnectionDropped:
            self.session.disconnected()
            answers = b""
        for message in messages_in(answers):
            self.session.receive(message, self.now)
        self._hear()

    def state(self) -> State:
        """The session's state."""
        return self.session.state

    def given_up(self) -> bool:
        """Whether the session wants the connection closed."""
        return self.session.close

    def _hear(self) -> None:
        self.events += self.session.events
        self.session.events.clear()

    def forget(self) -> None:
        """Begin a new chapter: what was seen and told so far is done with."""
        self.switch.forget()
        self.events.clear()


def in_sync(view: View, *, keep_foreign: bool = False) -> Line:
    """A line whose switch, empty at first, holds what `view` says."""
    line = Line(session=Session(keep_foreign=keep_foreign))
    line.session.desire(view, line.now)
    line.connect()
    assert line.state() is State.IN_SYNC, line.events
    return line


def holding(view: View) -> Held:
    """What a switch holds that was empty and got `view`."""
    return in_sync(view).switch.state
