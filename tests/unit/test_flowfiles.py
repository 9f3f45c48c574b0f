"""The reader and compiler of `flows/`: what it understands, and where it says a mistake is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ovs_lwt.backends.openflow.flowfiles import FlowFile, FlowFileError, read_flows, read_folder
from ovs_lwt.backends.openflow.pipeline import Pipeline, compile_files

CLASSIFY = """\
# classify: whose packet is it?
#
# The answer goes into metadata.

# Everybody else's.
nobody():
  table=classify priority=0
  actions=drop
"""
PEER = """\
# peer: do we know the sender?

# A VTEP that we know.
known(vtep):
  table=peer priority=100,tun_src={vtep}
  actions=drop
"""

Write = Callable[..., tuple[FlowFile, ...]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files (name=text, `_` for `-`) into a folder, and read it."""

    def files(**texts: str) -> tuple[FlowFile, ...]:
        for name, text in texts.items():
            (tmp_path / f"{name.removeprefix('t').replace('_', '-')}.flows").write_text(text)
        return read_folder(tmp_path)

    return files


def test_a_folder_reads_like_the_pipeline(write: Write) -> None:
    (groups_last := write(t10_peer=PEER, t2_classify=CLASSIFY, groups=GROUPS))
    assert [(file.number, file.name) for file in groups_last] == [
        *((2, "classify"), (10, "peer"), (None, "groups")),
    ]
    classify, peer, _ = groups_last
    assert classify.question == "whose packet is it?"
    assert classify.about == "The answer goes into metadata."
    (known,) = peer.entries
    assert (known.id, known.slots, known.ordinal) == ("peer.known", ("vtep",), 1)
    assert known.text == "table=peer priority=100,tun_src={vtep} actions=drop"
    assert known.why == "A VTEP that we know."
    assert known.place == "10-peer.flows:4"


GROUPS = """\
# groups: the flood lists

# The tenant's guests.
local(local_flood, port):
  group_id={local_flood},type=all
  bucket=actions=output:{port}
"""


def test_other_files_are_passed_over(write: Write, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("What the files mean.")
    (tmp_path / "0-classify.flows~").write_text("an editor's copy")
    assert [file.name for file in write(t0_classify=CLASSIFY)] == ["classify"]


def entry(text: str) -> str:
    return f"# classify: whose packet is it?\n\n# Why it is.\n{text}"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "0-classify.flows:1: the first comment must be `# classify: `"),
        ("# peer: do we know it?\n", "0-classify.flows:1: the first comment must be"),
        ("nobody():\n  table=classify\n", "0-classify.flows:1: the first comment must be"),
        (
            "# classify: whose?\nnobody():\n  table=classify priority=0\n  actions=drop\n",
            "0-classify.flows:2: an empty line ends the comment",
        ),
        (
            "# classify: whose?\n\n# Why.\nnobody()\n  table=classify priority=0\n",
            "0-classify.flows:4: expected `name(slot, …):`, found `nobody()`",
        ),
        (
            "# classify: whose?\n\nnobody():\n  table=classify priority=0\n  actions=drop\n",
            "0-classify.flows:3: nobody needs a comment above it",
        ),
        (
            entry("one(vni):\n  table=classify priority=0\n  actions=drop"),
            "0-classify.flows:4: {vni} must stand both in the head and in the body of one",
        ),
        (
            entry("one():\n  table=classify priority=0,metadata={vni}\n  actions=drop"),
            "0-classify.flows:4: {vni} must stand both in the head and in the body of one",
        ),
        (
            entry("one(colour):\n  table=classify priority=0,metadata={colour}\n  actions=drop"),
            "0-classify.flows:4: {colour} is no slot that we know; there are vni, mark, port,",
        ),
        (
            CLASSIFY + "\n# Again.\nnobody():\n  table=classify priority=1\n  actions=drop\n",
            "0-classify.flows:11: nobody stands twice in this file",
        ),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(write: Write, text: str, mistake: str) -> None:
    with pytest.raises(FlowFileError) as told:
        write(t0_classify=text)
    assert str(told.value).startswith(mistake)


@pytest.mark.parametrize(
    ("files", "mistake"),
    [
        ({}, "no *.flows file in"),
        ({"classify": CLASSIFY}, "classify.flows: expected NUMBER-NAME.flows"),
        ({"t0_groups": GROUPS}, "0-groups.flows: expected NUMBER-NAME.flows"),
        ({"t0_Classify": CLASSIFY}, "0-Classify.flows: expected NUMBER-NAME.flows"),
        ({"t255_peer": PEER}, "255-peer.flows: OpenFlow numbers its tables from 0 to 254"),
        ({"t1_classify": CLASSIFY, "t1_peer": PEER}, "1-peer.flows: classify has this name or"),
        ({"t1_peer": PEER, "t2_peer": PEER}, "2-peer.flows: peer has this name or number"),
    ],
)
def test_a_mistake_in_a_files_name_is_told(
    write: Write, files: dict[str, str], mistake: str
) -> None:
    with pytest.raises(FlowFileError) as told:
        write(**files)
    assert str(told.value).startswith(mistake)


@pytest.fixture
def compile_one(write: Write) -> Callable[[str], Pipeline]:
    """Compile a classify with one entry, before a peer."""
    return lambda text: compile_files(write(t0_classify=entry(text), t1_peer=PEER))


def test_an_entry_compiles(compile_one: Callable[[str], Pipeline]) -> None:
    pipeline = compile_one(
        "one(vni):\n  table=classify priority=9,metadata={vni}\n  actions=goto_table:peer"
    )
    flow = pipeline.flows["classify.one"]
    assert flow.text == "table=0 priority=9,metadata={vni} actions=goto_table:1"
    assert pipeline.tables == ((0, "classify"), (1, "peer"))


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ("table=peer priority=1|actions=drop", "a flow of this file begins with `table=classify `"),
        ("priority=1|actions=drop", "a flow of this file begins with `table=classify `"),
        ("table=classify priority=1|actions=goto_table:peers", "goto_table:peers: there is no"),
        ("table=classify priority=1|actions=goto_table:classify", "goto_table:classify leads back"),
        ("table=classify priority=1|actions=goto_table:1", "goto_table:1: there is no such table"),
        (
            "table=classify tun_id=1|actions=drop",
            "one cannot be encoded: a flow without a priority",
        ),
        ("table=classify priority=70000|actions=drop", "one cannot be encoded: "),
        ("table=classify priority=1", "one cannot be encoded: "),
        ("table=classify priority=1,reg9=1|actions=drop", "one cannot be encoded: match on reg9"),
        ("table=classify priority=1,colour=1|actions=drop", "one cannot be encoded: "),
        ("table=classify priority=1,tun_src=10.0.0|actions=drop", "one cannot be encoded: "),
        ("table=classify priority=1,in_port=eth0|actions=drop", "one cannot be encoded: "),
        ("table=classify priority=1|actions=normal", "one cannot be encoded: "),
        ("table=classify priority=1|actions=paint:3", "one cannot be encoded: "),
        (
            "table=classify priority=1|actions=dec_ttl",
            "one cannot be encoded: action dec_ttl",
        ),
        ("table=classify priority=1|actions=set_field:1->colour", "one cannot be encoded: "),
    ],
)
def test_a_flow_that_cannot_be_is_told_with_its_place(
    compile_one: Callable[[str], Pipeline], body: str, mistake: str
) -> None:
    lines = "".join(f"\n  {line}" for line in body.split("|"))
    with pytest.raises(FlowFileError) as told:
        compile_one(f"one():{lines}")
    assert str(told.value).startswith(f"0-classify.flows:4: {mistake}")


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("  bucket=actions=output:{port}", "  output:{port}", "a group has one `bucket=actions=…`"),
        ("type=all", "type=select", "groups are `group_id={…},type=all` so far"),
        ("output:{port}", "output:{port},paint:3", "local cannot be encoded: "),
    ],
)
def test_a_group_that_cannot_be_is_told_with_its_place(
    write: Write, old: str, new: str, mistake: str
) -> None:
    files = write(groups=GROUPS.replace(old, new))
    with pytest.raises(FlowFileError) as told:
        compile_files(files)
    assert str(told.value).startswith(f"groups.flows:4: {mistake}")


def test_the_shipped_files_all_say_why() -> None:
    for file in read_flows():
        assert file.question
        assert all(entry.why for entry in file.entries)
