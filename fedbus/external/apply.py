"""Predict all tested images of an outside dataset with every model."""

from collections.abc import Sequence

from fedbus.evaluation.predictions import Predictions
from fedbus.external.dataset import OutsideDataset, view_of
from fedbus.external.models import GivenModel
from fedbus.model_folder.apply import open_model
from fedbus.system.progress import Progress


def predict_outside(
    dataset: OutsideDataset,
    models: Sequence[GivenModel],
    tested: Sequence[int],
    site: str | None,
    progress: Progress,
) -> dict[str, list[Predictions]]:
    """Predict the tested rows with every model, before calibration.

    Args:
        dataset: The dataset.
        models: The models.
        tested: The tested rows; statistics of BatchNorm are estimated from these, where a model needs them.
        site: The site as which the models are applied, or None.
        progress: Called with the number of images of every batch.

    Returns:
        By model, the predictions of each seed.

    Raises:
        RunError, WeightsError: As `open_model`.
    """
    found: dict[str, list[Predictions]] = {}
    for model in models:
        for folder in model.seeds:
            images = dataset.images[view_of(folder.facts)][list(tested)]
            applied = open_model(folder, site, images)
            found.setdefault(model.name, []).append(dataset.rows(tested, applied.predict(images, progress)))
    return found
