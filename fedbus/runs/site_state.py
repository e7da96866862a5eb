"""What a site remembers between the rounds of a federated training: on its own disk, never sent.

OUT/memory/TITLE[-RUN]/SITE/batch-norm-ROUND.safetensors  optimiser-ROUND.safetensors

Files go by the round that made them, and a round reads only what earlier rounds wrote: when a hub goes back to its
checkpoint, its sites go back with it.
"""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fedbus.errors import RunError
from fedbus.models.batch_norm import OWN_PARTS
from fedbus.models.state import State
from fedbus.system.files import write_whole

BATCH_NORM, OPTIMISER = "batch-norm", "optimiser"
"""What there is to remember."""

KEPT_OPTIMISERS = 2
"""Rounds of optimiser state that are kept: a hub that was cut asks for its last round once more."""


@dataclass(frozen=True)
class SiteMemory:
    """The memory of one site in one training."""

    folder: Path

    def keep(self, what: str, round_number: int, tensors: State, rounds: int | None = None) -> None:
        """Remember tensors of a round, and forget what later rounds wrote before the hub went back.

        Args:
            what: `BATCH_NORM` or `OPTIMISER`.
            round_number: the round that made them, from 1.
            tensors: by name, on the CPU, contiguous.
            rounds: the newest so many are kept; None: all.

        Raises:
            RunError: the disk is full or the folder can't be written.
        """
        write_whole(self._path(what, round_number), lambda temporary: save_file(tensors, temporary))
        written = self._rounds(what)
        known = [number for number in written if number <= round_number]
        for number in set(written) - set(known if rounds is None else known[-rounds:]):
            self._path(what, number).unlink(missing_ok=True)

    def recall(self, what: str, round_number: int) -> State:
        """What the site knew after a round: the round's own tensors, or the last before, if it missed that round.

        Returns:
            Tensors by name; none for a site that took part in no round until then.

        Raises:
            RunError: the file is damaged.
        """
        known = [number for number in self._rounds(what) if number <= round_number]
        if not known:
            return {}
        path = self._path(what, known[-1])
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise RunError(
                f"{path} is damaged ({error}).",
                "Bring it back from a copy, or delete it: the site then goes on from what it kept before, or afresh.",
            ) from error

    def _path(self, what: str, round_number: int) -> Path:
        return self.folder / f"{what}-{round_number:05d}.safetensors"

    def _rounds(self, what: str) -> list[int]:
        """Rounds of which there is a file, ascending."""
        names = [path.stem.removeprefix(f"{what}-") for path in self.folder.glob(f"{what}-*.safetensors")]
        return sorted(int(name) for name in names if name.isdigit())


def site_memory(out: Path, title: str, site: str) -> SiteMemory:
    """The memory of a site in a training.

    Args:
        out: the folder in which the site is prepared.
        title: the training's, one for each arm and seed.
        site: its name.
    """
    return SiteMemory(out / "memory" / title / site)


def local_state(out: Path, title: str, site: str, round_number: int) -> State:
    """The BatchNorm that a site had of its own after a round, to be put in place of the shared model's.

    Args:
        out: the folder in which the site is prepared; in a simulation the run folder.
        title: the training's, one for each arm and seed.
        site: its name.
        round_number: the round that made the shared model.

    Returns:
        Parameters and running statistics by name, float32; none where the site keeps none of its own.

    Raises:
        RunError: the file is damaged.
    """
    return site_memory(out, title, site).recall(BATCH_NORM, round_number)


def own_model(state: State, policy: str, out: Path, title: str, site: str, round_number: int) -> State:
    """The shared model of a round as a site has it: with what of BatchNorm was the site's own in that round.

    Args:
        state: the shared model.
        policy: the study's `batch-norm`.
        out: the folder in which the site is prepared; in a simulation the run folder.
        title: the training's, one for each arm and seed.
        site: its name.
        round_number: the round that made the shared model.

    Raises:
        RunError: the file is damaged.
    """
    return state | local_state(out, title, site, round_number) if policy in OWN_PARTS else state
