"""The connection to OVSDB: an in-memory copy of the columns we need, and transactions.

A thin layer over the `ovs` library's `Idl`, which reconnects by itself. What is added: every wait
has an end, and what goes wrong is said with the mend. Rows are the library's own (`Any`).
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from errno import EACCES, EAGAIN, EPERM, ETIMEDOUT
from functools import partial
from typing import Any, Final

from ovs_lwt.mistakes import NotNow, Refused
from ovs_lwt.ovslib import ovs
from ovs_lwt.vswitch.plan import check_remote, socket_of

_DATABASE: Final = "Open_vSwitch"
_COLUMNS: Final = {
    "Open_vSwitch": ["bridges", "next_cfg", "cur_cfg", "ovs_version", "other_config"],
    "Bridge": [
        "name",
        "datapath_type",
        "datapath_id",
        "ports",
        "controller",
        "protocols",
        "fail_mode",
        "other_config",
        "external_ids",
        "flow_tables",
        "stp_enable",
        "rstp_enable",
        "mirrors",
    ],
    "Port": ["name", "interfaces"],
    "Interface": [
        "name",
        "type",
        "options",
        "external_ids",
        "ofport",
        "link_state",
        "ofport_request",
        "ifindex",
        "mac_in_use",
        "mtu_request",
        "error",
    ],
    "Controller": [
        "target",
        "connection_mode",
        "inactivity_probe",
        "max_backoff",
        "controller_rate_limit",
        "controller_burst_limit",
        "external_ids",
    ],
    "Flow_Table": ["name", "external_ids"],
    "Mirror": ["name", "output_port", "output_vlan"],
}
# The server is on this machine: look for it again at once, and then every second.
_BACKOFF_MS: Final = (200, 1000)

Transaction = Any
Row = Any


class Database:
    """A local copy of one Open_vSwitch database.

    Connecting raises `Refused` if nothing answers at `remote` within `timeout` seconds. Use one
    from one thread (or green thread) only; another may look at rows while it holds `guard`, which
    is never held while anybody waits for the server.
    """

    def __init__(self, remote: str, timeout: float) -> None:
        check_remote(remote)
        if (socket := socket_of(remote)) is not None:
            # The library has a run directory of its own.
            remote = f"unix:{socket}"
        self._remote = remote
        self.guard = threading.RLock()
        deadline = time.monotonic() + timeout
        schema = _fetch_schema(remote, deadline, timeout)
        helper = ovs.db.idl.SchemaHelper(schema_json=schema)
        for table, columns in _COLUMNS.items():
            helper.register_columns(table, columns)
        self._idl = ovs.db.idl.Idl(remote, helper)
        # The library has no public way to say this.
        self._idl._session.reconnect.set_backoff(*_BACKOFF_MS)
        if not self.wait_until(lambda: self.connected, deadline):
            self.close()
            raise NotNow(_silent(remote, timeout))
        if self.root() is None:
            self.close()
            raise NotNow(
                f"the database at {remote} is empty: start Open vSwitch with its own script"
                " (systemctl start openvswitch-switch), or run: ovs-vsctl --no-wait init"
            )

    @property
    def connected(self) -> bool:
        """Whether the copy is live: the server is there and its contents were received."""
        monitoring = self._idl.state == ovs.db.idl.Idl.IDL_S_MONITORING
        return monitoring and bool(self._idl._session.is_connected())

    @property
    def seqno(self) -> int:
        """A number that differs whenever the copy does."""
        return int(self._idl.change_seqno)

    def run(self) -> None:
        """Take in what the server has sent; reconnect if need be. Never blocks."""
        with self.guard:
            self._idl.run()

    def lock(self, name: str) -> None:
        """Ask for the server's lock of this name, and write nothing without it from now on.

        It stays ours until the connection ends, and is asked for again after that.
        """
        with self.guard:
            self._idl.set_lock(name)

    @property
    def locked(self) -> bool | None:
        """Whether the lock is ours; None while the server has not said."""
        if self._idl.has_lock:
            return True
        return False if self._idl.is_lock_contended else None

    def wait(self, wake: int, seconds: float) -> None:
        """Wait until the server has sent something, `wake` (a file's number) can be read, or so
        many seconds have passed.
        """
        poller = ovs.poller.Poller()
        with self.guard:
            self._idl.wait(poller)
        poller.fd_wait(wake, ovs.poller.POLLIN)
        poller.timer_wait(max(1, int(seconds * 1000)))
        poller.block()

    def close(self) -> None:
        """End the connection."""
        self._idl.close()

    def rows(self, table: str) -> Iterator[Row]:
        """Return all rows of `table`."""
        return iter(self._idl.tables[table].rows.values())

    def named(self, table: str, name: str) -> Row | None:
        """Return the row of `table` that is called `name`; OVSDB keeps names unique."""
        return next((row for row in self.rows(table) if row.name == name), None)

    def root(self) -> Row | None:
        """Return the one row of table Open_vSwitch, or None in an empty database."""
        return next(self.rows("Open_vSwitch"), None)

    def insert(self, transaction: Transaction, table: str) -> Row:
        """Add a row to `table` within `transaction`."""
        return transaction.insert(self._idl.tables[table])

    def wait_until(self, done: Callable[[], bool], deadline: float) -> bool:
        """Wait until `done()` or until the monotonic clock reads `deadline`; say if it is done."""
        while True:
            with self.guard:
                self._idl.run()
                if done():
                    return True
            if not self._block(deadline):
                return False

    def transact(
        self, what: str, compose: Callable[[Transaction], None], timeout: float
    ) -> tuple[bool, int | None]:
        """Commit what `compose` writes; return (committed, the next_cfg it was given).

        (False, None) means that nothing differed, and nothing was sent. `compose` is called
        again when somebody else changed the database meanwhile. `what` is for the reader of
        ``ovsdb-tool show-log``. Raises `Refused` after `timeout` seconds, or if the server rejects
        the change; what `compose` raises passes through.
        """
        deadline = time.monotonic() + timeout
        while True:
            seqno = self.seqno
            with self.guard:
                transaction = ovs.db.idl.Transaction(self._idl)
                transaction.add_comment(f"ovs-lwt: {what}")
                try:
                    compose(transaction)
                    root = self.root()
                    if root is not None:
                        # ovs-vswitchd copies next_cfg to cur_cfg when it has applied the change.
                        root.increment("next_cfg")
                except BaseException:
                    transaction.abort()
                    raise
            status = self._commit(transaction, deadline)
            if status == transaction.SUCCESS:
                return True, int(transaction.get_increment_new_value())
            if status == transaction.UNCHANGED:
                return False, None
            if status == transaction.NOT_LOCKED and self.locked is False:
                raise Refused(f"the database at {self._remote} is in another agent's hands")
            if status not in (transaction.TRY_AGAIN, transaction.NOT_LOCKED):
                raise Refused(
                    f"the database at {self._remote} rejected the change: {transaction.get_error()}"
                )
            if not self.wait_until(partial(self._moved_from, seqno), deadline):
                raise NotNow(_silent(self._remote, timeout))

    def _moved_from(self, seqno: int) -> bool:
        return self.connected and self.seqno != seqno

    def _commit(self, transaction: Transaction, deadline: float) -> str:
        with self.guard:
            status: str = transaction.commit()
        while status == transaction.INCOMPLETE:
            with self.guard:
                self._idl.run()
                status = transaction.commit()
            if status == transaction.INCOMPLETE and not self._block(deadline, transaction):
                with self.guard:
                    transaction.abort()
                return str(transaction.TRY_AGAIN)
        return status

    def _block(self, deadline: float, transaction: Transaction | None = None) -> bool:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        poller = ovs.poller.Poller()
        with self.guard:
            self._idl.wait(poller)
            if transaction is not None:
                transaction.wait(poller)
        poller.timer_wait(max(1, int(left * 1000)))
        poller.block()
        return True


def use_tls(key: str | None, cert: str | None, ca: str | None) -> None:
    """Reach servers at ``ssl:`` with these files (PEM), from now on. Raises Refused."""
    files = {"--tls-key": key, "--tls-cert": cert, "--tls-ca": ca}
    if missing := [name for name, file in files.items() if not file]:
        raise Refused(f"TLS lacks {' and '.join(missing)}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(str(cert), str(key))
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise Refused(f"TLS cannot be set up from {key}, {cert} and {ca}: {error}") from error
    ovs.stream.Stream.ssl_set_private_key_file(key)
    ovs.stream.Stream.ssl_set_certificate_file(cert)
    ovs.stream.Stream.ssl_set_ca_cert_file(ca)


def _silent(remote: str, timeout: float) -> str:
    return (
        f"ovsdb-server at {remote} did not answer within {timeout:g} s:"
        " see whether it runs and is not overloaded (ovs-appctl -t ovsdb-server memory/show)"
    )


def _unreachable(remote: str, error: int) -> Refused:
    kind: type[Refused] = NotNow
    if remote.startswith("ssl:"):
        mend = (
            "see that it listens there (ovs-vsctl set-manager pssl:6640), that its certificate is"
            " signed by --tls-ca, and ours (--tls-cert) by the CA that it was given (set-ssl)"
        )
    elif error in (EACCES, EPERM):
        kind, mend = Refused, "run this as root (sudo)"
    else:
        mend = (
            "start Open vSwitch (systemctl start openvswitch-switch),"
            " or name its database with --ovsdb"
        )
    return kind(f"no ovsdb-server at {remote} ({os.strerror(error)}): {mend}")


def _fetch_schema(remote: str, deadline: float, timeout: float) -> Any:
    """Ask the server for its own schema: another version's would name other columns."""
    left = max(1, int((deadline - time.monotonic()) * 1000))
    if remote.startswith("ssl:") and ovs.stream.Stream._SSL_certificate_file is None:
        raise Refused(
            f"{remote} takes TLS with a certificate of ours: give `ovs-lwt run` --tls-key,"
            " --tls-cert and --tls-ca; on the switch's own machine say unix:, which takes none"
        )
    try:
        error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(remote), left)
    except (ValueError, TypeError, OSError) as mistake:
        raise Refused(f"'{remote}' cannot be opened as an OVSDB address: {mistake}") from mistake
    if error:
        raise _unreachable(remote, error)
    connection = ovs.jsonrpc.Connection(stream)
    try:
        request = ovs.jsonrpc.Message.create_request("get_schema", [_DATABASE])
        error = connection.send(request)
        while not error:
            connection.run()
            error, reply = connection.recv()
            if not error and reply.id == request.id:
                if reply.type == ovs.jsonrpc.Message.T_REPLY:
                    return reply.result
                raise Refused(f"the server at {remote} has no database named {_DATABASE}")
            if error == EAGAIN:
                error = 0 if _readable(connection, deadline) else ETIMEDOUT
    finally:
        connection.close()
    if error == ETIMEDOUT:
        raise NotNow(_silent(remote, timeout))
    raise _unreachable(remote, error)


def _readable(connection: Any, deadline: float) -> bool:
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    poller = ovs.poller.Poller()
    connection.wait(poller)
    connection.recv_wait(poller)
    poller.timer_wait(max(1, int(left * 1000)))
    poller.block()
    return True
