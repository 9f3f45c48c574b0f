"""What a benchmark says of its figures, and when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import results
from bench.results import Row


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Figures of tests are not those of the machine."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return tmp_path


def test_a_ratio_must_not_pass_its_bar() -> None:
    assert Row.compare("a start", 10, "s", 7, 10, 0.7).holds is True
    assert Row.compare("a start", 10, "s", 7.1, 10, 0.7).holds is False


def test_where_there_is_no_peer_the_figure_itself_must_not_pass_the_bar() -> None:
    row = Row.limit("a change", 10, "ms", 4.1, 5.0)
    assert (row.ours, row.theirs, row.ratio, row.bar, row.holds) == (4.1, None, None, 5.0, True)
    assert Row.limit("a change", 10, "ms", 5.1, 5.0).holds is False
    assert Row.limit("lost", 10, "pings", 0, 0).holds is True


def test_what_is_only_stated_neither_holds_nor_fails() -> None:
    row = Row.state("memory", 10, "bytes", 700)
    assert (row.theirs, row.ratio, row.bar, row.holds) == (None, None, None, None)
    assert Row.state("flows", 10, "flows", 5, 10).ratio == 0.5
    assert Row.compare("a start", 10, "s", 9, 10, 0.7).without_bar().holds is None


def test_the_status_says_whether_all_bars_hold(capsys: pytest.CaptureFixture[str]) -> None:
    holds, stated = Row.limit("a change", 10, "ms", 4, 5), Row.state("memory", 10, "bytes", 700)
    assert results.report("some", [holds, stated]) == 0
    assert results.report("some", [holds, Row.limit("lost", 10, "pings", 1, 0)]) == 1
    assert "NO" in capsys.readouterr().out


def test_figures_are_kept_for_others_to_read(folder: Path) -> None:
    results.report("some", [Row.state("memory", 10, "bytes", 700)])
    assert (folder / "some.json").read_text().split() == [
        *("[", "{", '"name":', '"memory",', '"size":', "10,", '"unit":', '"bytes",'),
        *('"ours":', "700,", '"theirs":', "null,", '"ratio":', "null,", '"bar":', "null,"),
        *('"holds":', "null", "}", "]"),
    ]
