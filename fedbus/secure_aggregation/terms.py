"""What a session sums, for whom, and with which keys: the terms that every site signs before it sends anything."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.secure_aggregation.fields import canonical_json, damaged, read_json_object
from fedbus.secure_aggregation.fixed_point import MAX_SITES
from fedbus.secure_aggregation.numbers import NumberFormat
from fedbus.settings.site_name import check_site_name

FEWEST = 3
"""Sites below which a sum is refused: with two, each could subtract its own vector and learn the other's."""

TRAIN = "train"
"""The purpose of a session that sums updates."""

PURPOSES = (TRAIN, "validation", "likelihoods", "bins", "test")
"""What a session sums: the updates of a training round, or one step of the evaluation at the end."""

_LARGEST = 2**53
"""Whole numbers up to it are exact in float64, so every site computes the same share."""

_HEX_SIZES = {"session": 32, "instruction": 64, "model": 64, "layout": 64}


@dataclass(frozen=True)
class SessionTerms:
    """The terms of one session, equal for all its sites.

    Attributes:
        session: 32 random hex digits; never used twice.
        title: The title of the run.
        run: The code of the run.
        arm: The arm that is trained.
        round: The number of the round, from 1; for an evaluation, the round that made the model.
        purpose: One of `PURPOSES`.
        instruction: `digest_of_instruction` of what the site is told to do.
        model: `digest_of_arrays` of the model that is sent.
        total_weight: The sum of the sites' weights.
        update_range: The setting from which `fixed_point.tensor_ranges` computes the range of each tensor.
        layout: `digest_of_layout` of what is summed.
        roster: The line of each site's public key (`fedbus.deployment.keys.public_line`) by site name: all sites of
            the study, also those that are away.
    """

    session: str
    title: str
    run: str
    arm: str
    round: int
    purpose: str
    instruction: str
    model: str
    total_weight: float
    update_range: float
    layout: str
    roster: Mapping[str, str]

    @property
    def threshold(self) -> int:
        """How many sites must reveal their shares to unmask: more than two thirds of the roster.

        A site reveals either the share of another site's self-mask seed or the share of its mask key, and only once. So
        the hub gets both secrets of one site only if t sites answer one way and t the other way. As 2t > n, at least
        2t - n sites, about a third, would have to answer both ways (Bonawitz, section 6.2).
        """
        return threshold_of(len(self.roster))

    @property
    def fewest(self) -> int:
        """The smallest number of sites whose sum may be revealed."""
        return fewest_of(len(self.roster))

    def to_bytes(self) -> bytes:
        """Return the terms as canonical JSON."""
        return canonical_json(vars(self) | {"roster": dict(self.roster)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read and check terms.

        Raises:
            RunError: If they are damaged, name fewer than three sites, or one key under two names.
        """
        what = "The terms of a secure sum"
        values = read_json_object(data, what)
        if values.keys() != {field.name for field in dataclasses.fields(cls)}:
            raise damaged(what, "other fields than expected")
        types = {"round": (int,), "total_weight": (float, int), "update_range": (float, int), "roster": (dict,)}
        for key, value in values.items():
            if type(value) not in types.get(key, (str,)):  # a bool is an int
                raise damaged(what, f"{key} has another type")
        terms = cls(**values)
        terms._check()
        return terms

    def digest(self) -> bytes:
        """Return the SHA-256 of the terms, 32 bytes: what the sites sign."""
        return hashlib.sha256(self.to_bytes()).digest()

    def check_instruction(self, instruction: Mapping[str, Any]) -> None:
        """Refuse an instruction other than the one in the terms.

        Raises:
            RunError: If its digest differs.
        """
        if digest_of_instruction(instruction) != self.instruction:
            raise _not_agreed("The instruction")

    def check_model(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Refuse a model other than the one in the terms, so that no site trains another model than the others.

        Raises:
            RunError: If its digest differs.
        """
        if digest_of_arrays(arrays) != self.model:
            raise _not_agreed("The model")

    def check_layout(self, tensors: Mapping[str, Sequence[int]], numbers: Iterable[NumberFormat]) -> None:
        """Refuse to sum anything else than what the terms name.

        Raises:
            RunError: If the digest of the layout differs.
        """
        if digest_of_layout(tensors, numbers) != self.layout:
            raise _not_agreed("The list of what is summed")

    def share_of(self, weight: float) -> float:
        """Return the share of a site with this weight in the mean.

        Raises:
            RunError: If it is not above 0 and at most 1.
        """
        if not 0 < weight <= self.total_weight:
            raise RunError(
                f"This site's weight is {weight:g}, but all sites together have {self.total_weight:g}.",
                "Ask the coordinator to start the run again, so that all sites register again.",
            )
        return weight / self.total_weight

    def _check(self) -> None:
        """Raise the error for terms that no site should sign."""
        what = "The terms of a secure sum"
        for key, size in _HEX_SIZES.items():
            if not re.fullmatch(rf"[0-9a-f]{{{size}}}", getattr(self, key)):
                raise damaged(what, f"{key} is not {size} hex digits")
        if self.purpose not in PURPOSES or self.round < 0:
            raise damaged(what, "unknown purpose or negative round")
        if not (0 < self.total_weight <= _LARGEST and 0 < self.update_range <= _LARGEST):  # NaN fails too
            raise damaged(what, "total weight or update range is out of range")
        if not all(isinstance(line, str) for line in self.roster.values()):
            raise damaged(what, "a key is no text")
        try:
            for name in self.roster:
                check_site_name(name)
        except ValueError as error:
            raise damaged(what, error) from error
        if not FEWEST <= len(self.roster) <= MAX_SITES:
            raise RunError(
                f"A secure sum needs {FEWEST} to {MAX_SITES} sites; this one has {len(self.roster)}.",
                "Add sites, or ask the coordinator to run without secure aggregation.",
            )
        keys = [tuple(line.split()[:2]) for line in self.roster.values()]
        if len(set(keys)) < len(keys):
            raise RunError(
                "The hub names one key for two sites.",
                "Do not take part; ask the coordinator for a correct list of sites.",
            )


def threshold_of(sites: int) -> int:
    """Return `SessionTerms.threshold` of a roster with this number of sites."""
    return 2 * sites // 3 + 1


def fewest_of(sites: int) -> int:
    """Return `SessionTerms.fewest` of a roster with this number of sites."""
    return max(FEWEST, threshold_of(sites))


def digest_of_instruction(instruction: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an instruction (a mapping of JSON's types, or bytes) as 64 hex digits.

    Raises:
        RunError: If it contains anything else.
    """
    try:
        plain = {
            key: {"bytes": value.hex()} if isinstance(value, bytes) else value for key, value in instruction.items()
        }
        return hashlib.sha256(canonical_json(plain)).hexdigest()
    except (TypeError, ValueError, RecursionError) as error:
        raise damaged("An instruction", error) from error


def digest_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays, with their names, types and shapes, as 64 hex digits."""
    content = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        content.update(canonical_json({"name": key, "type": array.dtype.str, "shape": list(array.shape)}))
        content.update(array.reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def digest_of_layout(tensors: Mapping[str, Sequence[int]], numbers: Iterable[NumberFormat]) -> str:
    """Return the SHA-256 of what is summed, the shapes of tensors by name and the numbers, as 64 hex digits."""
    shapes = {key: list(tensors[key]) for key in tensors}
    formats = [dataclasses.asdict(number) for number in numbers]
    return hashlib.sha256(canonical_json({"tensors": shapes, "numbers": formats})).hexdigest()


def _not_agreed(what: str) -> RunError:
    return RunError(
        f"{what} is not the one that the sites agreed on for this secure sum.",
        "Nothing was sent. Ask the coordinator why this site was sent another one than the others.",
    )
