"""What a site claims about itself: limited between hospitals, and never more than its registration allows."""

import threading
from dataclasses import replace

import pytest
from flwr.app import Message, MessageType, MetricRecord

from fedbus.classes import CLASSES
from fedbus.errors import RunError, SettingsError
from fedbus.transport.messages import ARRAYS, METRICS, Instruction, Registration
from server.rounds.messaging import Participants
from server.rounds.registration import register_sites
from server.rounds.shares import check_shares, describe_shares, most_weight
from tests.grid import LocalGrid
from tests.server.rounds.federation import federate, same
from tests.tiny import tiny_settings


def registration(site: str, train=(40, 30, 10), validation=(5, 5, 2), test=(8, 6, 2)) -> Registration:
    splits = {"train": train, "validation": validation, "test": test}
    balanced = tuple(max(train) if count else 0 for count in train)
    return Registration(site, CLASSES, 32, splits, balanced, 50, 40, 0)


def federation(*others: Registration) -> Participants:
    sites = [registration("east"), registration("north"), *others]
    return Participants(dict(enumerate(sites, 101)), {101 + i: site.site for i, site in enumerate(sites)})


BILLION = 10**7  # a registration with more is not read at all


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"train": (BILLION, 0, 0)}, "training images"),
        ({"train": (40, 30, BILLION)}, "training images"),
        ({"validation": (BILLION, 0, 0)}, "validation images"),
        ({"test": (0, 0, 500)}, "test images"),
    ],
)
@pytest.mark.parametrize(
    "settings", [{}, {"balance": "federation"}, {"batches": "proportional"}, {"site_weights": "equal"}]
)
def test_a_site_that_claims_most_images_is_refused_by_name(claim, words, settings):
    with pytest.raises(SettingsError, match=rf"south claims \d+ of all \d+ {words}.*largest-share"):
        check_shares(federation(registration("south", **claim)), tiny_settings(**settings))


def test_rows_after_balancing_are_limited_too():
    greedy = replace(registration("south"), balanced=(400, 400, 400))
    with pytest.raises(SettingsError, match="south claims 1200 of all 1440 training rows after balancing"):
        check_shares(federation(greedy), tiny_settings())


def test_honest_sites_of_unequal_size_pass_and_the_limit_can_be_raised():
    check_shares(federation(registration("south", (80, 60, 20))), tiny_settings())
    large = federation(registration("south", (400, 300, 100)))
    with pytest.raises(SettingsError, match=r"largest-share=0\.84"):
        check_shares(large, tiny_settings())
    check_shares(large, tiny_settings(largest_share=0.84))
    check_shares(Participants({101: registration("east")}, {101: "east"}), tiny_settings())


def test_the_claims_are_described_in_one_line():
    said = describe_shares(federation(registration("south", (80, 60, 20))), tiny_settings())
    assert (
        said
        == "training images: east 80 (25%), north 80 (25%), south 160 (50%); at most 70% at one site (largest-share)"
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 80),
        ({"site_weights": "equal"}, 1),
        ({"site_weights": "balanced"}, 120),
        ({"site_weights": "balanced", "balance": "federation"}, 40 + 40 + 40),
        ({"batches": "proportional", "site_weights": "equal"}, 120),
    ],
)
def test_the_largest_weight_follows_from_the_registration(settings, expected):
    chosen, sites = tiny_settings(**settings), federation()
    assert most_weight(sites.registration("east"), chosen, sites.federation(chosen)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"images-train": [10**9, 0, 0]},
        {"images-test": [10**9, 0, 0]},
        {"balanced": [10**6, 0, 0]},
        {"balanced": [81, 0, 0]},
        {"groups": 10**9},
        {"patients": 2**62},
        {"dropped": 10**9},
    ],
    ids=str,
)
def test_a_registration_with_impossible_numbers_is_refused(change):
    config, metrics = registration("east").to_records()
    Registration.from_records(config, metrics)
    with pytest.raises(RunError, match="registration is not valid"):
        Registration.from_records(config, metrics | change)


def claims(site: str, numbers: dict):
    """Change the registration that a site sends."""

    def spoil(sender: str, reply: Message) -> None:
        if sender == site and reply.metadata.message_type == MessageType.QUERY:
            reply.content[METRICS].update(numbers)

    return spoil


def test_between_hospitals_the_site_is_refused_and_the_shares_are_shown(two_site_settings, tiny_folder):
    def register(spoil, approved: bool, said: list[str]) -> Participants:
        grid = LocalGrid(tiny_folder, list(two_site_settings.sites), spoil=spoil)
        sites = grid.names if approved else 2
        return register_sites(grid, sites, Instruction(two_site_settings, 7, ()), 2, 60, threading.Event(), said.append)

    said: list[str] = []
    register(lambda site, reply: None, True, said)
    assert said[-1].startswith("training images: north ")
    hostile = claims("south", {"images-train": [5000, 0, 5000], "balanced": [5000, 0, 5000]})
    with pytest.raises(SettingsError, match="south claims 10000 of all"):
        register(hostile, True, said)
    register(hostile, False, said)  # in a simulation all sites are folders of one user
    with pytest.raises(RunError, match=r"south: .*registration is not valid"):
        register(claims("south", {"images-train": [10**9, 0, 0]}), True, said)


def test_other_records_and_numbers_of_a_reply_do_not_reach_the_strategy(two_site_settings, tiny_folder, tmp_path):
    settings = two_site_settings.model_copy(update={"rounds": 1})

    def spoil(site: str, reply: Message) -> None:
        if site == "south" and reply.metadata.message_type == MessageType.TRAIN:
            reply.content[METRICS]["more"] = [1.0] * 9
            reply.content["metrics-2"] = MetricRecord({"num-examples": 10**9})
            reply.content["arrays-2"] = reply.content[ARRAYS]

    changed = federate(settings, tiny_folder, tmp_path / "changed", spoil=spoil)
    plain = federate(settings, tiny_folder, tmp_path / "plain")
    assert changed.read_history()[0]["participants"] == ["north", "south"]
    assert same(changed.load_weights("final"), plain.load_weights("final"))


def test_where_all_sites_weigh_the_same_no_site_weighs_more(two_site_settings, tiny_folder, tmp_path):
    def spoil(site: str, reply: Message) -> None:
        if site == "south" and reply.metadata.message_type == MessageType.TRAIN:
            reply.content[METRICS]["num-examples"] = 2.0

    settings = two_site_settings.model_copy(update={"rounds": 1, "quorum": 1, "site_weights": "equal"})
    line = federate(settings, tiny_folder, tmp_path, spoil=spoil).read_history()[0]
    assert "a larger weight" in line["refused"]["south"]
