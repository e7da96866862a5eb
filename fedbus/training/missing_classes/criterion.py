"""The loss that every policy derives from: cross-entropy over all classes (`missing-classes = "plain"`)."""

from typing import TYPE_CHECKING, ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class ClassRows(Protocol):
    """What a loss needs to know of a site's training rows; `fedbus.training.rows.TrainingRows` provides it."""

    @property
    def labels(self) -> Tensor:
        """int64 [M], positions in `CLASSES`."""

    @property
    def class_weights(self) -> Tensor:
        """float32 [3], weights of the loss."""

    @property
    def present(self) -> Tensor:
        """int64 [K], the classes that the site has, ascending."""


class Criterion:
    """Cross-entropy with label smoothing and class weights, over all classes.

    At a site that lacks a class, every row tells the model that this class does not occur. The federation's shared
    model then unlearns it; the other policies exist to prevent that.

    Attributes:
        everywhere: Whether the policy also changes the loss of a site that has all classes.
        weights: float32 [3], the class weights.
        smoothing: Share of a label that is spread over all classes.
    """

    everywhere: ClassVar[bool] = False

    def __init__(self, model: nn.Module, rows: ClassRows, settings: "Settings") -> None:
        """Prepare the loss of one round.

        Args:
            model: The model at the start of the round.
            rows: Training rows of the site.
            settings: Settings of the comparison.
        """
        self.weights = rows.class_weights
        self.smoothing = settings.label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Compute the mean loss of a batch, weighted by class.

        The value is that of PyTorch's `cross_entropy`. With class weights and smoothing, that of PyTorch 2.11 waits for
        the GPU in every step, and can't be recorded in a CUDA graph.

        Args:
            logits: float32 [B, 3].
            labels: int64 [B].
            images: float32 [B, 3, H, W], the model's input; only `distil` uses it.

        Returns:
            float32 [].
        """
        log_probabilities = logits.log_softmax(dim=1)
        labelled = F.nll_loss(log_probabilities, labels, weight=self.weights)
        spread = -(log_probabilities * self.weights).sum(dim=1).sum() / self.weights.gather(0, labels).sum()
        return (1 - self.smoothing) * labelled + spread * (self.smoothing / logits.shape[1])
