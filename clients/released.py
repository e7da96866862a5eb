"""Where a site records what it has released of a training: sums that it has unmasked, and epsilon that it has spent.

    SITE/released/DIGEST/            at a deployed site, by the digest of settings, arm and seed
    WORK/memory/TITLE[-RUN]/SITE/    in a simulation, beside the site's state

A deployed site does not use the second, because the hub chooses title and run: another title would be another record,
and with many titles a hub could have the first record removed.
"""

from pathlib import Path

from clients.workspace import Workspace
from fedbus.runs.site_state import site_state
from fedbus.transport.messages import Instruction
from fedbus.transport.study import training_digest


def released_folder(workspace: Workspace, instruction: Instruction) -> Path:
    """Return the folder of the training that an instruction belongs to; it may not exist yet."""
    if workspace.released is None:
        return site_state(workspace.folder, instruction.memory, workspace.name).folder
    return workspace.released / training_digest(instruction)
