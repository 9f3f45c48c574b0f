"""Batches, answers and dumps, against a kernel that refuses, overruns and changes its mind."""

from __future__ import annotations

import errno
import struct

import numpy as np
import pytest

from ovs_lwt.backends.netlink import transport
from ovs_lwt.backends.netlink.program import Program, Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import Transaction, between
from ovs_lwt.backends.netlink.transport import BATCH, NAMED, Kernel
from ovs_lwt.mistakes import Refused
from tests.support.fake_kernel import HEADER, NLM_F_ACK, NLM_F_DUMP_INTR, FakeKernel

HOST = Devices.of({"vxlan0": 7})
MAC = 0x020000000000
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30


def endpoints(count: int) -> Program:
    columns = {
        "mac": np.arange(MAC, MAC + count, dtype=np.uint64),
        "vtep": np.array([0xC0000201]),
        "vni": np.array([1010]),
        "dev": np.array([0]),
    }
    return stamp([Rows("fdb.remote_endpoint", count, columns)], HOST)


def adding(count: int) -> Transaction:
    return between([], endpoints(count))


def deleting(count: int) -> Transaction:
    return between(endpoints(count).entries, stamp([], HOST))


def mac(message: bytes) -> int:
    return int.from_bytes(message[32:38], "big")


def flags(message: bytes) -> int:
    return int(HEADER.unpack_from(message)[2])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(transport, "create_socket", lambda *_, **__: fake)
    return fake


def test_a_batch_has_one_acknowledgement(fake: FakeKernel) -> None:
    with Kernel() as kernel:
        outcome = kernel.run(adding(2 * BATCH + 1))
    assert fake.closed
    assert (outcome.sent, outcome.failed, outcome.failures) == (2 * BATCH + 1, 0, ())
    assert list(map(len, fake.batches)) == [BATCH, BATCH, 1]
    for batch in fake.batches:
        assert [bool(flags(one) & NLM_F_ACK) for one in batch] == [
            *[False] * (len(batch) - 1),
            True,
        ]


def test_every_message_has_its_own_number(fake: FakeKernel) -> None:
    kernel = Kernel()
    kernel.run(adding(BATCH + 10))
    kernel.run(adding(10))
    numbers = [HEADER.unpack_from(message)[3] for message in fake.taken]
    assert len(set(numbers)) == len(numbers) == BATCH + 20


def test_numbers_begin_again_before_they_run_out(fake: FakeKernel) -> None:
    kernel = Kernel()
    kernel._next = 0xFFFFFFFF - 5
    assert kernel.run(adding(10)) == transport.Outcome(10)
    assert [HEADER.unpack_from(message)[3] for message in fake.taken] == list(range(1, 11))


def test_a_refusal_names_its_row_and_says_what_the_kernel_said(fake: FakeKernel) -> None:
    fake.refuse = lambda one: (errno.EINVAL, "VNI out of order") if mac(one) == MAC + 7 else (0, "")
    outcome = Kernel().run(adding(BATCH))
    assert (outcome.sent, outcome.failed) == (BATCH, 1)
    assert [str(failure) for failure in outcome.failures] == [
        (
            "fdb replace 02:00:00:00:00:07 dev vxlan0 dst 192.0.2.1 src_vni 1010 self permanent:"
            " Invalid argument (VNI out of order)"
        )
    ]


def test_the_last_of_a_batch_may_be_the_one_that_is_refused(fake: FakeKernel) -> None:
    fake.refuse = lambda one: (errno.ENODEV, "") if mac(one) == MAC + BATCH - 1 else (0, "")
    outcome = Kernel().run(adding(BATCH + 1))
    (failure,) = outcome.failures
    assert str(failure).endswith("self permanent: No such device")
    assert len(fake.taken) == BATCH + 1


def test_of_many_refusals_the_first_are_put_into_words(fake: FakeKernel) -> None:
    # Answers with and without the kernel's words are of different lengths.
    fake.refuse = lambda one: (errno.EPERM, "no" if mac(one) % 2 else "")
    outcome = Kernel().run(adding(3 * BATCH))
    assert outcome.failed == 3 * BATCH
    named = [failure.what.split()[2] for failure in outcome.failures]
    assert named == [(MAC + n).to_bytes(6, "big").hex(":") for n in range(NAMED)]


def test_deleting_what_is_absent_is_success(fake: FakeKernel) -> None:
    for code in (errno.ENOENT, errno.ESRCH, errno.ENODEV):
        fake.refuse = lambda _, code=code: (code, "")  # type: ignore[misc]
        assert Kernel().run(deleting(3)) == transport.Outcome(3)
    fake.refuse = lambda _: (errno.EPERM, "")
    outcome = Kernel().run(deleting(3))
    assert outcome.failed == 3
    assert str(outcome.failures[0]) == (
        "fdb del 02:00:00:00:00:00 dev vxlan0 dst 192.0.2.1 src_vni 1010 self:"
        " Operation not permitted"
    )


def test_adding_is_not_success_where_the_device_is_absent(fake: FakeKernel) -> None:
    fake.refuse = lambda _: (errno.ENODEV, "")
    assert Kernel().run(adding(3)).failed == 3


@pytest.mark.parametrize("room", [1, 2, 7, 100])
def test_where_answers_are_lost_the_batch_is_sent_again_in_halves(
    fake: FakeKernel, room: int
) -> None:
    fake.room = room
    fake.refuse = lambda one: (errno.EINVAL, "") if mac(one) % 2 else (0, "")
    outcome = Kernel().run(adding(BATCH))
    assert outcome.failed == BATCH // 2
    assert [failure.what.split()[2][-2:] for failure in outcome.failures[:3]] == ["01", "03", "05"]
    assert {mac(message) for message in fake.taken} == set(range(MAC, MAC + BATCH))


def test_a_socket_that_holds_no_answer_at_all_is_an_error(fake: FakeKernel) -> None:
    fake.room = 0
    with pytest.raises(OSError, match="No buffer space"):
        Kernel().run(adding(4))


def listed(count: int, more: int = 0) -> list[bytes]:
    messages = endpoints(count).entries[0].block.rows
    return [bytes(one[:6]) + struct.pack("=H", 2 | more) + bytes(one[8:]) for one in messages]


def test_a_dump_gives_every_message_by_length(fake: FakeKernel) -> None:
    fake.dumps.append(listed(5))
    ((width, rows),) = Kernel().dump(RTM_GETNEIGH, bytes(12)).items()
    assert (width, len(rows)) == (56, 5)
    assert [mac(bytes(row)) for row in rows] == list(range(MAC, MAC + 5))


def test_an_empty_dump_is_empty(fake: FakeKernel) -> None:
    fake.dumps.append([])
    assert Kernel().dump(RTM_GETNEIGH, bytes(12)) == {}


def test_a_dump_that_was_interrupted_is_made_again(fake: FakeKernel) -> None:
    fake.dumps.extend([listed(5, NLM_F_DUMP_INTR), listed(6, NLM_F_DUMP_INTR), listed(7)])
    (rows,) = Kernel().dump(RTM_GETNEIGH, bytes(12)).values()
    assert len(rows) == 7


def test_tables_that_never_hold_still_are_refused(fake: FakeKernel) -> None:
    fake.dumps.append(listed(5, NLM_F_DUMP_INTR))
    with pytest.raises(Refused, match="change faster than they can be read"):
        Kernel().dump(RTM_GETNEIGH, bytes(12))


def test_a_dump_that_fails_raises_what_the_kernel_answered(fake: FakeKernel) -> None:
    fake.dumps.append([])
    fake.dump_error = errno.EOPNOTSUPP
    with pytest.raises(OSError, match="not supported") as raised:
        Kernel().dump(RTM_GETNEIGH, bytes(12))
    assert raised.value.errno == errno.EOPNOTSUPP


def test_what_is_left_of_an_earlier_conversation_is_passed_over(fake: FakeKernel) -> None:
    fake.dumps.append(listed(2))
    kernel = Kernel()
    stale = HEADER.pack(HEADER.size + 4, 3, 2, 999, 0) + struct.pack("=i", -errno.EIO)
    fake._answers.append(stale)
    (rows,) = kernel.dump(RTM_GETNEIGH, bytes(12)).values()
    assert len(rows) == 2
    fake._answers.append(HEADER.pack(36, 2, 0, 999, 0) + struct.pack("=i", -errno.EIO) + bytes(16))
    assert kernel.run(adding(3)) == transport.Outcome(3)
