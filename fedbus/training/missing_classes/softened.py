"""Between masked and plain cross-entropy (`missing-classes = "softened"`).

By the chain rule, the negative log-likelihood of a label y among the classes P that the site has is
-log p(y) = -log p(y | P) - log p(P). The first term is the loss of `mask`, the sum is the loss of `plain`. Here the
second term is multiplied by `missing-strength`. This is an interpolation, not a published method.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from fedbus.training.missing_classes.criterion import ClassRows
from fedbus.training.missing_classes.mask import Mask

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class Softened(Mask):
    """Add s (-log p(P)) to masked cross-entropy, s in [0, 1]: 0 is `mask`, 1 is `plain` without label smoothing.

    Label smoothing is spread over the site's own classes for every s, so a missing class is never pushed up. With
    smoothing, s = 1 is therefore not `plain`, which gives missing classes a share of the label.

    Attributes:
        strength: s.
        mass: float32 [K], the weight of a smoothed label of each class, summed over its targets. It also weights the
            second term, so that both terms of a row count equally.
    """

    def __init__(self, model: nn.Module, rows: ClassRows, settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.strength = settings.missing_strength
        self.mass = (1 - self.smoothing) * self.weights + self.smoothing * self.weights.mean()

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """As `Mask`, plus s times the cost of the probability that missing classes get."""
        own = self.place[labels]
        cost = logits.logsumexp(dim=1) - logits[:, self.columns].logsumexp(dim=1)  # -log p(P)
        missing = (self.mass[own] * cost).sum() / self.weights[own].sum()
        return super().__call__(logits, labels, images) + self.strength * missing
