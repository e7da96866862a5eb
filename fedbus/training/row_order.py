"""Which rows a training step uses: a function of the seed and the step, so that a run can resume at any round."""

import torch
from torch import Tensor

from fedbus.seeds import derive_seed


class RowOrder:
    """An endless stream of shuffled passes over the balanced rows of one owner, cut into batches.

    A batch may span two passes, so every batch is full and every pass uses each row exactly once.
    """

    def __init__(self, owner: str, count: int, batch_size: int, seed: int) -> None:
        """Describe the stream.

        Args:
            owner: Owner of the rows; different owners are shuffled independently.
            count: Number of balanced rows.
            batch_size: Rows per batch.
            seed: The training seed.
        """
        self.owner, self.count, self.batch_size, self.seed = owner, count, batch_size, seed
        self._passes: dict[int, Tensor] = {}  # the latest pass only

    def batch(self, step: int) -> Tensor:
        """Positions of the balanced rows of a step, int64 [batch_size] in 0..count-1; steps count from 0."""
        position, stop = step * self.batch_size, (step + 1) * self.batch_size
        pieces = []
        while position < stop:
            number, offset = divmod(position, self.count)
            piece = self._pass(number)[offset : offset + stop - position]
            pieces.append(piece)
            position += len(piece)
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _pass(self, number: int) -> Tensor:
        if number not in self._passes:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.owner, number))
            self._passes = {number: torch.randperm(self.count, generator=generator)}
        return self._passes[number]
