"""What secure aggregation does not prevent, as docs/security.md says: each test shows what a hub learns."""

import dataclasses

import numpy as np

from fedbus.evaluation.validation import Score
from fedbus.secure_aggregation.numbers import decode_numbers, encode_numbers
from fedbus.secure_aggregation.terms import digest_of_arrays
from fedbus.secure_aggregation.unmasked_sums import remember_sum
from fedbus.transport.summed_score import CONFUSION, LOSS_SUMS, SCORE, numbers_of_score
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


def test_the_same_model_in_two_rounds_shows_the_update_of_the_site_that_the_second_lacks() -> None:
    """If the training depended on the round, by its seed, the difference would be near to the update."""
    first = make_terms(4)
    vectors, left_out = some_vectors(first.roster), sorted(first.roster)[-1]
    others = sorted(set(first.roster) - {left_out})
    record = remember_sum(b"", first, first.roster)
    remember_sum(record, dataclasses.replace(first, round=first.round + 1, session="f" * 32), others)  # no error
    assert is_sum(minus(sum_of(4, vectors), sum_of(4, vectors, without=(left_out,))), [vectors[left_out]])


def test_the_same_model_scored_for_another_purpose_without_a_site_shows_its_scores() -> None:
    terms = make_terms(4, purpose="likelihoods")
    record = remember_sum(b"", terms, terms.roster)
    others = sorted(terms.roster)[:-1]
    remember_sum(record, dataclasses.replace(terms, purpose="bins", session="f" * 32), others)  # no error


def test_the_sum_of_a_class_that_one_site_has_is_that_sites() -> None:
    only = Score(np.array([[3, 1, 0], [0, 2, 0], [1, 0, 4]]), np.array([0.5, 0.25, 2.0]))
    other = Score(np.array([[5, 0, 0], [1, 6, 0], [0, 0, 0]]), np.array([1.0, 0.75, 0.0]))
    parts = [encode_numbers(numbers_of_score(score), SCORE) for score in (only, other, other)]
    total = decode_numbers(np.sum(parts, axis=0, dtype=np.uint64), SCORE)
    assert total[CONFUSION].reshape(3, 3)[2].tolist() == [1, 0, 4]
    assert total[LOSS_SUMS][2] == 2.0


def test_sites_train_any_model_that_all_of_them_get() -> None:
    """So a hub can announce any sum, and send a model that was made to reveal images."""
    crafted = {"layer.weight": np.full((2, 3), 1e6, dtype=np.float32)}
    make_terms(3, round=2, model=digest_of_arrays(crafted)).check_model(crafted)
