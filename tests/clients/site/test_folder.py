"""A site's folder: its key pair, the hub's authority, approved applications, settings that keep their comments."""

import shutil
import stat
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import clients.site.folder
import server.hub.certificates
from clients.site.folder import SiteFolder, SiteSettings, init_site, open_site_folder
from clients.site.keys import fingerprint, make_key_pair
from fedbus.errors import RunError, SettingsError
from server.hub.certificates import CertificateAndKey, make_ca, make_server_certificate
from server.hub.site_keys import read_public_key

HUB = "hub.example.org:9092"


@pytest.fixture(scope="module")
def authority() -> CertificateAndKey:
    return make_ca("hub.example.org")


@pytest.fixture
def ca(authority: CertificateAndKey, tmp_path: Path) -> Path:
    path = tmp_path / "downloads" / "ca.crt"
    path.parent.mkdir()
    path.write_bytes(authority.certificate_pem)
    return path


@pytest.fixture
def site(ca: Path, tmp_path: Path) -> SiteFolder:
    return init_site(tmp_path / "site", "st-mary", HUB, ca, runtime_port=9194)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_site_holds_what_it_needs_and_keeps_its_key_to_itself(site, authority):
    assert {path.name for path in site.path.iterdir()} == {
        "site.toml", "site.key", "st-mary.pub", "ca.crt", "approved.json"
    }  # fmt: skip
    assert (mode(site.path), mode(site.key)) == (0o700, 0o600)
    assert site.ca_certificate.read_bytes() == authority.certificate_pem
    assert {path.name for path in site.path.parent.iterdir()} == {"downloads", "site"}


def test_what_was_asked_for_is_what_is_opened(site):
    assert open_site_folder(site.path) == site
    assert site.settings == SiteSettings(name="st-mary", hub=HUB, runtime_port=9194)
    assert (site.settings.reader, site.settings.data, site.settings.device) == ("", "", "auto")


def test_the_hub_reads_from_the_public_key_what_the_site_shows(site):
    assert read_public_key(site.public_key) == ("st-mary", fingerprint(site.key))


def test_ssh_keygen_reads_both_halves(site):
    program = shutil.which("ssh-keygen")
    if not program:
        pytest.skip("no ssh-keygen on this machine")
    shown = subprocess.run([program, "-lf", site.public_key], capture_output=True, text=True, timeout=20, check=True)
    assert shown.stdout.split() == ["384", fingerprint(site.key), "st-mary", "(ECDSA)"]
    derived = subprocess.run([program, "-yf", site.key], capture_output=True, text=True, timeout=20, check=True)
    assert derived.stdout.split() == site.public_key.read_text().split()[:2]


def test_every_key_of_the_settings_file_has_a_comment(site):
    text = site.settings_file.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert set(tomllib.loads(text)) == {"name", "hub", "reader", "data", "device", "runtime-port"}
    for index, line in enumerate(lines):
        assert not line or line.startswith("#") or lines[index - 1].startswith("# ")


def test_a_folder_that_holds_anything_is_left_alone(site, ca):
    before = {path: path.read_bytes() for path in site.path.iterdir()}
    with pytest.raises(RunError, match="is not empty"):
        init_site(site.path, "north", HUB, ca)
    assert {path: path.read_bytes() for path in site.path.iterdir()} == before


def test_a_site_that_can_not_be_finished_is_not_begun(tmp_path, ca, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clients.site.folder, "settings_file_text", fail)
    with pytest.raises(RunError, match=r"site could not be made \(No space left on device\)"):
        init_site(tmp_path / "site", "north", HUB, ca)
    assert list(tmp_path.iterdir()) == [ca.parent]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "st mary"}, "name: 'st mary' can't name a folder"),
        ({"name": "../x"}, r"name: '\.\./x' can't name a folder"),
        ({"name": "pooled"}, "name: 'pooled' means several sites"),
        ({"hub": "hub.example.org"}, "hub: 'hub.example.org' does not end in a port"),
        ({"hub": "https://hub:9092"}, "hub: 'https://hub:9092' is no HOST:PORT"),
        ({"hub": "hub:0"}, "hub: 'hub:0' does not end in a port"),
        ({"runtime_port": 70000}, "runtime-port: .*less than or equal to 65535, not 70000"),
    ],
)
def test_settings_that_can_not_work_make_no_site(tmp_path, ca, changes, words):
    with pytest.raises(SettingsError, match=words):
        init_site(tmp_path / "site", **{"name": "north", "hub": HUB, "ca": ca} | changes)
    assert not (tmp_path / "site").exists()


def expired(**when: object) -> bytes:
    """An authority's certificate with other dates."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in when.items():
            patch.setattr(server.hub.certificates, name, value)
        return make_ca("hub").certificate_pem


def self_signed(authority: CertificateAndKey, *extensions: x509.ExtensionType) -> bytes:
    """A certificate signed by itself with these extensions alone."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, authority.key.public_key(), 1, now, now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(authority.key, authority.certificate.signature_hash_algorithm).public_bytes(Encoding.PEM)


MAY_SIGN, MAY_NOT_SIGN = (server.hub.certificates._usage(certificates=value) for value in (True, False))
NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
AN_AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda a: a.key_pem, "holds a private key, which must never leave"),
        (lambda a: a.certificate_pem + a.key_pem, "holds a private key"),
        (lambda a: make_server_certificate(a, ("hub",)).certificate_pem, "not the certificate of an authority"),
        (self_signed, "not the certificate of an authority"),
        (lambda a: self_signed(a, AN_AUTHORITY), "not the certificate of an authority"),
        (lambda a: self_signed(a, AN_AUTHORITY, MAY_NOT_SIGN), "not the certificate of an authority"),
        (lambda a: self_signed(a, NO_AUTHORITY, MAY_SIGN), "not the certificate of an authority"),
        (lambda a: a.certificate_pem * 2, "holds 2 certificates, not one"),
        (lambda a: a.certificate.public_bytes(Encoding.DER), "holds no certificate in PEM"),
        (lambda a: a.certificate_pem[:300], "holds no certificate in PEM"),
        (lambda _: b"", "holds no certificate in PEM"),
        (lambda _: expired(AUTHORITY_LIFE=timedelta(seconds=-60)), "expired on 20"),
        (lambda _: expired(BACKDATED=timedelta(hours=-1)), "is valid from .* and here it is"),
    ],
)
def test_only_an_authority_s_valid_certificate_is_trusted(tmp_path, authority, content, words):
    (tmp_path / "ca.crt").write_bytes(content(authority))
    with pytest.raises(RunError, match=rf"ca\.crt .*{words}"):
        init_site(tmp_path / "site", "north", HUB, tmp_path / "ca.crt")
    assert not (tmp_path / "site").exists()


def test_an_authority_signed_by_another_is_not_trusted(tmp_path, authority):
    other = make_ca("other")
    forged = CertificateAndKey(authority.certificate, other.key)  # names the authority as issuer, but holds another key
    with pytest.MonkeyPatch.context() as patch:
        usage = server.hub.certificates._usage
        patch.setattr(server.hub.certificates, "_usage", lambda certificates: usage(certificates=True))
        constraints = x509.BasicConstraints
        patch.setattr(x509, "BasicConstraints", lambda ca, path_length: constraints(ca=True, path_length=None))
        (tmp_path / "ca.crt").write_bytes(make_server_certificate(forged, ("hub",)).certificate_pem)
    with pytest.raises(RunError, match="not signed by itself"):
        init_site(tmp_path / "site", "north", HUB, tmp_path / "ca.crt")


def test_words_around_the_certificate_are_not_copied(tmp_path, ca, authority):
    ca.write_bytes(b"From: the hub\n" + authority.certificate_pem + b"\nRegards\n")
    assert init_site(tmp_path / "s", "north", HUB, ca).ca_certificate.read_bytes() == authority.certificate_pem


def test_applications_are_approved_and_withdrawn(site):
    first, second = "a" * 64, "0123456789abcdef" * 4
    assert site.approved() == ()
    for digest in (first, second, first):
        site.approve(digest)
    assert open_site_folder(site.path).approved() == (first, second)
    site.withdraw(first)
    assert site.approved() == (second,)
    with pytest.raises(RunError, match=f"approves no application {first}.*{second}"):
        site.withdraw(first)


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "sha256:" + "a" * 64])
def test_what_is_no_digest_is_not_approved(site, digest):
    for method in (site.approve, site.withdraw):
        with pytest.raises(RunError, match="is no application's digest"):
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


def test_data_are_named_and_every_comment_stays(site, tmp_path):
    data = tmp_path / 'data "2026" # é\\x'
    data.mkdir()
    before = site.settings_file.read_text(encoding="utf-8")
    before = before.replace('reader = ""', '  reader  =  ""  # ours')
    site.settings_file.write_text(before.replace('"auto"', '"cpu"') + "\n# the end\n", encoding="utf-8")
    changed = site.with_data("labels-csv", data)
    assert changed == open_site_folder(site.path)
    assert (changed.settings.reader, changed.settings.data) == ("labels-csv", str(data))
    assert (changed.settings.device, changed.settings.name) == ("cpu", "st-mary")
    text = site.settings_file.read_text(encoding="utf-8")
    assert '  reader  =  "labels-csv"  # ours' in text
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line.startswith("#")] == [*comments, "# the end"]
    assert changed.with_data("busi", tmp_path).settings.data == str(tmp_path)


def test_a_key_that_was_left_out_is_added(site, tmp_path):
    text = site.settings_file.read_text(encoding="utf-8")
    site.settings_file.write_text(text.replace('data = ""\n', ""), encoding="utf-8")
    site.with_data("busi", tmp_path)
    assert open_site_folder(site.path).settings.data == str(tmp_path)


@pytest.mark.parametrize("value", ['"""\n"""', "''''''"])
def test_a_value_of_several_lines_is_replaced(site, tmp_path, value):
    text = site.settings_file.read_text(encoding="utf-8").replace('reader = ""', f"reader = {value}  # ours")
    site.settings_file.write_text(text, encoding="utf-8")
    site.with_data("busi", tmp_path)
    assert open_site_folder(site.path).settings.reader == "busi"
    assert 'reader = "busi"  # ours' in site.settings_file.read_text(encoding="utf-8")


def test_data_that_can_not_be_read_are_not_named(site, tmp_path):
    before = site.settings_file.read_bytes()
    with pytest.raises(SettingsError, match="there is no reader 'busy'; readers are busi"):
        site.with_data("busy", tmp_path)
    with pytest.raises(SettingsError, match="reader and data: both or neither"):
        site.with_data("", tmp_path)
    with pytest.raises(RunError, match="missing is no folder"):
        site.with_data("busi", tmp_path / "missing")
    assert site.settings_file.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("runtime-port = 9194", "runtime-prot = 9194", r"site\.toml: unknown key 'runtime-prot'"),
        ('device = "auto"', 'device = "tpu"', r"device: .*'auto', 'cpu' or 'cuda'.*, not 'tpu'"),
        ('data = ""', 'data = "/data"', "reader and data: both or neither"),
        ('data = ""', 'data = "data"', "data: 'data' is not an absolute path"),
        (f'hub = "{HUB}"', "", r"site\.toml: hub is missing"),
        ('name = "st-mary"', "name = st-mary", r"site\.toml is not a TOML file"),
    ],
)
def test_malformed_settings_are_named(site, old, new, words):
    text = site.settings_file.read_text(encoding="utf-8")
    assert text.count(f"\n{old}") == 1
    site.settings_file.write_text(text.replace(f"\n{old}", f"\n{new}"), encoding="utf-8")
    with pytest.raises(SettingsError, match=words):
        open_site_folder(site.path)


@pytest.mark.parametrize("name", ["site.toml", "site.key", "st-mary.pub", "ca.crt", "approved.json"])
def test_a_missing_file_is_named(site, name):
    (site.path / name).unlink()
    with pytest.raises(RunError, match=rf"site/{name} is not there"):
        open_site_folder(site.path)


def test_a_key_that_others_can_read_is_refused_with_the_remedy(site):
    site.key.chmod(0o644)
    with pytest.raises(RunError, match=r"site\.key is secret, and others can read it \(mode 644\)") as caught:
        open_site_folder(site.path)
    subprocess.run(caught.value.remedy.split("`")[1], shell=True, check=True)
    assert open_site_folder(site.path) == site


def test_a_name_other_than_the_key_s_is_refused(site):
    text = site.settings_file.read_text(encoding="utf-8")
    site.settings_file.write_text(text.replace('"st-mary"', '"st-paul"'), encoding="utf-8")
    with pytest.raises(RunError, match=r"st-paul\.pub is not there.*put the former name back"):
        open_site_folder(site.path)


def test_halves_of_two_key_pairs_are_refused(site, tmp_path):
    make_key_pair(tmp_path / "other.key", tmp_path / "other.pub", "st-mary")
    shutil.copy(tmp_path / "other.pub", site.public_key)
    with pytest.raises(RunError, match=r"st-mary\.pub is not the public half of .*site\.key"):
        open_site_folder(site.path)
