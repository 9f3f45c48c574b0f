"""Marks as they go to the kernel, and to nft."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ovs_lwt.veth.marking import BOTH_WAYS, CannotMark, Direction, Marked, nft, tc
from ovs_lwt.veth.marks import Found

PORT = Marked("blue-web1", index=7, mark=10, directions=BOTH_WAYS)


class TestByTc:
    @pytest.mark.parametrize(
        ("direction", "parent", "action"),
        [("ingress", 0xFFFFFFF2, 0x60000007), ("egress", 0xFFFFFFF3, 0x70000007)],
    )
    def test_the_filter_as_it_goes_to_the_kernel(
        self, direction: Direction, parent: int, action: int
    ) -> None:
        """`tc filter … prio 1 handle 1 matchall action skbedit mark 10 continue`, for all of it."""
        sent = tc.mark_filter(PORT, direction)
        sent.encode()
        message = tcmsg(bytes(sent.data))
        message.decode()

        assert message["index"] == 7
        assert message["parent"] == parent
        assert message["handle"] == 1
        assert message["info"] >> 16 == 1, "preference"
        assert message["info"] & 0xFFFF == 0x0300, "every protocol: ETH_P_ALL, network order"
        assert message.get_attr("TCA_KIND") == "matchall"
        assert tc.filter_marks(message) == ((action, 10),)


class FakeNft:
    """Takes the place of the program: `listed` is what it lists, `told` what it is told."""

    def __init__(self, listed: str = "", error: str = "") -> None:
        self._listed, self._error = listed, error
        self.told: list[Any] = []

    def __call__(self, command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        if "list" in command:
            code = 0 if self._listed else 1
            return subprocess.CompletedProcess(command, code, self._listed, "Error: no such table")
        self.told.append(json.loads(how["input"])["nftables"])
        return subprocess.CompletedProcess(command, 1 if self._error else 0, "", self._error)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> FakeNft:
    return install(FakeNft(), monkeypatch)


def install(fake: FakeNft, monkeypatch: pytest.MonkeyPatch) -> FakeNft:
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/sbin/nft")
    monkeypatch.setattr("subprocess.run", fake)
    return fake


def listed(*parts: dict[str, Any]) -> str:
    return json.dumps({"nftables": list(parts)})


def chain(name: str, hook: str | None) -> dict[str, Any]:
    return {"chain": {"name": name} | ({"hook": hook} if hook else {})}


def rule(name: str, mark: int, key: str = "mark") -> dict[str, Any]:
    setting = {"mangle": {"key": {"meta": {"key": key}}, "value": mark}}
    return {"rule": {"chain": name, "expr": [setting]}}


class TestByNft:
    def test_one_batch_makes_both_chains_anew(self, program: FakeNft) -> None:
        nft.set_mark(None, PORT)
        (batch,) = program.told
        words = [
            (verb, what, part.get("hook")) for c in batch for verb, w in c.items()
            for what, part in w.items()
        ]  # fmt: skip
        of_a_chain = [("add", "chain"), ("delete", "chain"), ("add", "chain"), ("add", "rule")]
        assert [(verb, what) for verb, what, _ in words] == [("add", "table"), *2 * of_a_chain]
        assert [hook for *_, hook in words if hook] == 3 * ["ingress"] + 3 * ["egress"]

    def test_what_is_right_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = listed(
            chain("in-blue-web1", "ingress"),
            chain("out-blue-web1", "egress"),
            rule("in-blue-web1", 10),
            rule("out-blue-web1", 10),
        )
        program = install(FakeNft(text), monkeypatch)
        nft.set_mark(None, PORT)
        assert program.told == []

    def test_what_is_listed_is_known_by_its_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = listed(
            {"metainfo": {}},
            chain("in-blue-web1", "ingress"),
            rule("in-blue-web1", 10),
            chain("out-vnet/7e/1", "egress"),
            rule("out-vnet/7e/1", 11),
            chain("in-twice", "ingress"),
            rule("in-twice", 12),
            rule("in-twice", 12),
            chain("in-other", "ingress"),
            rule("in-other", 13, key="priority"),
            chain("in-unhooked", None),
            chain("somebodys", "ingress"),
        )
        install(FakeNft(text), monkeypatch)
        assert nft.marks(None) == {
            ("blue-web1", "ingress"): 10,
            ("vnet~1", "egress"): 11,
            ("twice", "ingress"): -1,
            ("other", "ingress"): -1,
        }

    def test_what_nft_says_comes_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        error = "internal:0:0-0: Error: Could not process rule: Operation not supported\n"
        install(FakeNft(error=error), monkeypatch)
        with pytest.raises(CannotMark, match="Operation not supported"):
            nft.set_mark(None, PORT)

    def test_without_the_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
        assert nft.marks(None) == {}
        nft.clear_marks(None, ["blue-web1"])
        with pytest.raises(CannotMark, match="apt-get install nftables"):
            nft.set_mark(None, PORT)


class TestFound:
    def test_marks_of_both_kinds_are_not_right(self) -> None:
        both: dict[Direction, int] = {"ingress": 10, "egress": 10}
        assert Found(both, {}).right(PORT, "tc")
        assert not Found(both, {}).right(PORT, "nft")
        assert not Found(both, {"ingress": 10}).right(PORT, "tc")
        assert not Found({"ingress": 10}, {}).right(PORT, "tc")

    def test_it_is_said_in_words(self) -> None:
        assert str(Found({}, {})) == "none"
        found = Found({"ingress": 99}, {"egress": -1})
        assert str(found) == "99 from tc (ingress), something else from nft (egress)"
