"""What the sites of a deployed run reported about their data, in the run folder: counts only."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbus.errors import RunError
from fedbus.runs.old_names import rename_old_site_facts
from fedbus.system.files import read_json, write_json
from server.hub.renamed_files import existing_file, remove_old_file

if TYPE_CHECKING:
    from server.rounds.messaging import Participants  # imports Flower, which reading does not need

REGISTRATIONS_FILE = "registrations.json"

_OLD_NAME = "sites.json"


def record_registrations(out: Path, participants: "Participants") -> None:
    """Write the registrations of a run's sites; a resumed run must have the same sites with the same counts.

    With other sites or counts, the scores would be of other rows than those that chose the best round.

    Raises:
        RunError: If the sites or their counts have changed since the run was started.
    """
    # Through JSON, so that they compare equal to what is read back: tuples become lists.
    found = {
        registration.site: json.loads(json.dumps(asdict(registration)))
        for registration in participants.registrations.values()
    }
    path = out / REGISTRATIONS_FILE
    before = read_registrations(out) if existing_file(path, _OLD_NAME).is_file() else found
    if before.keys() != found.keys():
        raise RunError(
            f"{', '.join(sorted(before.keys() ^ found.keys()))}: {out} was started with {', '.join(sorted(before))}, "
            f"and now {', '.join(sorted(found))} take part.",
            "Resume with the same sites, or choose another --out.",
        )
    changed = sorted(name for name in before if before[name] != found[name])
    if changed:
        raise RunError(
            f"{', '.join(changed)}: the number of images has changed since {out} was started.",
            "Restore the former images there, or choose another --out.",
        )
    write_json(path, dict(sorted(found.items())))
    remove_old_file(path, _OLD_NAME)


def read_registrations(out: Path) -> dict[str, Any]:
    """Read the registrations of a run's sites, by name; those of version 0.1 are returned with their present keys.

    Raises:
        RunError: If the file is missing or damaged.
    """
    return rename_old_site_facts(read_json(existing_file(out / REGISTRATIONS_FILE, _OLD_NAME)))
