"""The state of a site between the rounds of a federated training: stored on its own disk, never sent.

    OUT/memory/TITLE[-RUN]/SITE/batch-norm-ROUND.safetensors  optimiser-ROUND.safetensors

Files are named by the round that wrote them, and a round reads only what earlier rounds wrote. When a hub resumes from
a checkpoint and repeats rounds, its sites therefore repeat them from the same state.
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
"""The kinds of state."""

OPTIMISER_ROUNDS = 2
"""Rounds whose optimiser state is kept: a hub that was interrupted repeats its last round."""


@dataclass(frozen=True)
class SiteState:
    """The state of one site in one training."""

    folder: Path

    def save(self, kind: str, round_number: int, tensors: State, rounds: int | None = None) -> None:
        """Write the tensors of a round, and delete those of later rounds, which the hub is repeating.

        Args:
            kind: `BATCH_NORM` or `OPTIMISER`.
            round_number: Round that made them, from 1.
            tensors: Tensors by name, on the CPU, contiguous.
            rounds: Number of latest rounds to keep; None: all.

        Raises:
            RunError: If the file can't be written.
        """
        write_whole(self._path(kind, round_number), lambda temporary: save_file(tensors, temporary))
        written = self._rounds(kind)
        known = [number for number in written if number <= round_number]
        for number in set(written) - set(known if rounds is None else known[-rounds:]):
            self._path(kind, number).unlink(missing_ok=True)

    def load(self, kind: str, round_number: int) -> State:
        """Read the tensors of a round, or of the last round before it if the site missed that round.

        Returns:
            Tensors by name; empty if the site had not taken part in any round by then.

        Raises:
            RunError: If the file is damaged.
        """
        known = [number for number in self._rounds(kind) if number <= round_number]
        if not known:
            return {}
        path = self._path(kind, known[-1])
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise RunError(
                f"{path} is damaged ({error}).",
                "Restore it from a backup, or delete it: the site then continues from an earlier round or the start.",
            ) from error

    def _path(self, kind: str, round_number: int) -> Path:
        return self.folder / f"{kind}-{round_number:05d}.safetensors"

    def _rounds(self, kind: str) -> list[int]:
        """Rounds that have a file, ascending."""
        names = [path.stem.removeprefix(f"{kind}-") for path in self.folder.glob(f"{kind}-*.safetensors")]
        return sorted(int(name) for name in names if name.isdigit())


def state_folder(out: Path, title: str) -> Path:
    """Locate the states of all sites in a training; arguments as in `site_state`."""
    return out / "memory" / title


def forget_optimisers(out: Path, title: str) -> None:
    """Delete the optimisers' states of a training that has ended: twice the model's size for each site and round.

    Args:
        out: As in `site_state`, like the next.
        title: Title of the training.
    """
    for path in state_folder(out, title).glob(f"*/{OPTIMISER}-*.safetensors"):
        path.unlink(missing_ok=True)


def site_state(out: Path, title: str, site: str) -> SiteState:
    """Locate the state of a site in a training.

    Args:
        out: Folder in which the site is prepared; in a simulation the run folder.
        title: Title of the training, one per arm and seed.
        site: Name of the site.
    """
    return SiteState(state_folder(out, title) / site)


def local_batch_norm(out: Path, title: str, site: str, round_number: int) -> State:
    """Read the arrays of BatchNorm that a site kept for itself after a round; they replace the shared model's.

    Args:
        out: Folder in which the site is prepared; in a simulation the run folder.
        title: Title of the training, one per arm and seed.
        site: Name of the site.
        round_number: Round that made the shared model.

    Returns:
        Parameters and running statistics by name, float32; empty if the site keeps none.

    Raises:
        RunError: If the file is damaged.
    """
    return site_state(out, title, site).load(BATCH_NORM, round_number)


def own_model(state: State, policy: str, out: Path, title: str, site: str, round_number: int) -> State:
    """Give the model of a site after a round: the shared model, with the arrays of BatchNorm that the site kept.

    Args:
        state: The shared model.
        policy: The setting `batch-norm`.
        out: Folder in which the site is prepared; in a simulation the run folder.
        title: Title of the training, one per arm and seed.
        site: Name of the site.
        round_number: Round that made the shared model.

    Raises:
        RunError: If the file is damaged.
    """
    own = own_arrays(policy, out, title, site, round_number)
    return state | own if own else state


def own_arrays(policy: str, out: Path, title: str, site: str, round_number: int) -> State:
    """Read what a site has in place of shared arrays, as `local_batch_norm`; empty under a policy that shares all."""
    return local_batch_norm(out, title, site, round_number) if policy in OWN_PARTS else {}
