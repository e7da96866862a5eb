"""The sums of an arm's evaluations on disk, so that no evaluation is repeated.

If a resumed run asked again and other sites answered, the difference of the two sums would show their figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.runs.checkpoint import ArmFolder
from fedbus.system.files import read_json, write_json


@dataclass(frozen=True)
class EvaluationSums:
    """The sums in the folder of an arm, by purpose and round."""

    folder: ArmFolder

    def find(self, purpose: str, number: int) -> tuple[NDArray[np.uint64], list[str]] | None:
        """Return the sum of an evaluation and its sites, if there is one.

        Raises:
            RunError: If the file is damaged.
        """
        path = self.folder.path / "sums.json"
        found = read_json(path).get(f"{purpose} {number}") if path.is_file() else None
        if found is None:
            return None
        try:
            return np.array(found["numbers"], dtype=np.int64).view(np.uint64), [str(site) for site in found["sites"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"{path} is damaged ({error}).", f"Delete {path} and rerun with --resume.") from error

    def keep(self, purpose: str, number: int, total: NDArray[np.uint64], sites: Sequence[str]) -> None:
        """Write the sum of an evaluation.

        Raises:
            RunError: If it can't be written.
        """
        path = self.folder.path / "sums.json"
        known = read_json(path) if path.is_file() else {}
        entry = {"numbers": total.view(np.int64).tolist(), "sites": list(sites)}
        write_json(path, known | {f"{purpose} {number}": entry})
