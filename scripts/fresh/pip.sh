#!/bin/sh
# Give a bare root the settings of this machine's pip: fresh/pip.sh PYTHON ROOT
#
# They become the root's /etc/pip.conf. Files of this machine that they name (certificates) are copied
# to a place where no package of the root writes; folders (an index on disk) are listed in ROOT/binds,
# to be mounted.
set -eu
exec "$1" - "$2" <<'END'
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

root = Path(sys.argv[1])
# Which versions are asked for is set-up's business, and a cache would hide what a newcomer fetches.
OWN = {"constraint", "build-constraint", "cache-dir", "require-virtualenv", "user"}

said = subprocess.run(
    [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
)
settings: dict[str, str] = {}
for line in said.stdout.splitlines():
    # The environment's settings come last, and win, as they do for pip.
    name, _, value = line.partition("=")
    section, _, key = name.rpartition(".")
    if section in ("global", "install", ":env:") and key not in OWN:
        settings[key] = value.strip("'\"").replace("\\n", "\n")

binds: list[str] = []


def there(word: str) -> str:
    """Return the word of a setting as it reads in the root."""
    parts = urlsplit(word)
    path = Path(unquote(parts.path) if parts.scheme == "file" else word)
    if parts.scheme not in ("", "file") or not path.is_absolute() or not path.exists():
        return word
    if path.is_file():
        copy = Path("/etc/machine", path.name)
        (root / "etc/machine").mkdir(exist_ok=True)
        shutil.copy(path, root / copy.relative_to("/"))
        return str(copy)
    # An index keeps its files beside its pages.
    folder = path.parent if path.name == "simple" else path
    (root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
    binds.append(str(folder))
    return word


listed = "".join(
    f"{key} = {' '.join(there(word) for word in value.split())}\n"
    for key, value in settings.items()
)
(root / "etc/pip.conf").write_text(f"[global]\n{listed}", "utf-8")
(root / "binds").write_text("".join(f"{path}\n" for path in binds), "utf-8")
END
