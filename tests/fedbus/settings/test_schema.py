"""The settings of a comparison: the error of each mistake, hashing, and what is sent to the sites."""

import json
from functools import lru_cache

import pytest

from fedbus.errors import SettingsError
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.load import build_settings, load_settings
from fedbus.settings.schema import Settings


def test_lists_may_be_written_with_commas():
    settings = load_settings(overrides=["arms=local, fedprox", "seeds=0,1,4"])
    assert settings.arms == ("local", "fedprox")
    assert settings.seeds == (0, 1, 4)
    assert load_settings(overrides=["arms=krum", "seeds=7"]).seeds == (7,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning-rat": 1}, ["'learning-rat'", "'learning-rate'"]),
        ({"image_sise": 64}, ["'image_sise'", "'image-size'"]),
        ({"arms": ["fedavgg"]}, ["'fedavgg'", "'fedavg'"]),
        ({"strategy-options": {"fedadm": {"eta": 1}}}, ["'fedadm'", "'fedadam'"]),
        ({"sampler": "roos"}, ["sampler", "'ros'", "'roos'"]),
        ({"fold": 5}, ["fold", "0 to 4"]),
        ({"folds": 3, "fold": 3}, ["fold", "0 to 2"]),
        ({"seeds": [1, 1]}, ["seeds", "twice"]),
        ({"arms": []}, ["arms", "at least one"]),
        ({"image-size": 31}, ["image-size", "32", "31"]),
        ({"learning-rate": float("nan")}, ["learning-rate", "finite"]),
        ({"learning-rate": "fast"}, ["learning-rate", "'fast'"]),
        ({"sites": 3}, ["sites", "3"]),
        ({"sites": {"north": 3}}, ["sites.north", "3"]),
        ({"sites": {"north": {"reader": "busi"}}}, ["sites.north.path"]),
        ({"sites": {"a/b": {"reader": "busi", "path": "x"}}}, ["'a/b'"]),
        ({"sites": {"..": {"reader": "busi", "path": "x"}}}, ["'..'"]),
        ({"sites": {"pooled": {"reader": "busi", "path": "x"}}}, ["'pooled'"]),
        (
            {"head": "by-class", "arms": ["fedavg", "fedadam", "krum"]},
            ["head=by-class", "(fedavg, fedprox); fedadam, krum are not"],
        ),
        ({"head": "by-class", "arms": ["fedavg", "krum"]}, ["(fedavg, fedprox); krum is not"]),
        ({"batch_norm": "pooled", "arms": ["fedavg", "fedadam", "krum"]}, ["batch-norm=pooled", "with krum:"]),
        ({"quorum": 2, "sites": {"a": {"reader": "busi", "path": "x"}}}, ["quorum", "2 sites", "only 1"]),
        ({"strategy-options": {"fedavg": 3}}, ["strategy-options.fedavg"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_meant(settings, words):
    with pytest.raises(SettingsError) as caught:
        build_settings(settings, "here")
    assert all(word in str(caught.value) for word in ["here", *words])


def test_settings_for_the_sites_contain_no_path_and_no_site_name():
    settings = build_settings(
        {
            "sites": {"secretsite": {"reader": "busi", "path": "/secret/BUSI"}},
            "cache": "/secret/cache", "weights": "/secret/w.pth", "ray-address": "secret:6379", "rounds": 4,
        },
        "here",
    )  # fmt: skip
    sent = settings.for_sites()
    assert "secret" not in sent
    assert json.loads(sent)["rounds"] == 4
    received = Settings.model_validate_json(sent)
    kept = {"sites", "cache", "weights", "ray_address", "workers", "device"}
    assert received.model_dump(exclude=kept) == settings.model_dump(exclude=kept)


def test_as_dict_is_json_that_builds_the_same_settings():
    settings = build_settings({"sites": {"a": {"reader": "busi", "path": "/x"}}, "arms": "fedavg,krum"}, "here")
    text = json.dumps(settings.as_dict(), allow_nan=False)
    assert build_settings(json.loads(text), "there") == settings
    assert not any("_" in key for key in settings.as_dict())


def test_federated_arms_are_the_strategies_in_the_order_named():
    settings = build_settings({"arms": "krum,local,fedavg,centralised"}, "here")
    assert settings.federated_arms == ("krum", "fedavg")
    assert not {"local", "centralised"} & set(STRATEGIES)


def test_settings_are_a_key_of_a_cache():
    values = {
        "sites": {"a": {"reader": "busi", "path": "/x"}, "b": {"reader": "busi", "path": "/y"}},
        "strategy-options": {"fedadam": {"eta": 1, "tau": 0.5}, "fedyogi": {"eta": 0.1}},
    }
    settings, again = build_settings(values, "here"), build_settings(json.loads(json.dumps(values)), "there")
    assert settings is not again
    assert (settings, hash(settings)) == (again, hash(again))
    assert len({settings, again}) == 1
    calls = []
    count = lru_cache(lambda key: calls.append(key) or len(calls))
    assert [count(settings), count(again), count(settings.model_copy(update={"rounds": 7}))] == [1, 1, 2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"sites": {"a": {"reader": "r", "path": "/x"}, "b": {"reader": "r", "path": "/y"}}},
         {"sites": {"b": {"reader": "r", "path": "/y"}, "a": {"reader": "r", "path": "/x"}}}),
        ({"strategy-options": {"fedadam": {"eta": 1}}}, {"strategy-options": {"fedadam": {"eta": 1.0}}}),
        ({"warmup": 0.0}, {"warmup": -0.0}),
    ],
    ids=["order", "number", "sign"],
)  # fmt: skip
def test_settings_that_are_equal_have_one_hash(one, other):
    first, second = build_settings(one, "here"), build_settings(other, "here")
    assert first == second
    assert hash(first) == hash(second)


def test_a_change_after_hashing_is_seen():
    settings = Settings()
    before = hash(settings)
    changed = settings.model_copy(update={"strategy_options": {"fedadam": {"eta": 0.3}}})
    assert hash(changed) != before
    assert hash(changed.model_copy(update={"strategy_options": {}})) == before


def test_every_setting_is_described():
    assert [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")] == []
