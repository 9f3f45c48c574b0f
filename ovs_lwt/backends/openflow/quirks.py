"""What has to be mended in os-ken and Ryu before an app can rely on them.

Each mend says what happens without it, and can go when the framework no longer needs it.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import Any


class _TaskExit(BaseException):
    """Stands for eventlet's GreenletExit on native threads, which nothing raises."""


def mend(package: str) -> None:
    """Mend the framework imported as `package` (``os_ken`` or ``ryu``), before its first use."""
    # Said on every start, to a user who cannot change it.
    warnings.filterwarnings("ignore", message="\\s*Eventlet is deprecated")
    if package == "ryu":
        _eventlet_already_handled()
        _locks_are_found_behind_pydantic()
    hub = importlib.import_module(f"{package}.lib.hub")
    # In this order: the controller module cannot be imported before the app manager.
    importlib.import_module(f"{package}.base.app_manager")
    controller = importlib.import_module(f"{package}.controller.controller")
    _listening_is_ours(controller)
    if hub.HUB_TYPE == "native":
        _handlers_survive_exceptions(hub)
        _threads_do_not_hold_the_process(hub)
        _disconnects_are_noticed(controller)


def _eventlet_already_handled() -> None:
    """Ryu 4.34 imports a name that eventlet dropped; without it no Ryu app can be imported.

    Ryu only returns it from a finished websocket, where eventlet now wants an empty iterable.
    """
    wsgi: Any = importlib.import_module("eventlet.wsgi")
    if not hasattr(wsgi, "ALREADY_HANDLED"):
        wsgi.ALREADY_HANDLED = ()


def _locks_are_found_behind_pydantic() -> None:
    """When eventlet takes over threads it looks for locks made before, in the `vars` of all there
    is; pydantic's placeholders raise an error of their own at that, and eventlet then skips their
    neighbours, with a traceback on every start."""
    patcher: Any = importlib.import_module("eventlet.patcher")

    def variables(container: object) -> dict[str, Any]:
        try:
            return vars(container)
        except Exception as error:
            raise TypeError(f"{type(container).__name__} has no variables") from error

    patcher.vars = variables


def _handlers_survive_exceptions(hub: Any) -> None:
    """os-ken's native hub says `TaskExit = Exception`, so the event loop, which lets TaskExit pass,
    ends at the first exception of any handler: the app is deaf from then on, without a word."""
    if hub.TaskExit is Exception:
        hub.TaskExit = _TaskExit


def _threads_do_not_hold_the_process(hub: Any) -> None:
    """Native threads cannot be killed, and the listening one never ends: the process would hang at
    exit waiting for it."""
    native = hub.HubThread

    class DaemonThread(native):  # type: ignore[misc, valid-type]  # untyped
        """A HubThread that the interpreter does not wait for."""

        def __init__(self, target: Any, args: Any = (), kwargs: Any = None) -> None:
            super().__init__(target, args, {} if kwargs is None else kwargs)
            self.daemon = True

    hub.HubThread = DaemonThread


def _disconnects_are_noticed(controller: Any) -> None:
    """`Datapath.serve` joins its send thread, which native threads leave waiting on an empty queue:
    a switch that hangs up would never be reported (no EventOFPStateChange to `dead`)."""
    receive = controller.Datapath._recv_loop

    @functools.wraps(receive)
    def receive_then_wake_sender(datapath: Any) -> None:
        try:
            receive(datapath)
        finally:
            # The last message: nothing, after which the send loop ends by itself.
            datapath.send(b"", close_socket=True)

    controller.Datapath._recv_loop = receive_then_wake_sender


def _listening_is_ours(controller: Any) -> None:
    """Their accept loop ends for good at its first error, as when files run out; it lets anybody
    in, waits for handshakes without end, and listens on all addresses unasked."""

    def listen(_: Any, tcp_port: int, tls_port: int) -> None:
        from ovs_lwt.backends.openflow import listening

        listening.serve(controller.CONF, tcp_port, tls_port)

    controller.OpenFlowController.server_loop = listen
