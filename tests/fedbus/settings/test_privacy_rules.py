"""What secure aggregation excludes: each refusal says why, and what to use instead."""

import pytest

from fedbus.errors import SettingsError
from fedbus.settings.load import build_settings
from fedbus.settings.privacy_rules import check_secure_sites

SITES = {name: {"reader": "busi", "path": "x"} for name in ("a", "b", "c")}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"arms": ["krum"]}, ["krum", "compare single updates", "Use fedavg"]),
        ({"arms": ["fedavg", "fedmedian", "bulyan"]}, ["fedmedian, bulyan", "only their sum"]),
        ({"arms": ["fedtrimmedavg"]}, ["fedtrimmedavg"]),
        ({"arms": ["multikrum"]}, ["multikrum"]),
        ({"arms": ["qfedavg"]}, ["qfedavg", "by its training loss", "Use fedavg or fedprox"]),
        ({"arms": ["fedavg"], "head": "by-class"}, ["head=by-class", "a class of one site", "head=average"]),
        ({"quorum": 2}, ["quorum of at least 3", "not 2", "quorum=3"]),
        ({"update-range": 0}, ["update-range"]),
        ({"update-range": float("nan")}, ["update-range"]),
    ],
)
def test_a_contradiction_is_refused_with_the_reason_and_a_way_out(settings, words):
    with pytest.raises(SettingsError) as refused:
        build_settings({"privacy": "secure-aggregation"} | settings, "here")
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize("arm", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"])
@pytest.mark.parametrize("policy", ["average", "frozen", "local", "local-statistics", "pooled"])
def test_what_needs_only_the_mean_is_allowed(arm, policy):
    settings = {"privacy": "secure-aggregation", "arms": [arm, "local"], "batch-norm": policy, "sites": SITES}
    assert build_settings(settings | {"quorum": 3}, "here").update_range == 4


def test_sites_are_told_the_privacy_and_the_range():
    sent = build_settings({"privacy": "secure-aggregation", "update-range": 9}, "here").for_sites()
    assert '"privacy":"secure-aggregation"' in sent
    assert '"update-range":9.0' in sent


def test_a_federation_of_two_sites_is_refused():
    check_secure_sites("secure-aggregation", 3)
    with pytest.raises(SettingsError, match="at least 3 sites, here are 2"):
        check_secure_sites("secure-aggregation", 2)
    check_secure_sites("none", 1)
