"""Between masked and plain cross-entropy (`missing-classes = "softened"`).

The chain rule parts the likelihood of a label y, which is one of the classes P that the holder has:
-log p(y) = -log p(y | P) - log p(P). The first part is `mask`'s loss, both together are `plain`'s. Here the second part
counts `missing-strength` times. This is an interpolation, not a published method.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from fedbus.training.missing_classes.mask import Mask

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings
    from fedbus.training.rows import TrainingRows


class Softened(Mask):
    """Add s (-log p(P)) to masked cross-entropy, s in [0, 1]: 0 is `mask`, 1 is `plain` without label smoothing.

    Label smoothing spreads over the holder's own classes whatever s is, so a missing class is never pushed up. At 1 the
    loss is then plain cross-entropy with such targets, not with `plain`'s, which give a missing class a share.

    Attributes:
        mass: float32 [K], the summed weight of a smoothed label, which its row's second part is weighted by as well.
    """

    def __init__(self, model: nn.Module, rows: "TrainingRows", settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.strength = settings.missing_strength
        self.mass = (1 - self.smoothing) * self.weights + self.smoothing * self.weights.mean()

    def __call__(self, logits: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        """As for `Mask`, and s times the cost of the probability that missing classes get."""
        own = self.place[labels]
        cost = logits.logsumexp(dim=1) - logits[:, self.columns].logsumexp(dim=1)
        missing = (self.mass[own] * cost).sum() / self.weights[own].sum()
        return super().__call__(logits, labels, pictures) + self.strength * missing
