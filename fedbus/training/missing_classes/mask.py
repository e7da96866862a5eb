"""Cross-entropy over the classes that a holder has (`missing-classes = "mask"`).

The restricted softmax of FedRS (Li and Zhan, "FedRS: Federated Learning with Restricted Softmax for Label Distribution
Non-IID Data", KDD 2021) taken to its end: there the logits of missing classes are scaled down, here they are left out.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.training.losses import Criterion

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings
    from fedbus.training.rows import TrainingRows


class Mask(Criterion):
    """Leave the logits of missing classes out of the softmax: they get no gradient, and no share of the smoothing.

    Attributes:
        columns: int64 [K], the classes that the holder has.
        place: int64 [3], where each class stands in `columns`; -1: nowhere.
        weights: float32 [K].
    """

    def __init__(self, model: nn.Module, rows: "TrainingRows", settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.columns = rows.present
        self.place = torch.full_like(rows.class_weights, -1, dtype=torch.int64)
        self.place[self.columns] = torch.arange(len(self.columns), device=self.columns.device)
        self.weights = rows.class_weights[self.columns]

    def __call__(self, logits: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        """As for `Criterion`, over the classes that the holder has."""
        return super().__call__(logits[:, self.columns], self.place[labels], pictures)
