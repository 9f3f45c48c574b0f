"""The documentation cannot drift: what it shows exists, and is what the code says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ovs_lwt import cli, model
from ovs_lwt.backends.openflow.flowfiles import flows_folder, read_folder
from ovs_lwt.backends.openflow.framework import INSTALL, RYU
from ovs_lwt.reference import PAGES, tables_page, with_features
from tests.support.markdown import CHECKOUT, blocks, commands, pages

README = (CHECKOUT / "README.md").read_text("utf-8")

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_INLINE = re.compile(r"`(ovs-lwt [^`]+)`")
_MAKE = re.compile(r"\bmake (?P<target>[a-z]+)\b(?= *[`#]| [A-Z]+=|$)", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


each_page = pytest.mark.parametrize(
    "page", pages(), ids=[str(page.relative_to(CHECKOUT)) for page in pages()]
)


def shown(page: str) -> list[str]:
    """The `ovs-lwt` commands of a page's console blocks, ready to be typed."""
    found = [re.split(r" [>|] ", command.line)[0] for command in commands(page)]
    return [line for line in found if line.startswith("ovs-lwt ")]


def told(page: str) -> list[str]:
    """The `ovs-lwt` commands in a page's sentences: parts of commands, placeholders."""
    return _INLINE.findall(" ".join(_CODE.sub("", page).split()))


class TestTheReference:
    @pytest.mark.parametrize("name", PAGES)
    def test_a_generated_page_is_what_the_code_says(self, name: str) -> None:
        page = (CHECKOUT / f"docs/{name}.md").read_text("utf-8")
        assert page == PAGES[name](), f"docs/{name}.md has drifted: run `make docs`"

    def test_the_schema_that_ships_is_what_the_code_says(self) -> None:
        shipped = json.loads((CHECKOUT / "docs/overlay.schema.json").read_text("utf-8"))
        assert shipped == model.Overlay.model_json_schema(), "it has drifted: run `make docs`"

    def test_the_tables_page_shows_a_changed_flow(self, tmp_path: Path) -> None:
        for file in flows_folder().iterdir():
            text = file.read_text("utf-8").replace(
                "table=peer priority=100,", "table=peer priority=9,"
            )
            (tmp_path / file.name).write_text(text, "utf-8")
        assert tables_page(read_folder(tmp_path)) != tables_page()

    def test_every_table_and_every_way_between_tables_is_drawn(self) -> None:
        (diagram,) = blocks(tables_page(), "mermaid")
        for file in flows_folder().iterdir():
            number, _, name = file.name.removesuffix(".flows").partition("-")
            if name:
                assert f'{name}["{number} {name}"]' in diagram
                for target in re.findall(r"goto_table:(\w+)", file.read_text("utf-8")):
                    assert f"{name} --> {target}" in diagram

    def test_every_key_of_the_overlay_is_listed(self) -> None:
        page = PAGES["overlay"]()
        for part in (model.Overlay, model.Underlay, model.Vtep, model.Tenant, model.Endpoint):
            for key in part.model_fields:
                assert f"| `{key}`" in page


class TestCommands:
    @each_page
    def test_a_command_that_is_shown_can_be_typed(self, page: Path) -> None:
        for line in shown(page.read_text("utf-8")):
            words = shlex.split(line)[1:]
            if words[0] == "manager":
                check_options(line, words[1:], manager_options())
                continue
            command, rest = find_command(line, words)
            assert not hasattr(command, "commands"), f"`{line}`: which of its commands?"
            # Parses the words and runs nothing; raises if they are not what the command takes.
            command.make_context(command.name, rest)

    @each_page
    def test_a_command_that_is_spoken_of_exists(self, page: Path) -> None:
        for line in told(page.read_text("utf-8")):
            words = line.split()[1:]
            if words[0] == "manager":
                check_options(line, words[1:], manager_options())
                continue
            command, rest = find_command(line, words)
            ours = rest[: rest.index("--")] if "--" in rest else rest
            check_options(line, ours, {name for part in command.params for name in part.opts})

    @each_page
    def test_what_make_is_told_to_do_it_can(self, page: Path) -> None:
        targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
        known = {found["target"] for found in _MAKE.finditer(page.read_text("utf-8"))}
        assert known <= targets

    def test_ryu_is_installed_as_the_program_itself_says(self) -> None:
        assert INSTALL[RYU] in [command.line for command in commands(README)]


class TestReadme:
    def test_its_overlay_is_valid_and_said_to_be_so(self, tmp_path: Path) -> None:
        (overlay,) = blocks(README, "yaml")
        (printed,) = (c.shown for c in commands(README) if c.line.startswith("ovs-lwt validate"))

        assert validate(tmp_path, overlay) == (0, list(printed))

    def test_its_mistakes_are_told_as_it_shows_them(self, tmp_path: Path) -> None:
        (overlay,) = blocks(README, "yaml")
        wrong = overlay.replace("vni: 1010", "vni: 17000000").replace("10.0.0.12/24", "10.0.0.12")

        (listed,) = (text for text in blocks(README, "text") if text.startswith("overlay.yaml:"))
        assert validate(tmp_path, wrong) == (2, listed.splitlines())

    def test_its_feature_table_is_what_the_planes_are_held_to(self) -> None:
        assert with_features(README) == README, "README.md has drifted: run `make docs`"

    def test_the_files_it_lists_are_there(self) -> None:
        (layout,) = (text for text in blocks(README, "text") if text.startswith("flows/"))
        listed = [line.split()[0] for line in layout.splitlines()]
        assert [name for name in listed if not (CHECKOUT / name).exists()] == []


class TestPages:
    @each_page
    def test_links_lead_somewhere(self, page: Path) -> None:
        for found in _LINK.finditer(_CODE.sub("", page.read_text("utf-8"))):
            target, _, anchor = found["target"].partition("#")
            if "://" in target:
                continue
            file = (page.parent / target) if target else page
            assert file.exists(), f"{page.name}: {found['target']}"
            if anchor:
                assert anchor in anchors(file), f"{page.name}: {found['target']}"

    @each_page
    def test_a_quoted_flow_is_the_flow(self, page: Path) -> None:
        for quoted in blocks(page.read_text("utf-8"), "flows"):
            assert quoted in all_flows(), f"{page.name} quotes what no file says:\n{quoted}"

    def test_every_decision_is_in_the_index(self) -> None:
        folder = CHECKOUT / "docs/adr"
        index = (folder / "README.md").read_text("utf-8")
        decisions = {file.name for file in folder.glob("0*.md")}
        assert {found["target"] for found in _LINK.finditer(index)} == decisions


def find_command(line: str, words: list[str]) -> tuple[Any, list[str]]:
    """The command (or group of commands) that `words` begin with, and the words left."""
    command: Any = typer.main.get_command(cli.app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"`{line}`: there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def check_options(line: str, words: list[str], known: set[str]) -> None:
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"`{line}`: there is no option {word}"


@cache
def manager_options() -> set[str]:
    """The options that `ovs-lwt manager ovs_lwt.app` knows."""
    command = [sys.executable, "-m", "ovs_lwt.cli", "manager", "ovs_lwt.app", "--help"]
    return set(re.findall(r"--[a-z][\w-]*", run(command, CHECKOUT).stdout))


def validate(folder: Path, overlay: str) -> tuple[int, list[str]]:
    """Exit status and printed lines of `ovs-lwt validate overlay.yaml`."""
    (folder / "overlay.yaml").write_text(overlay, "utf-8")
    done = run([sys.executable, "-m", "ovs_lwt.cli", "validate", "overlay.yaml"], folder)
    return done.returncode, [*done.stdout.splitlines(), *done.stderr.splitlines()]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@cache
def all_flows() -> str:
    return "\n".join(file.read_text("utf-8") for file in flows_folder().iterdir())


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = (found["text"].lower() for found in _HEADING.finditer(page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
