"""A site's operator can demand how a study protects what leaves the site."""

import pytest

from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError
from clients.limits.study import check_study
from clients.site.folder import open_site_folder
from fedbus.errors import SettingsError
from fedbus.settings.load import build_settings
from tests.site_folders import make_site

SECURE = {"privacy": "secure-aggregation", "quorum": 3}
DIFFERENTIAL = {"dp-epsilon": 8.0, "model": "test_efficientnet_gn"}


def check(required: str, changes: dict, *, training: bool = True) -> None:
    limits = Limits.model_validate({"require-privacy": required})
    check_study(build_settings({"model": "test_resnet"} | changes, "the hub"), limits, training=training)


@pytest.mark.parametrize("required", ["secure-aggregation", "both"])
def test_a_training_in_the_clear_is_refused_by_name(required):
    with pytest.raises(RefusedError, match=f"privacy = none, against this site's require-privacy = {required}"):
        check(required, {})


@pytest.mark.parametrize("required", ["secure-aggregation", "both"])
def test_an_evaluation_of_a_given_model_is_refused_with_the_reason_whatever_its_settings(required):
    with pytest.raises(RefusedError, match="an evaluation of a given model sends counts of this site alone"):
        check(required, SECURE, training=False)


def test_the_demanded_mode_is_accepted():
    check("secure-aggregation", SECURE)
    check("none", {})
    check("none", SECURE)
    check("none", {}, training=False)
    check("differential-privacy", DIFFERENTIAL)
    check("both", SECURE | DIFFERENTIAL)


@pytest.mark.parametrize("required", ["differential-privacy", "both"])
def test_a_training_without_differential_privacy_is_refused_by_name(required):
    with pytest.raises(RefusedError, match=r"dp-epsilon = 0 .*, against this site's require-privacy"):
        check(required, SECURE)
    with pytest.raises(RefusedError, match="privacy = none, against this site's require-privacy = both"):
        check("both", DIFFERENTIAL)


def test_an_evaluation_sends_no_weights_that_differential_privacy_would_protect():
    check("differential-privacy", {}, training=False)


def test_an_unknown_mode_in_site_toml_is_named(tmp_path):
    site = make_site(tmp_path)
    text = site.settings_file.read_text()
    site.settings_file.write_text(text.replace('require-privacy = "none"', 'require-privacy = "some"'))
    with pytest.raises(SettingsError, match="require-privacy"):
        open_site_folder(site.path)
    site.settings_file.write_text(text.replace('require-privacy = "none"\n', ""))
    assert open_site_folder(site.path).settings.limits.require_privacy == "none", "a file of an earlier version"
