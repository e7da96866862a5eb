"""What a site remembers across sessions: of each round it unmasks one sum only, however often the hub repeats it.

Otherwise a hub that lies could repeat a round without one site, with fresh keys, and subtract one sum from the other.
"""

from collections.abc import Collection

from fedbus.errors import RunError, listed
from fedbus.secure_aggregation.fields import canonical_json, damaged, read_json_object
from fedbus.secure_aggregation.terms import TRAIN, SessionTerms


def remember_sum(record: bytes, terms: SessionTerms, survivors: Collection[str]) -> bytes:
    """Note whose sum of a round this site unmasks; store the result before the site's shares leave it.

    The same sites again are allowed: a run that was stopped before it could store the round repeats it. Of a training,
    the rounds count apart, but an evaluation has no round: there is one at the end, and a hub that had the sites score
    one model as that of several rounds could leave out another site each time.

    Args:
        record: What this function returned last at this site for the same settings, arm and seed; empty at first.
        terms: The terms of the session.
        survivors: The sites whose sum is to be unmasked.

    Raises:
        RunError: If the site has unmasked the sum of other sites for this round, or the record is damaged.
    """
    what = "The record of unmasked sums"
    sums = read_json_object(record, what) if record else {}
    sum_name = f"{terms.purpose} {terms.round}" if terms.purpose == TRAIN else terms.purpose
    wanted, earlier = sorted(survivors), sums.get(sum_name)
    if earlier is None:
        return canonical_json(sums | {sum_name: wanted})
    if not isinstance(earlier, list):
        raise damaged(what, f"{sum_name} is no list")
    if earlier != wanted:
        raise RunError(
            f"This site has already unmasked the sum of {listed(earlier)} for round {terms.round} ({terms.purpose}),"
            f" and the hub asks for the sum of {listed(wanted)}.",
            "Nothing was sent. Wait until the same sites take part, then rerun with --resume; or start a training with"
            " another seed.",
        )
    return record
