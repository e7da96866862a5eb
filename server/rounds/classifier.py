"""The classifier's rows, averaged by class: a site has no say about a class of which it has no image.

Surgical aggregation (Kulkarni, Kanhere, Yi and Parekh 2024) does so for sites with different sets of classes.
"""

from collections.abc import Collection, Mapping

import torch

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError
from fedbus.models.build import build_model, classifier_names
from fedbus.models.state import State


def head_names(model: str) -> tuple[str, ...]:
    """Names of the arrays of a timm model's classifier, which have one row a class.

    Raises:
        SettingsError: timm does not say where the classifier is.
    """
    built = build_model(model)
    modules = classifier_names(built)
    shapes = {name: value.shape for name, value in built.state_dict().items()}
    names = tuple(f"{module}.{part}" for module in modules for part in ("weight", "bias"))
    found = tuple(name for name in names if name in shapes and shapes[name][0] == len(CLASSES))
    if not found:
        raise SettingsError(f"head: the classifier of {model} is not known.", "Leave it out (--set head=average).")
    return found


def average_by_class(
    names: Collection[str],
    before: State,
    updates: Mapping[str, State],
    weights: Mapping[str, float],
    classes: Mapping[str, Collection[int]],
) -> State:
    """Average every row of the classifier over the sites that train on its class.

    Args:
        names: of the classifier's arrays, float32 [3, ...].
        before: the model that was sent; a row whose class no answering site has stays as it was.
        updates: what came back, by site.
        weights: of the sites, above 0.
        classes: positions in `CLASSES` of each site's classes.

    Returns:
        The classifier's arrays by name.
    """
    averaged = {name: before[name].clone() for name in names}
    for row in range(len(CLASSES)):
        sites = [site for site in updates if row in classes[site]]
        total = sum(weights[site] for site in sites)
        for name in names if sites else ():
            rows = torch.stack([updates[site][name][row] * (weights[site] / total) for site in sites])
            averaged[name][row] = rows.sum(0)
    return averaged
