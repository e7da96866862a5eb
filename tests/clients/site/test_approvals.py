"""The studies, and the applications for any study, that may run at a site."""

import json
import threading

import pytest

from clients.site.approvals import ApprovedStudy, approve_study, read_approvals
from clients.site.folder import open_site_folder
from fedbus.errors import RunError

FIRST, SECOND, STUDY = "a" * 64, "0123456789abcdef" * 4, "5" * 64


def test_applications_are_approved_for_any_study_and_withdrawn(site):
    assert site.approvals().digests == ()
    for digest in (FIRST, SECOND, FIRST):
        site.approve_any_study(digest)
    assert open_site_folder(site.path).approvals().applications == (FIRST, SECOND)
    assert site.approvals().allow(FIRST, STUDY)
    site.withdraw(FIRST)
    assert site.approvals().applications == (SECOND,)
    assert not site.approvals().allow(FIRST, STUDY)
    with pytest.raises(RunError, match=f"does not approve {FIRST}.*{SECOND}"):
        site.withdraw(FIRST)


def test_a_study_is_approved_alone(site):
    site.approve_study(STUDY, FIRST)
    site.approve_study(STUDY, FIRST)
    (found,) = site.approvals().studies
    assert (found.study, found.application) == (STUDY, FIRST)
    assert site.approvals().allow(FIRST, STUDY)
    assert not site.approvals().allow(FIRST, "6" * 64)
    assert not site.approvals().allow(STUDY, FIRST), "the digest of a study approves no application"
    site.withdraw(STUDY)
    assert site.approvals().digests == ()


def test_the_list_of_version_0_1_approves_its_applications_for_any_study(site):
    path = site.path / "approved.json"
    path.write_text(json.dumps([FIRST, SECOND]))
    assert site.approvals().applications == (FIRST, SECOND)
    site.approve_study(STUDY, SECOND)
    assert json.loads(path.read_text())[:2] == [FIRST, SECOND]
    site.withdraw(FIRST)
    assert (site.approvals().applications, len(site.approvals().studies)) == ((SECOND,), 1)


@pytest.mark.parametrize("digest", ["", "a" * 63, "a" * 16, "A" * 64, "g" * 64, "a" * 64 + "\n", "sha256:" + "a" * 64])
def test_only_a_whole_digest_is_approved_or_withdrawn(site, digest):
    methods = (
        site.approve_any_study, lambda found: site.approve_study(found, FIRST),
        lambda found: site.approve_study(FIRST, found), site.withdraw,
    )  # fmt: skip
    for method in methods:
        with pytest.raises(RunError, match="is not a digest"):
            method(digest)
    assert site.approvals().digests == ()


@pytest.mark.parametrize(
    "content",
    [
        "{}", '["x"]', "[1]", f'["{"a" * 64}"', '["' + "A" * 64 + '"]', '[{"study": "x"}]',
        json.dumps([{"study": STUDY, "application": FIRST}]),
        json.dumps([{"study": STUDY, "application": FIRST, "approved": "", "more": 1}]),
    ],
)  # fmt: skip
def test_a_damaged_list_approves_nothing(site, content):
    (site.path / "approved.json").write_text(content)
    with pytest.raises(RunError, match=r"approved\.json is damaged"):
        site.approvals()
    with pytest.raises(RunError, match=r"approved\.json is damaged"):
        site.approve_any_study("a" * 64)
    assert (site.path / "approved.json").read_text() == content


def test_approvals_at_the_same_time_are_refused_or_kept(tmp_path):
    path = tmp_path / "approved.json"
    path.write_text("[]")
    kept: list[str] = []
    refused: list[str] = []

    def approve(number: int) -> None:
        study = f"{number:064x}"
        try:
            approve_study(path, study, FIRST)
        except RunError as error:
            refused.append(error.problem)
        else:
            kept.append(study)

    threads = [threading.Thread(target=approve, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    studies = read_approvals(path).studies
    assert kept
    assert all("is being changed" in problem for problem in refused)
    assert sorted(each.study for each in studies) == sorted(kept)
    assert all(isinstance(each, ApprovedStudy) for each in studies)
