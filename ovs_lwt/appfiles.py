"""Find and import the modules of Ryu apps, named as on ryu-manager's command line.

An app is named by its module (``ovs_lwt.app``) or by its file (``./app.py``).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ovs_lwt.mistakes import Refused


def import_candidates(words: Sequence[str]) -> None:
    """Import what may be an app among the words of a command line, so that it adds its options.

    Which words are apps is only known once every option is, and that only once the apps are
    imported. So a word that can be imported is, even if it turns out to be an option's value;
    Python's own modules are not. Raises `Refused` if a word that must be an app cannot be.
    """
    for name, certain in _candidates(words):
        if certain or _importable(name):
            try:
                import_app(name)
            except Refused:
                if certain:
                    raise


def import_app(name: str) -> str:
    """Import the app `name` once, and return its module's name. Raises `Refused` if it cannot."""
    if name.endswith(".py") or "/" in name:
        return _import_file(Path(name))
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise Refused(_cannot(name, error)) from error
    return name


def _candidates(words: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield words that may name an app, and whether they must: what no option stands before."""
    before = ""
    for word in words:
        if not word.startswith("-"):
            for name in filter(None, word.split(",")):
                yield name, not before.startswith("-") or "=" in before
        elif word.startswith("--app-lists="):
            for name in filter(None, word.partition("=")[2].split(",")):
                yield name, True
        before = word


def _importable(name: str) -> bool:
    if name.endswith(".py"):
        return Path(name).is_file()
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names or not all(map(str.isidentifier, parts)):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _import_file(path: Path) -> str:
    """Import a file as the module called like it, as ryu-manager does; its folder is on the way."""
    file = path.resolve()
    name = file.stem
    loaded = sys.modules.get(name)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(file):
            return name
        raise Refused(f"{path} cannot be loaded: a module '{name}' is already there; rename it")
    spec = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise Refused(f"there is no app file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise Refused(_cannot(str(path), error)) from error
    finally:
        sys.path.remove(str(file.parent))
    return name


def _cannot(name: str, error: ImportError) -> str:
    missing = (error.name or "").partition(".")[0]
    if missing in ("os_ken", "ryu"):
        other = {"os_ken": "os-ken", "ryu": "ryu"}[missing]
        return f"{name} cannot be loaded: {error}; it is written for {other}: --framework {other}"
    if name.partition(".")[0] == missing and Path(f"{name}.py").is_file():
        return f"there is no module {name}; for the file here, write {name}.py"
    return f"{name} cannot be loaded: {error}"
