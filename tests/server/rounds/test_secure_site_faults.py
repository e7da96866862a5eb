"""Secure aggregation with a site that lies or is broken: it is refused by name, or the others do without it."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message

from fedbus.transport.messages import ARRAYS
from fedbus.transport.secure_records import KEYS, NAMES, SEALED, SECURE, SHARES
from tests.server.rounds.federation import federate, start_of
from tests.server.rounds.secure_runs import refused_run, secure

pytestmark = pytest.mark.usefixtures("quick_polls")


def spoiled(kind: str, change: Callable[[Message], object]) -> Callable[[str, Message], None]:
    """Change the replies of one site to one kind of message."""

    def spoil(site: str, reply: Message) -> None:
        if site == "mid" and reply.metadata.message_type == kind and not reply.has_error():
            change(reply)

    return spoil


def flip(reply: Message, key: str) -> None:
    """Change one digit of a hexadecimal message; in one of shares, it is in the first site's."""
    data = bytearray(reply.content[SECURE][key])
    place = next(i for i in range(len(data) // 6, len(data)) if chr(data[i]) in "012345678")
    data[place] += 1
    reply.content[SECURE][key] = bytes(data)


def short_vectors(reply: Message) -> None:
    arrays = {name: array.numpy() for name, array in reply.content[ARRAYS].items()}
    arrays["values"] = arrays["values"][:-1]
    reply.content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in arrays.items()})


FAULTS = {
    "a key that the site did not sign": ("query.keys", lambda m: flip(m, KEYS), "not signed by its own key"),
    "no key": ("query.keys", lambda m: m.content[SECURE].pop(KEYS), "no valid 'keys'"),
    "no record": ("query.keys", lambda m: m.content.pop(SECURE), "no record 'secure'"),
    "no share for one site": (
        "query.shares",
        lambda m: m.content.__setitem__(
            SECURE, ConfigRecord({NAMES: m.content[SECURE][NAMES][:-1], SEALED: m.content[SECURE][SEALED][:-1]})
        ),
        "one share for each other site",
    ),
    "one share for two sites": (
        "query.shares",
        lambda m: m.content[SECURE].update({SEALED: [m.content[SECURE][SEALED][0]] * 2}),
        "mid",
    ),
    "a vector that is too short": ("train.masked", short_vectors, "another size or type"),
    "no vector": ("train.masked", lambda m: m.content.__setitem__(ARRAYS, ArrayRecord()), "no masked vectors"),
    "damaged arrays": (
        "train.masked",
        lambda m: m.content.__setitem__(
            ARRAYS, ArrayRecord({k: Array("uint32", (3,), "numpy.ndarray", b"x") for k in ("values", "numbers")})
        ),
        "can't be read",
    ),
    "a wrong share": ("query.unmask", lambda m: flip(m, SHARES), "revealed a wrong share"),
    "no shares": ("query.unmask", lambda m: m.content[SECURE].update({SHARES: b""}), "mid"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_of_three_sites_refuses_the_round_by_name(
    fault, five_site_settings, five_folder, tmp_path, title
):
    kind, change, words = FAULTS[fault]
    said = refused_run(
        secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=spoiled(kind, change)
    )  # fmt: skip
    assert "mid" in said
    assert words in said


@pytest.mark.parametrize("fault", ["a key that the site did not sign", "a vector that is too short", "a wrong share"])
def test_four_sites_do_without_the_one_at_fault(fault, five_site_settings, five_folder, tmp_path, title):
    kind, change, words = FAULTS[fault]
    settings = secure(five_site_settings, 4, quorum=3)
    (line,) = federate(
        settings, five_folder, tmp_path, title=title, spoil=spoiled(kind, change)
    ).read_history()  # fmt: skip
    others = [name for name in settings.sites if name != "mid"]
    # A site whose share is wrong has sent its vector: it is in the sum, and the other shares unmask it.
    assert line["participants"] == (list(settings.sites) if fault == "a wrong share" else others)
    assert fault == "a wrong share" or words in line["refused"]["mid"]


def test_the_share_of_another_site_in_place_of_its_own_is_refused(five_site_settings, five_folder, tmp_path, title):
    sent: dict[str, bytes] = {}

    def repeat(site: str, reply: Message) -> None:
        if reply.metadata.message_type == "query.unmask" and not reply.has_error():
            if site == "mid":
                reply.content[SECURE][SHARES] = sent["east"]
            sent[site] = reply.content[SECURE][SHARES]

    said = refused_run(secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=repeat)
    assert "mid revealed a wrong share" in said


def test_sums_that_contradict_the_registrations_are_refused(five_site_settings, five_folder, tmp_path, title):
    def count_another_image(site: str, reply: Message) -> None:
        if reply.metadata.message_type == "train.masked" and site == "mid":
            arrays = {name: array.numpy().copy() for name, array in reply.content[ARRAYS].items()}
            arrays["numbers"][0] += np.uint64(1)  # masked values can be added to
            reply.content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in arrays.items()})

    said = refused_run(
        secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=count_another_image
    )  # fmt: skip
    assert "not the registered" in said
    assert "does not show which site is wrong" in said


def test_a_larger_share_than_registered_is_refused(five_site_settings, five_folder, tmp_path, title):
    def claim(site: str, reply: Message) -> None:
        if reply.metadata.message_type == "train.masked" and site == "mid":
            arrays = {name: array.numpy().copy() for name, array in reply.content[ARRAYS].items()}
            arrays["numbers"][13] += np.uint64(1 << 46)  # after 9 cells, 3 losses and the loss by class: a quarter
            reply.content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in arrays.items()})

    said = refused_run(secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=claim)
    assert "shares of" in said


def test_a_range_that_is_too_small_is_refused_by_name(five_site_settings, five_folder, tmp_path, title, caplog):
    said = refused_run(secure(five_site_settings, 3, update_range=1e-5), five_folder, tmp_path, title)
    assert "Only 0 of 3 sites" in said
    assert "east (failed: a value of its update is out of range; see the site's own log" in said
    assert "--set update-range=" in said
    names = [name for name in start_of(five_site_settings.model) if f"A value of {name} changes" in caplog.text]
    assert names, "the site's own log names the array"
    assert "at most 1e-05" in caplog.text
    assert not any(name in said for name in names), "a lying hub could announce small ranges to learn of values"


def test_the_site_checks_its_own_update(five_site_settings, five_folder, tmp_path, title, caplog):
    said = refused_run(secure(five_site_settings, 3, update_limit=1e-6), five_folder, tmp_path, title)
    assert "mid (failed: a value of its update is out of range" in said
    assert "it moves the model by" in caplog.text
    assert "moves the model" not in said
