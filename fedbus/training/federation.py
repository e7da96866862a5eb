"""What a site needs to know of the other sites to balance its classes and choose its batches as a part of the whole.

With these sums, the batches of all sites together contain each class as often as a batch of pooled, over-sampled
training does. With one step per round, the average of the sites' gradients then has the same expectation as the
gradient of pooled training; with more steps per round, the sites' weights drift apart in between (McMahan et al.,
"Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedbus.errors import SettingsError

MOST_GROWTH = 200
"""Times that an image may be repeated, far above what real class counts need."""


@dataclass(frozen=True)
class FederationRows:
    """Sums over the sites of a federation.

    Attributes:
        class_counts: Training images of each class, before balancing.
        balanced: Training rows after balancing.
    """

    class_counts: tuple[int, ...]
    balanced: int

    def targets(self, counts: Sequence[int]) -> dict[int, int]:
        """Return the rows of each class after over-sampling at a site that has `counts` training images of each.

        Every class grows by the factor that brings it to the size of the largest class of the federation. Classes that
        the site lacks are left out.

        Raises:
            SettingsError: If a class would grow more than `MOST_GROWTH` times. A site that claims a thousand times too
                many images must not fill the memory of the others.
        """
        largest = max(self.class_counts)
        if any(count and largest > MOST_GROWTH * total for count, total in zip(counts, self.class_counts, strict=True)):
            raise SettingsError(
                f"The federation's class counts {self.class_counts} would repeat images more than {MOST_GROWTH} times.",
                "Check the counts that the sites registered at the hub, or use --set balance=site.",
            )
        return {
            label: round(count * largest / total)
            for label, (count, total) in enumerate(zip(counts, self.class_counts, strict=True))
            if count
        }


def add_rows(class_counts: Iterable[Sequence[int]], balanced: Iterable[int], balance: str) -> FederationRows:
    """Add up what the sites have.

    Args:
        class_counts: Training images of each class, per site.
        balanced: Training rows of each site after balancing among its own classes.
        balance: The setting. Under `federation`, the balanced rows follow from the class counts.
    """
    counts = [tuple(site) for site in class_counts]
    total = tuple(sum(column) for column in zip(*counts, strict=True))
    rows = FederationRows(total, sum(balanced))
    if balance == "site":
        return rows
    return FederationRows(total, sum(sum(rows.targets(site).values()) for site in counts))


def add_steps(steps: Iterable[int], batches: str) -> int:
    """Add up the optimiser steps of sites, in steps of `batch-size` images: what centralised training takes as well.

    Args:
        steps: Steps of each site.
        batches: The setting. Under `proportional`, the sites' batches of one step add up to `batch-size` images.
    """
    return max(steps) if batches == "proportional" else sum(steps)
