"""The overlay's files as such: what cannot be read, or is something else, is said so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ovs_lwt.mistakes import Mistake, OverlayInvalid
from ovs_lwt.sources import yaml_places
from ovs_lwt.sources.overlay_file import OverlayFile, load, parse_text
from ovs_lwt.sources.yaml_places import LOADER
from tests.support.mistakes import GOOD, mistakes


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ": is empty: it needs at least 'vteps' and 'tenants'"),
        (b"# nothing yet\n\n", ": is empty: it needs at least 'vteps' and 'tenants'"),
        (b"\x7fELF\x02\x01\x01\0\0", ": is binary, not a YAML text file"),
        (b"\xff\xfev\0t\0e\0p\0s\0", ":1: is not UTF-8 text"),
        (b"vteps:\n  h\xf6st: {}\n", ":2: is not UTF-8 text"),
        (
            b"vteps:\n  a: \x1b[2J\n",
            ":2: holds the control character '\\x1b': this is not a text file",
        ),
        (b"- vteps\n", ":1: takes a mapping (KEY: VALUE lines), not a list"),
        (b"vteps\n", ":1: takes a mapping (KEY: VALUE lines), not 'vteps'"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "overlay.yaml"
    path.write_bytes(content)
    with pytest.raises(OverlayInvalid) as caught:
        load(path)
    assert [str(mistake) for mistake in caught.value.mistakes] == [f"{path}{told}"]


@pytest.mark.parametrize("loader", [LOADER, yaml.SafeLoader], ids=["quick", "plain"])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "[{a: "])
def test_what_is_nested_too_deep_is_said_so_whoever_notices(
    tmp_path: Path, opening: str, loader: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer versions of libyaml have a limit of their own, and words of their own for it."""
    monkeypatch.setattr(yaml_places, "LOADER", loader)
    path = tmp_path / "overlay.yaml"
    for depth in (40, 999, 1_001, 5_000):
        path.write_text(f"vteps:\n  {opening * depth}", "utf-8")
        with pytest.raises(OverlayInvalid) as caught:
            load(path)
        assert [str(mistake) for mistake in caught.value.mistakes] == [
            f"{path}:2: nested more than 32 deep"
        ]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "overlay.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert len(load(path).tenants) == 2


@pytest.mark.parametrize("length", range(len(GOOD) - 330, len(GOOD) - 40, 7))
def test_a_truncated_file_is_noticed_or_whole(length: int) -> None:
    # Cut anywhere in its second half: never anything but mistakes with a place, or an overlay.
    told: tuple[Mistake, ...] = ()
    try:
        parse_text(GOOD[:length])
    except OverlayInvalid as error:
        told = error.mistakes
    assert all(mistake.place.startswith("overlay.yaml:") for mistake in told)


def test_a_cut_says_so() -> None:
    [told] = mistakes(GOOD[: GOOD.index("[10.0.0.12") + 5])
    assert told.startswith("overlay.yaml:12: not YAML: ")
    assert "the file seems to be cut off" in told


def test_a_billion_laughs_are_not_heard() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 30)]
    told = mistakes("\n".join(lines))
    assert "overlay.yaml:1: anchor &a0 is not allowed: write the value itself" in told
    assert len(told) == 101
    assert told[-1] == "overlay.yaml: … and 220 more of this kind: YAML"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, told in (
        (tmp_path / "none.yaml", "cannot be read: no such file or directory"),
        (tmp_path, "is a directory, not a file"),
        (Path("/dev/zero"), "is a device, not a file"),
        (tmp_path / ("x" * 300), "cannot be read: file name too long"),
    ):
        with pytest.raises(OverlayInvalid) as caught:
            load(path)
        assert str(caught.value) == f"{path}: {told}"


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("none.csv", "{csv} cannot be read: no such file or directory"),
        (".", "{csv} is a directory, not a file"),
        ('""', "is empty: name a file or remove the key"),
        ('"a\\0b"', "is not a usable file name"),
        ("[a, b]", "takes text, not a list"),
    ],
)
def test_an_endpoints_file_that_cannot_be_read(tmp_path: Path, named: str, told: str) -> None:
    path = tmp_path / "overlay.yaml"
    path.write_text(GOOD + f"endpoints_file: {named}\n")
    with pytest.raises(OverlayInvalid) as caught:
        load(path)
    line = told.format(csv=tmp_path / named.strip('"'))
    assert str(caught.value) == f"{path}:15: endpoints_file: {line}"


def test_the_file_is_named_as_the_user_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/my.yaml").write_text(GOOD.replace("1020", "0") + "endpoints_file: e.csv\n")
    (tmp_path / "conf/e.csv").write_text("tenant,name,mac,ip,host\nblue,x,,,host1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OverlayInvalid) as caught:
        load(Path("conf/my.yaml"))
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        "conf/my.yaml:14: tenants.red.vni: VNI 0 is outside 1..16777215",
        "conf/e.csv:2: mac: is empty",
    ]


def test_a_source_notices_that_either_file_was_written(tmp_path: Path) -> None:
    path, csv = tmp_path / "overlay.yaml", tmp_path / "endpoints.csv"
    path.write_text(GOOD + "endpoints_file: endpoints.csv\n")
    csv.write_text("tenant,name,mac,ip,host\n")
    source = OverlayFile(path)
    assert len(source.read().endpoints) == 2
    before = source.version()
    assert source.version() == before
    csv.write_text("tenant,name,mac,ip,host\nred,db,02:00:00:00:00:01,,host1\n")
    after = source.version()
    assert after != before
    assert len(source.read().endpoints) == 3
    path.write_text("broken")
    assert source.version() != after
    with pytest.raises(OverlayInvalid):
        source.read()
    # While the overlay is broken, the endpoints file it had is still watched.
    broken = source.version()
    csv.unlink()
    assert source.version() != broken
