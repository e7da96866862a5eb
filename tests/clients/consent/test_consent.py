"""A site runs only the study that its operator has seen, whatever the hub sends or claims."""

import json
from dataclasses import replace
from typing import Any

import pytest

from clients.consent.refusal import Consent
from clients.flower_internals import ErrorCode
from clients.site import studies
from clients.site.folder import SiteFolder
from clients.site.studies import StudyRequest, read_pending, read_request, record_request
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION
from fedbus.deployment.roster import MOST_SITES, roster_line
from fedbus.errors import RunError
from fedbus.settings.schema import Settings
from fedbus.text import is_plain
from fedbus.transport.messages import EVALUATION, Instruction
from fedbus.transport.study import Study
from tests.approved_sites import new_roster
from tests.clients.test_refusal import INSTALLED, OTHERS, SOURCES, digest, fab_of, message_of
from tests.forged import FORGED
from tests.site_folders import make_site
from tests.tiny import tiny_settings

FAB = fab_of(SOURCES)


@pytest.fixture
def site(tmp_path) -> SiteFolder:
    return make_site(tmp_path)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def consent(site, said) -> Consent:
    return Consent(site, INSTALLED, said.append)


def settings(**changes: Any) -> Settings:
    return tiny_settings(**({"arms": ("fedavg",), "seeds": (7,), "sites": {}} | changes))


def instruction(site: SiteFolder, **changes: Any) -> Instruction:
    """What the hub sends in a study of three sites; settings in `changes` replace those of the study."""
    fields = Instruction.__dataclass_fields__.keys() - {"model"}  # the backbone is meant
    own = {key: changes.pop(key) for key in tuple(changes) if key in fields}
    sites = (*OTHERS, roster_line("st-mary", site.public_key.read_text()))
    return replace(Instruction(settings(**changes), 7, (), arm="fedavg", sites=sites), **own)


def ask(consent: Consent, fab=FAB, raw: dict[str, Any] | None = None, **changes: Any):
    """Send an instruction; `raw` replaces keys of it, as a hub could."""
    return consent.refusal_of(fab, message_of(instruction(consent.site, **changes).to_config() | (raw or {})))


def study(site: SiteFolder, fab=FAB, **changes: Any) -> Study:
    return Study.of_instruction(digest(fab), instruction(site, **changes))


def approve(site: SiteFolder, **changes: Any) -> None:
    found = study(site, **changes)
    site.approve_study(found.digest, found.application)


def test_a_study_waits_until_it_is_approved_and_again_after_it_is_withdrawn(consent, site):
    assert ask(consent).code == NOT_ALLOWED
    (waiting,) = read_pending(site.studies, ())
    assert waiting == StudyRequest(study(site), installed=True)
    site.approve_study(waiting.study.digest, waiting.study.application)
    assert ask(consent) is None, "the same process, while the run waits"
    assert read_request(site.studies, waiting.study.digest) == waiting, "kept for `site status`"
    site.withdraw(waiting.study.digest)
    assert list(site.studies.iterdir()) == []
    assert ask(consent).code == NOT_ALLOWED
    assert read_pending(site.studies, ()) == [waiting]


@pytest.mark.parametrize(
    "changes",
    [{"rounds": 9}, {"model": "resnet18"}, {"image_size": 48}, {"seeds": (7, 8)}, {"arms": ("fedavg", "fedprox")},
     {"fold": 1}, {"update_limit": 99}, {"task": EVALUATION}],
    ids=str,
)  # fmt: skip
def test_a_hub_that_sends_other_settings_than_the_approved_ones_is_refused_and_they_are_shown(
    changes, consent, site, said
):
    approve(site)
    refusal = ask(consent, **changes)
    assert refusal.code == NOT_ALLOWED
    (waiting,) = read_pending(site.studies, site.approvals().digests)
    assert waiting.study == study(site, **changes)
    assert any(f"fedbus site approve {site.path} {waiting.study.digest}" in line for line in said)


def test_a_hub_that_sends_another_list_of_sites_or_another_key_is_refused(consent, site):
    approve(site)
    sites = instruction(site).sites
    for other in (sites[1:], (*sites, *new_roster("east")), (*new_roster("north"), *sites[1:])):
        assert ask(consent, sites=other).code == NOT_ALLOWED
    assert len(read_pending(site.studies, site.approvals().digests)) == 3
    assert ask(consent, sites=sites[::-1]) is None, "the order means nothing"


def test_another_application_asks_again(consent, site):
    approve(site)
    other = fab_of(SOURCES | {"fedbus/a.py": b"a = 2\n"})
    assert ask(consent, other).code == NOT_ALLOWED
    (waiting,) = read_pending(site.studies, site.approvals().digests)
    assert (waiting.study.application, waiting.installed) == (digest(other), False)
    site.approve_study(waiting.study.digest, waiting.study.application)
    assert ask(consent, other).code == OTHER_VERSION


def test_what_a_resumed_run_may_change_does_not_ask_again(consent, site):
    approve(site)
    assert ask(consent, bootstrap=77, round_timeout=5.0, threshold="youden") is None


def test_every_arm_seed_and_round_of_an_approved_study_runs(consent, site):
    many = {"arms": ("fedavg", "fedprox"), "seeds": (7, 8)}
    approve(site, **many)
    for seed in (7, 8):
        for arm in ("fedavg", "fedprox"):
            for number in (0, 1, 2):
                assert ask(consent, seed=seed, arm=arm, round=number, title=f"run-{arm}-{seed}", **many) is None


@pytest.mark.parametrize("changes", [{"seed": 8}, {"arm": "krum"}, {"arm": ""}, {"sites": ()}], ids=str)
def test_an_instruction_outside_its_own_settings_is_refused(changes, consent, site):
    approve(site)
    assert ask(consent, **changes).code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert not site.studies.exists()


def test_a_study_that_does_not_list_this_site_with_its_key_is_refused(consent, site, said):
    for sites in (OTHERS, (*OTHERS, *new_roster("st-mary"))):
        refusal = ask(consent, sites=sites)
        assert (refusal.code, refusal.reason) == (
            ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "is not listed with its key among the study's sites"
        )  # fmt: skip
    assert "does not have st-mary with this key" in said[0]
    assert not site.studies.exists()


def test_a_digest_that_the_hub_states_plays_no_part(consent, site):
    approve(site)
    approved = study(site).digest
    assert ask(consent, rounds=9, raw={"study": approved, "digest": approved}).code == NOT_ALLOWED


def test_a_key_listed_twice_or_spelled_otherwise_is_refused(consent, site):
    sites = instruction(site).sites
    twice = (*sites, sites[0].replace("north", "east"))
    assert ask(consent, raw={"sites": list(twice)}).code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION


@pytest.mark.parametrize(
    "raw",
    [
        {"settings": json.dumps({"model": FORGED})},
        {"settings": json.dumps({FORGED: 1})},
        {"settings": "[]"},
        {"arm": FORGED},
        {"title": FORGED},
        {"sites": [f"{FORGED} ecdsa-sha2-nistp384 AAAA"]},
        {"sites": ["north"] * 5000},
        {"task": FORGED},
    ],
    ids=["model", "key", "no settings", "arm", "title", "site", "many sites", "task"],
)
def test_a_study_that_can_not_be_read_is_refused_and_logged_plainly(raw, consent, site, said):
    refusal = ask(consent, raw=raw)
    assert refusal.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert refusal.reason.endswith("see the site's own log")
    assert is_plain(said[0], 1000)
    assert not site.studies.exists()


def test_a_study_that_is_too_large_is_refused_and_not_stored(consent, site, said):
    refusal = ask(consent, seeds=tuple(range(100_000)), seed=7)
    assert refusal.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert "too large" in said[0]
    assert not site.studies.exists()


def test_a_message_of_another_version_names_the_version(site, said):
    newer = fab_of(SOURCES | {"fedbus/new.py": b""})
    refusal = Consent(site, INSTALLED, said.append).refusal_of(newer, message_of())
    assert (refusal.code, said[-1]) == (OTHER_VERSION, "install the hub's version of FedBUS here")


def test_thousands_of_studies_are_bounded_on_disk_and_in_the_log(consent, site, said, monkeypatch):
    monkeypatch.setattr(studies, "MOST_PENDING", 5)
    monkeypatch.setattr("clients.consent.refusal.MOST_PENDING", 5)
    approve(site)
    assert ask(consent) is None
    record_request(site.studies, StudyRequest(study(site), True), ())
    for number in range(101, 160):
        assert ask(consent, rounds=number).code == NOT_ALLOWED
        assert len(read_pending(site.studies, site.approvals().digests)) <= 5
    waiting = [request.study.settings["rounds"] for request in read_pending(site.studies, site.approvals().digests)]
    assert 159 in waiting, "the one that the hub asks about now"
    assert (site.studies / f"{study(site).digest}.json").is_file(), "an approved study stays"
    assert len(said) == 2 * 5 + 2
    assert "more are not announced" in said[-2]


def test_a_stored_study_that_was_changed_is_named_and_stored_again(consent, site):
    ask(consent)
    (path,) = site.studies.iterdir()
    content = json.loads(path.read_text())
    content["study"]["settings"]["rounds"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match="another digest"):
        read_request(site.studies, path.stem)
    ask(consent)
    assert read_request(site.studies, path.stem).study == study(site)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"study": 3, "installed": true}', "x" * (studies.MOST_BYTES + 1)])
def test_a_damaged_study_is_named(content, site):
    path = site.studies / f"{'a' * 64}.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(RunError, match=r"a\.json is damaged.*Delete it"):
        read_request(site.studies, "a" * 64)


def test_a_full_disk_stores_nothing_and_the_hub_waits(consent, site, said, monkeypatch):
    def full(*_: object) -> None:
        raise RunError("The disk is full.", "Free some space.")

    monkeypatch.setattr(studies, "write_json", full)
    assert ask(consent).code == NOT_ALLOWED
    assert said == ["The disk is full. Free some space."]


def test_an_application_that_is_approved_for_any_study_runs_what_the_hub_sends(consent, site):
    site.approve_any_study(digest(FAB))
    assert ask(consent) is None
    assert ask(consent, rounds=9, sites=()) is None
    assert consent.refusal_of(FAB, message_of()) is None
    assert not site.studies.exists()


def test_the_largest_list_of_sites_fits_into_a_file(site):
    sites = {f"{number:0100}": f"SHA256:{number:043}" for number in range(MOST_SITES)}
    large = replace(study(site), sites=sites)
    record_request(site.studies, StudyRequest(large, True), ())
    assert read_request(site.studies, large.digest).study == large
