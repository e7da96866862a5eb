"""A hub's CA, and a site's folder of that hub."""

from pathlib import Path

import pytest

from clients.site.folder import SiteFolder, init_site
from server.hub.certificates import CertificateAndKey, make_ca
from tests.site_folders import HUB


@pytest.fixture(scope="module")
def ca() -> CertificateAndKey:
    return make_ca("hub.example.org")


@pytest.fixture
def ca_file(ca: CertificateAndKey, tmp_path: Path) -> Path:
    """The ca.crt that a site has received."""
    path = tmp_path / "downloads" / "ca.crt"
    path.parent.mkdir()
    path.write_bytes(ca.certificate_pem)
    return path


@pytest.fixture
def site(ca_file: Path, tmp_path: Path) -> SiteFolder:
    return init_site(tmp_path / "site", "st-mary", HUB, ca_file, runtime_port=9194)
