"""Generate the reference pages of `docs/` from what they describe, so that they cannot drift.

    python -m ovs_lwt.reference > docs/tables.md
    python -m ovs_lwt.reference overlay > docs/overlay.md
    python -m ovs_lwt.reference features README.md

`tables.md` is written from `flows/`, `overlay.md` from the model of overlay.yaml, and a part of
README.md from `feature_table`. A test holds them to what is written here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ovs_lwt import feature_table, model
from ovs_lwt.backends.openflow.floods import GROUP_STEP, SHARED_LIST
from ovs_lwt.backends.openflow.flowfiles import Entry, FlowFile, read_flows
from ovs_lwt.backends.openflow.pipeline import COOKIE_OURS, COOKIE_VNI_MASK, pipeline
from ovs_lwt.backends.openflow.slots import KINDS

_GENERATED = "<!-- Written by `make docs`: edit {source} and run it again. -->"
_BODY = re.compile(
    r"table=\w+ priority=(?P<priority>\d+)(?:,(?P<match>\S+))? actions=(?P<actions>\S+)"
)
_GROUP = re.compile(r"group_id=\S+,type=(?P<type>\w+) bucket=actions=(?P<actions>\S+)")

_FEATURES_BEGIN = "<!-- features: written by `make docs` from ovs_lwt/feature_table.py -->"
_FEATURES_END = "<!-- /features -->"

# Where a packet can go that is no table: what the actions say, and the node of the diagram.
_EXITS = {
    "output:{port}": "guests",
    "output:{tunnel}": "tunnel",
    "output:{requests}": "requests",
    "IN_PORT": "asker",
    "controller:": "app",
    "group:{local_flood}": "local_flood",
    "group:{remote_flood}": "remote_flood",
    "group:{share1}": "remote_flood",
    "group:{share}": "remote_flood",
    "group:{ask}": "ask",
    "group:{chain}": "chain",
}
_NODES = {
    "guests": '("a guest")',
    "tunnel": '("shared VXLAN port")',
    "requests": '("request port")',
    "asker": '("back to who asked")',
    "app": '("the app")',
    "local_flood": '{{"group: guests here"}}',
    "remote_flood": '{{"group: other hosts"}}',
    "ask": '{{"group: replicator"}}',
    "chain": '{{"group: other hosts, chained"}}',
}

_ENTRANCES = ("guests", "tunnel", "requests")

_TABLES_INTRO = """\
The pipeline is the folder [`flows/`](../flows): one file per table, its number in the file's name.
This page lists what stands there; [the first packet](first-packet.md) goes through it.
"""

_DIAGRAM_NOTE = """\
A packet that leaves a table by no arrow is dropped. Arrows only lead ahead; replicate also looks
into itself again, for the shares of a list that is wide on the kernel's datapath. Behind classify,
a flow that belongs to one tenant matches the tenant's VNI in `metadata`; the others serve all
tenants.
"""

_OVERLAY_INTRO = """\
Every key. `ovs-lwt schema` prints the same as JSON Schema, for editors that check while one types.
Names have 1 to 63 letters, digits, `.`, `_` or `-`. A key that is not listed here is a mistake.
`ovs-lwt validate` reports all mistakes at once, each with its line, and exits with status 2.

`endpoints_file` is for the many. It may stand beside `endpoints`, and has a line per endpoint:

```csv
tenant,name,mac,ip,host
blue,web3,02:00:00:00:00:03,10.0.0.13/24 fd00::13/64,host2
```
"""


def tables_page(files: Iterable[FlowFile] | None = None) -> str:
    """Return `docs/tables.md`: the pipeline's diagram, its tables and flows, slots, cookies."""
    known = tuple(read_flows() if files is None else files)
    tables = [file for file in known if file.number is not None]
    groups = [file for file in known if file.number is None]
    parts = [
        "# The tables",
        _GENERATED.format(source="flows/*.flows"),
        _TABLES_INTRO.strip(),
        _diagram(tables, groups),
        _DIAGRAM_NOTE.strip(),
        *(_table(file) for file in tables),
        *(_groups(file) for file in groups),
        _slots(),
        _cookies(),
    ]
    return "\n\n".join(parts) + "\n"


def overlay_page() -> str:
    """Return `docs/overlay.md`: every key of overlay.yaml."""
    schema = model.Overlay.model_json_schema()
    places = {"Underlay": "underlay", "Vtep": "vteps.NAME", "Tenant": "tenants.NAME"}
    places["Endpoint"] = "tenants.NAME.endpoints.NAME"
    places["AllowedPair"] = "tenants.NAME.endpoints.NAME.allowed_pairs[]"
    parts = [
        "# overlay.yaml",
        _GENERATED.format(source="ovs_lwt/model.py"),
        _OVERLAY_INTRO.strip(),
        _keys("The file", schema, schema["description"]),
        *(
            _keys(f"`{place}`", schema["$defs"][name], schema["$defs"][name]["description"])
            for name, place in places.items()
        ),
    ]
    return "\n\n".join(parts) + "\n"


def with_features(page: str) -> str:
    """Return `page` with the feature table of today between the marks for it."""
    before, rest = page.split(_FEATURES_BEGIN)
    _, after = rest.split(_FEATURES_END)
    table = feature_table.markdown()
    return f"{before}{_FEATURES_BEGIN}\n{table}\n{_FEATURES_END}{after}"


def _diagram(tables: list[FlowFile], groups: list[FlowFile]) -> str:
    names = {file.name: f"{file.number} {file.name}" for file in tables}
    edges = [(place, "classify") for place in _ENTRANCES]
    for file in tables:
        edges += [(file.name, target) for entry in file.entries for target in _targets(entry)]
    for file in groups:
        for entry in file.entries:
            edges += [(entry.slots[0], target) for target in _targets(entry)]
    # Where packets come in is drawn apart from where they go out, or the arrows would cross.
    lines = ["flowchart LR", *(f'    {name}["{text}"]' for name, text in names.items())]
    lines += [f"    in_{name}{_NODES[name]}" for name in _ENTRANCES]
    lines += [f"    {name}{shape}" for name, shape in _NODES.items()]
    for source, target in dict.fromkeys(edges):
        if source == target:
            continue
        start = f"in_{source}" if source in _ENTRANCES else source
        lines.append(f"    {start} --> {target}")
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def _targets(entry: Entry) -> Iterator[str]:
    actions = entry.text.partition("actions=")[2]
    yield from re.findall(r"(?:goto_table:|resubmit\(,)(\w+)", actions)
    yield from (node for action, node in _EXITS.items() if action in actions)


def _table(file: FlowFile) -> str:
    flows = []
    for entry in file.entries:
        body = _BODY.fullmatch(entry.text)
        assert body is not None, f"{entry.place} has compiled, so it has this form"
        cookie = pipeline().flows[entry.id].cookie
        flows.append(
            [
                body["priority"],
                _named(entry),
                _code(body["match"] or ""),
                _code(body["actions"]),
                _code(f"{cookie >> 32:#x}…"),
            ]
        )
    heading = f"## {file.number}: {file.name}\n\n**{_sentence(file.question)}** {_flat(file.about)}"
    headings = ["priority", "flow", "match", "actions", "cookie"]
    return f"{heading.strip()}\n\n{_rows(headings, flows)}"


def _groups(file: FlowFile) -> str:
    found = []
    for entry in file.entries:
        body = _GROUP.fullmatch(entry.text)
        assert body is not None, f"{entry.place} has compiled, so it has this form"
        found.append([_named(entry), _code(body["type"]), _code(body["actions"])])
    heading = f"## {file.name}: {file.question}\n\n{_flat(file.about)}"
    return f"{heading}\n\n{_rows(['group', 'type', 'each bucket'], found)}"


def _slots() -> str:
    slots = [[_code(f"{{{name}}}"), str(kind.width), kind.says] for name, kind in KINDS.items()]
    return (
        "## Slots\n\nWhat stands in braces differs from row to row; everything else is encoded"
        " once.\n\n" + _rows(["slot", "bytes", "what it is"], slots)
    )


def _cookies() -> str:
    lines = [
        ["63 to 48", _code(f"{COOKIE_OURS >> 48:#x}"), "a flow of ovs-lwt"],
        ["47 to 40", "table", "number of the table"],
        ["39 to 32", "entry", "place of the entry in its file, from 1"],
        ["31 to 24", "0", ""],
        ["23 to 0", "VNI", "the tenant's; 0 for flows that are nobody's"],
    ]
    return (
        "## Cookies and group numbers\n\nA cookie says what a flow is for, and whose it is:\n\n"
        + _rows(["bits", "value", "what it is"], lines)
        + f"\n\n`cookie=VNI/{COOKIE_VNI_MASK:#x}` lists one tenant. A tenant's own group bears its"
        f" VNI; a list of VTEPs bears {SHARED_LIST} plus the lowest VNI that shares it; its other"
        f" groups follow {GROUP_STEP} apart."
    )


def _keys(title: str, schema: Mapping[str, Any], about: str) -> str:
    required = schema.get("required", ())
    keys = [
        [
            f"`{name}`" + (" (required)" if name in required else ""),
            _values(spec),
            _default(spec),
            spec["description"],
        ]
        for name, spec in schema["properties"].items()
    ]
    return f"## {title}\n\n{about}\n\n" + _rows(["key", "value", "default", "what it is"], keys)


def _values(spec: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    if "enum" in spec:
        return " or ".join(map(_code, spec["enum"]))
    if "minimum" in spec:
        return f"{spec['minimum']} to {spec['maximum']}"
    if "format" in spec:
        return {"ipv4": "IPv4", "ipv6": "IPv6"}[spec["format"]] + " address"
    if "anyOf" in spec:
        return " or ".join(dict.fromkeys(filter(None, map(_values, spec["anyOf"]))))
    if "$ref" in spec or "patternProperties" in spec:
        return "see below"
    if spec["type"] == "array":
        return "list"
    return {"string": "text", "boolean": "`true` or `false`", "null": ""}[spec["type"]]


def _default(spec: Mapping[str, Any]) -> str:
    value = spec.get("default")
    if isinstance(value, bool):
        return _code(str(value).lower())
    return _code(str(value)) if value else ""


def _named(entry: Entry) -> str:
    """The entry's name, and why it is there if its file says so."""
    return f"**{entry.name}**: {_flat(entry.why)}" if entry.why else f"**{entry.name}**"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _rows(headings: list[str], rows: Iterable[list[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(headings), line("---" for _ in headings), *map(line, rows)])


PAGES: Mapping[str, Callable[[], str]] = {"tables": tables_page, "overlay": overlay_page}
"""The generated pages of `docs/`: name -> what it should hold."""


def _main(what: str = "tables", *pages: str) -> None:
    if what != "features":
        sys.stdout.write(PAGES[what]())
    for page in map(Path, pages):
        page.write_text(with_features(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
