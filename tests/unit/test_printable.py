"""Text from outside: whatever it holds, it makes no line of its own and drives no terminal."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_lwt.findings import warn
from ovs_lwt.mistakes import Mistake, Refused
from ovs_lwt.ops import check
from ovs_lwt.printable import printable

FORGED = "\n2026-01-01 00:00:00,000 INFO    ovs_lwt: in sync\x1b[2J"
SHOWN = r"\n2026-01-01 00:00:00,000 INFO    ovs_lwt: in sync\x1b[2J"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a handler writes that knows nothing of us, as a framework's does."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield out
    logging.getLogger().removeHandler(handler)


@given(st.text())
def test_it_is_one_line_that_can_be_seen(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert not text.isprintable() or shown == text


@pytest.mark.parametrize("char", "\n\r\x0b\x1b\x85\u2028\u2029\u202e\x9b\ud800")
def test_what_moves_a_cursor_ends_a_line_or_turns_text_round(char: str) -> None:
    assert printable(f"a{char}b").startswith("a\\")


@pytest.mark.parametrize("name", ["ovs_lwt", "ovs_lwt.any.module"])
def test_a_record_of_ours_is_one_line(log: io.StringIO, name: str) -> None:
    logging.getLogger(name).warning("port %s: claims '%s'", "p1", f"blue{FORGED}")
    assert log.getvalue() == f"WARNING {name}: port p1: claims 'blue{SHOWN}'\n"


def test_and_so_is_each_line_of_a_traceback(log: io.StringIO) -> None:
    try:
        raise KeyError(FORGED) from ValueError(FORGED)
    except KeyError:
        logging.getLogger("ovs_lwt").exception("unexpected; going on")
    first, *others = log.getvalue().splitlines()
    assert first == "ERROR ovs_lwt: unexpected; going on"
    assert others
    assert all(line.startswith("  | ") for line in others)


def test_the_log_of_an_app_beside_ours_is_its_own(log: io.StringIO) -> None:
    logging.getLogger("ovs_lwtx").warning("two\nlines")
    assert log.getvalue() == "WARNING ovs_lwtx: two\nlines\n"


def test_refusals_and_mistakes() -> None:
    assert str(Refused(f"no tenant '{FORGED}'")) == f"no tenant '{SHOWN}'"
    assert str(Refused("several", f"lines{FORGED}")) == f"several\nlines{SHOWN}"
    assert str(Mistake(f"a{FORGED}.yaml:1", "x", f"y{FORGED}")) == f"a{SHOWN}.yaml:1: x: y{SHOWN}"


def test_what_a_check_prints() -> None:
    out = io.StringIO()
    check.show({"host1": [warn("port", f"p{FORGED}", "mend")]}, out, as_json=False)
    assert out.getvalue() == f"warn  port  p{SHOWN} → mend\n"
