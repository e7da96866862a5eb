"""Cross-entropy over the classes that a site has (`missing-classes = "mask"`).

The restricted softmax of FedRS (Li and Zhan, "FedRS: Federated Learning with Restricted Softmax for Label Distribution
Non-IID Data", KDD 2021) taken to its limit: FedRS scales the logits of missing classes down, `mask` leaves them out.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.training.missing_classes.criterion import ClassRows, Criterion

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class Mask(Criterion):
    """Leave the logits of missing classes out of the softmax: they get no gradient, and no share of the smoothing.

    Attributes:
        columns: int64 [K], the classes that the site has.
        place: int64 [3], the position of each class in `columns`; -1 for a missing class.
        weights: float32 [K].
    """

    def __init__(self, model: nn.Module, rows: ClassRows, settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.columns = rows.present
        self.place = torch.full_like(rows.class_weights, -1, dtype=torch.int64)
        self.place[self.columns] = torch.arange(len(self.columns), device=self.columns.device)
        self.weights = rows.class_weights[self.columns]

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """As `Criterion`, over the classes that the site has."""
        return super().__call__(logits[:, self.columns], self.place[labels], images)
