"""The applications that may run at a site."""

import pytest

from clients.site.folder import open_site_folder
from fedbus.errors import RunError


def test_applications_are_approved_and_withdrawn(site):
    first, second = "a" * 64, "0123456789abcdef" * 4
    assert site.approved() == ()
    for digest in (first, second, first):
        site.approve(digest)
    assert open_site_folder(site.path).approved() == (first, second)
    site.withdraw(first)
    assert site.approved() == (second,)
    with pytest.raises(RunError, match=f"does not approve application {first}.*{second}"):
        site.withdraw(first)


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "sha256:" + "a" * 64])
def test_only_a_digest_can_be_approved(site, digest):
    for method in (site.approve, site.withdraw):
        with pytest.raises(RunError, match="is not the digest of an application"):
            method(digest)
    assert site.approved() == ()


@pytest.mark.parametrize("content", ["{}", '["x"]', "[1]", f'["{"a" * 64}"', '["' + "A" * 64 + '"]'])
def test_a_damaged_list_of_applications_approves_none(site, content):
    (site.path / "approved.json").write_text(content)
    with pytest.raises(RunError, match=r"approved\.json is damaged"):
        site.approved()
    with pytest.raises(RunError, match=r"approved\.json is damaged"):
        site.approve("a" * 64)
    assert (site.path / "approved.json").read_text() == content
