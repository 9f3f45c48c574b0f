"""What was made is on record before it is made: ``lab.json`` in the lab's directory."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ovs_lwt.lab.plan import LABS, RECORD, LabPlan, check_name
from ovs_lwt.mistakes import Refused, listing, suggestion

# That of a lab in a machine of its own: `ovs_lwt.lab.boxed`.
MACHINE_RECORD = "machine.json"
_PLAN = TypeAdapter(LabPlan)


def record(plan: LabPlan) -> None:
    """Write `plan` to disk and so take its name; raise `Refused` if a lab has it already."""
    reserve(plan.directory, RECORD, _PLAN.dump_json(plan, indent=2))


def reserve(directory: Path, file: str, text: bytes) -> None:
    """Make the directory of a lab, with `text` in `file`; raise `Refused` if there is one.

    The directory is made exclusively, so that of two ``up`` at one moment one is refused.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir()
    except FileExistsError:
        raise Refused(
            f"a lab called '{directory.name}' is up already: take it down with"
            f" 'ovs-lwt lab down --name {directory.name}', or give this one another --name"
        ) from None
    # Renamed into place: `down` finds a whole record or none.
    new = directory / f"{file}.new"
    new.write_bytes(text)
    new.rename(directory / file)


def load(name: str, labs: Path = LABS) -> LabPlan | None:
    """Return the plan of the lab called `name`, or None if there is no such lab."""
    check_name(name)
    path = labs / name / RECORD
    try:
        return _PLAN.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Refused(
            f"{path} is not a lab's record ({error.error_count()} things wrong with it): another"
            " version of ovs-lwt may have written it; take that lab down with that version"
        ) from None


def need(name: str, labs: Path = LABS) -> LabPlan:
    """Return the plan of the lab called `name`; raise `Refused` if there is no such lab."""
    plan = load(name, labs)
    if plan is None:
        up = names(labs)
        option = "" if name == "lab" else f" --name {name}"
        raise Refused(
            f"no lab called '{name}' is up{suggestion(name, up)} (up: {listing(up)}):"
            f" bring one up with 'ovs-lwt lab up overlay.yaml{option}'"
        )
    return plan


def names(labs: Path = LABS) -> list[str]:
    """Return the names of all labs on record."""
    records = (*labs.glob(f"*/{RECORD}"), *labs.glob(f"*/{MACHINE_RECORD}"))
    return sorted(path.parent.name for path in records)


def forget(name: str, labs: Path = LABS) -> bool:
    """Remove the lab's directory and all in it; say whether there was one."""
    directory = labs / name
    if not directory.is_dir():
        return False
    shutil.rmtree(directory)
    return True
