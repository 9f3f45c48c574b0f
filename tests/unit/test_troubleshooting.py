"""docs/troubleshooting.md quotes what the commands say: no sentence in it that nobody says."""

from __future__ import annotations

import re

import pytest

from tests.support.markdown import CHECKOUT

_SHORT = 12
"""Characters from which on a piece between two gaps is looked up: shorter ones are anywhere."""


def said() -> str:
    """All sentences in the code: literals that go on are joined, what is filled in is a gap."""
    text = "\n".join(path.read_text("utf-8") for path in CHECKOUT.glob("ovs_lwt/**/*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    while (shorter := re.sub(r"\{[^{}]*\}", "…", joined)) != joined:
        joined = shorter
    return joined


def quoted() -> list[str]:
    """What stands between backquotes in the first column of the tables."""
    page = (CHECKOUT / "docs/troubleshooting.md").read_text("utf-8")
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    return [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row)]


@pytest.fixture(scope="module")
def sentences() -> str:
    return said()


@pytest.mark.parametrize("phrase", quoted())
def test_what_is_quoted_is_said(phrase: str, sentences: str) -> None:
    pieces = [piece.strip(" '") for piece in phrase.split("…")]
    missing = [piece for piece in pieces if len(piece) >= _SHORT and piece not in sentences]
    assert not missing


def test_there_is_something_to_look_up() -> None:
    assert len(quoted()) > 30
