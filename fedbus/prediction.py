"""What a model answers on a part of a hospital's rows."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from fedbus.evaluation import Predictions
from fedbus.sites import Site
from fedbus.study import Study
from fedbus.training import predict


def predict_part(model: nn.Module, site: Site, part: str, study: Study, present: Tensor | None = None) -> Predictions:
    """Predict one part of one site.

    Args:
        model: a timm classifier on its device.
        site: the hospital.
        part: `train`, `validation` or `test`; `held-out`, where the site has it.
        study: its batch size and precision count.
        present: positions in `CLASSES` that the model may predict; None: all.
    """
    rows = site.parts[part]
    return Predictions(
        labels=site.labels[rows],
        probabilities=predict(model, site.pixels[rows], study, present),
        groups=np.array([f"{site.name}/{group}" for group in site.groups[rows]]),
        sites=np.array([site.name] * len(rows)),
        paths=site.paths[rows],
    )


def join(predictions: Sequence[Predictions]) -> Predictions:
    """Put the answers of one model on several sites' rows together, in the order given."""
    return Predictions(
        *(
            np.concatenate([getattr(each, name) for each in predictions])
            for name in ("labels", "probabilities", "groups", "sites", "paths")
        )
    )
