"""Fixtures of the tests of the round loop."""

import itertools

import pytest

_titles = (f"title-{number}" for number in itertools.count())


@pytest.fixture
def title() -> str:
    """A title of its own for each test: sites remember which sums they have unmasked in a training."""
    return next(_titles)
