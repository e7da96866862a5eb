"""One round of training at a site: the part of a site's work that needs no messages."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.optim import Optimizer

from fedbus.evaluation.validation import Score, score_split
from fedbus.models.batch_norm import OWN_PARTS, own_names
from fedbus.models.state import State, get_state, set_state
from fedbus.privacy.ledger import Ledger
from fedbus.privacy.plan import make_plan
from fedbus.privacy.release import release_digest, release_key, simulated_secret
from fedbus.runs.site_state import BATCH_NORM, OPTIMISER, OPTIMISER_ROUNDS, SiteState
from fedbus.sites.site import Site
from fedbus.system.progress import Progress
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser, optimiser_tensors, restore_optimiser
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


def train_site(
    model: nn.Module,
    site: Site,
    rows: TrainingRows,
    memory: SiteState,
    received: State,
    settings: "Settings",
    *,
    seed: int,
    round_number: int,
    present: Tensor | None,
    proximal_mu: float,
    released: Path,
    progress: Progress = lambda _: None,
    deployed: bool = False,
) -> tuple[State, Score, float]:
    """Score the received model on the validation rows, then train it for one round.

    The optimiser is reset each round, since its weights have been averaged, unless `optimiser-state` is `kept`.
    BatchNorm arrays that are the site's own replace the received ones, which are sent back unchanged.

    Args:
        model: A model on the device of `rows`; its weights are replaced.
        site: The site.
        rows: Its training rows.
        memory: Where it stores what later rounds need.
        received: The shared model.
        settings: Settings of the comparison.
        seed: The training seed.
        round_number: Number of the round, from 1.
        present: The classes that the model may predict; None: all.
        proximal_mu: FedProx's mu, 0 for every other strategy.
        released: Where it records what it has released with differential privacy.
        progress: Called after every optimiser step, as in `train_round`.
        deployed: Whether the site is a hospital's, whose noise must not be predictable for others.

    Returns:
        The update, the score of the received model, and the mean training loss; 0 if that would not be private.

    Raises:
        FedbusError: If the loss is not finite, a file is damaged or can't be written, or a budget would be exceeded.
    """
    previous = round_number - 1
    own = memory.load(BATCH_NORM, previous) if settings.batch_norm in OWN_PARTS else {}
    set_state(model, received | own)
    score = score_split(model, site, "validation", settings, present)
    optimiser = make_optimiser(model, settings)
    if settings.optimiser_state == "kept":
        restore_optimiser(optimiser, memory.load(OPTIMISER, previous))
    loss = _train_round(
        model, rows, settings, optimiser, received, seed=seed, round_number=round_number,
        proximal_mu=proximal_mu, released=released, progress=progress, deployed=deployed,
    )  # fmt: skip
    trained = get_state(model)
    if settings.optimiser_state == "kept":
        memory.save(OPTIMISER, round_number, optimiser_tensors(optimiser), OPTIMISER_ROUNDS)
    if names := own_names(settings.batch_norm, trained):
        memory.save(BATCH_NORM, round_number, {name: trained[name] for name in names})
        trained |= {name: received[name] for name in names}
    return trained, score, loss


def _train_round(
    model: nn.Module,
    rows: TrainingRows,
    settings: "Settings",
    optimiser: Optimizer,
    received: State,
    *,
    seed: int,
    round_number: int,
    proximal_mu: float,
    released: Path,
    progress: Progress,
    deployed: bool,
) -> float:
    """Train one round, with differential privacy once the site's ledger has it: arguments as in `train_site`."""
    if not settings.dp_epsilon:
        return train_round(
            model, rows, settings, seed=seed, round_number=round_number, steps=rows.steps_per_round(settings),
            optimiser=optimiser, proximal_mu=proximal_mu, progress=progress,
        )  # fmt: skip
    from fedbus.privacy.dp_sgd import train_private_round  # imports Opacus

    plan = make_plan(rows, settings)
    ledger = Ledger.open(released, plan, deployed=deployed)
    digest = release_digest(
        received, optimiser_tensors(optimiser), rows, settings,
        seed=seed, round_number=round_number, steps=plan.steps, proximal_mu=proximal_mu,
    )  # fmt: skip
    ledger.spend(digest)
    train_private_round(
        model, rows, settings, plan, key=release_key(ledger.secret or simulated_secret(seed), digest),
        seed=seed, round_number=round_number, optimiser=optimiser, proximal_mu=proximal_mu, progress=progress,
    )  # fmt: skip
    return 0.0
