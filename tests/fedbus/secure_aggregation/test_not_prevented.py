"""What secure aggregation does not prevent, as docs/security.md says: each test shows what a hub learns."""

import dataclasses

import numpy as np

from fedbus.secure_aggregation.terms import digest_of_arrays
from fedbus.secure_aggregation.unmasked_sums import remember_sum
from tests.fedbus.secure_aggregation.session_parties import Parties, Vectors, is_sum, make_terms, some_vectors


def sum_of(number: int, vectors: dict[str, Vectors], *, without: tuple[str, ...] = ()) -> Vectors:
    """The sum that a hub gets from a session of `number` sites, some of which it leaves out."""
    parties = Parties.start(number)
    sealed = parties.share()
    kept = {name: each for name, each in vectors.items() if name not in without}
    return parties.unmask(parties.collect(parties.mask(kept, sealed)))


def minus(left: Vectors, right: Vectors) -> Vectors:
    return left[0] - right[0], left[1] - right[1]


def test_colluding_sites_can_subtract_their_own_vectors() -> None:
    vectors = some_vectors(make_terms(4).roster)
    names = sorted(vectors)
    rest = sum_of(4, vectors)
    for colluding in names[:2]:
        rest = minus(rest, vectors[colluding])
    assert is_sum(rest, [vectors[names[2]], vectors[names[3]]])
    assert is_sum(minus(rest, vectors[names[2]]), [vectors[names[3]]])


def test_a_study_with_sites_of_the_hub_shows_the_only_real_one() -> None:
    vectors = some_vectors(make_terms(3).roster)
    real, *sybils = sorted(vectors)
    rest = sum_of(3, vectors)
    for sybil in sybils:
        rest = minus(rest, vectors[sybil])
    assert is_sum(rest, [vectors[real]])


def test_a_second_run_without_a_site_shows_its_first_update_if_training_repeats_itself() -> None:
    first = make_terms(4)
    vectors, left_out = some_vectors(first.roster), sorted(first.roster)[-1]
    others = sorted(set(first.roster) - {left_out})
    record = remember_sum(b"", first, first.roster)
    remember_sum(record, dataclasses.replace(first, run="beef", session="f" * 32), others)  # no error
    assert is_sum(minus(sum_of(4, vectors), sum_of(4, vectors, without=(left_out,))), [vectors[left_out]])


def test_the_same_model_scored_for_another_purpose_without_a_site_shows_its_scores() -> None:
    terms = make_terms(4, purpose="likelihoods")
    record = remember_sum(b"", terms, terms.roster)
    others = sorted(terms.roster)[:-1]
    remember_sum(record, dataclasses.replace(terms, purpose="bins", session="f" * 32), others)  # no error


def test_sites_train_any_model_that_all_of_them_get() -> None:
    """So a hub can announce any sum, and send a model that was made to reveal images."""
    crafted = {"layer.weight": np.full((2, 3), 1e6, dtype=np.float32)}
    make_terms(3, round=2, model=digest_of_arrays(crafted)).check_model(crafted)
