"""Average the classifier by class: a site that lacks a class does not contribute to the class's row.

Surgical aggregation (Kulkarni, Kanhere, Yi and Parekh, 2024) does the same for sites with different sets of classes.
"""

from collections.abc import Collection, Mapping

import torch

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError
from fedbus.models.build import build_model, classifier_names
from fedbus.models.state import State


def classifier_arrays(model: str) -> tuple[str, ...]:
    """Return the names of the arrays of a timm model's classifier, which have one row per class.

    Raises:
        SettingsError: If timm does not name the model's classifier.
    """
    built = build_model(model)
    modules = classifier_names(built)
    shapes = {name: value.shape for name, value in built.state_dict().items()}
    names = tuple(f"{module}.{part}" for module in modules for part in ("weight", "bias"))
    found = tuple(name for name in names if name in shapes and shapes[name][0] == len(CLASSES))
    if not found:
        raise SettingsError(f"head: timm does not name the classifier of {model}.", "Use --set head=average.")
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
        names: Names of the classifier's arrays, float32 [3, ...].
        before: The model that was sent; a row stays unchanged if no replying site has its class.
        updates: The models that came back, by site.
        weights: The weights of the sites, above 0.
        classes: The classes of each site, as positions in `CLASSES`.

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
