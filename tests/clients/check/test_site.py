"""`fedbus site check` from start to end: what it prints and writes, and that it reveals no names."""

import io
import json
import shutil
from collections import Counter

import pytest
from rich.console import Console

import clients.check.hub as hub_module
from clients.check.site import check_site
from clients.site.folder import SiteFolder, open_site_folder
from clients.site.hub_contact import Contact
from fedbus.errors import SettingsError
from fedbus.sites import decoding
from simulations.local_federation import lower_limits
from tests.archives import make_labels_csv, write_table
from tests.site_folders import make_site
from tests.tiny import tiny_settings

SETTINGS = tiny_settings(folds=3)
COUNTS = {"benign": 12, "malignant": 12, "normal": 12}
DIGEST = "ab" * 32


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=100)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "ask_hub", lambda asked: Contact(True, skew=0.1, approved=True))
    site = lower_limits(make_site(tmp_path))
    site.approve_any_study(DIGEST)
    return site


def printed(console):
    return " ".join(console.file.getvalue().split())


def result(site):
    return json.loads((site.path / "check.json").read_text())


def test_a_site_that_can_join(site, console, tmp_path):
    dataset = make_labels_csv(tmp_path / "bus", COUNTS)
    before, files = site.settings_file.read_text(), set(site.path.iterdir())

    assert check_site(site, ("labels-csv", dataset), SETTINGS, console) == 0

    assert f"✔ Next: fedbus site join {site.path}" in printed(console)
    assert "st-mary: 20 pass, 1 warn, 0 fail" in printed(console)
    found = result(site)
    assert (found["site"], found["ready"], found["settings"]["model"]) == ("st-mary", True, "test_resnet")
    assert [f["topic"] for f in found["findings"] if f["verdict"] != "pass"] == ["Notes"]  # few images of a class
    reopened = open_site_folder(site.path)
    assert (reopened.settings.reader, reopened.settings.data) == ("labels-csv", str(dataset))
    assert before != site.settings_file.read_text()

    again = Console(file=io.StringIO(), width=100)
    assert check_site(reopened, None, SETTINGS, again) == 0  # the data are known now
    assert {path.name for path in set(site.path.iterdir()) - files} == {"cache", "check.json"}


def test_every_image_is_decoded_once(site, console, tmp_path, monkeypatch):
    decoded = Counter()
    decode = decoding.decode_image
    monkeypatch.setattr(decoding, "decode_image", lambda path: decoded.update([path.name]) or decode(path))
    assert check_site(site, ("labels-csv", make_labels_csv(tmp_path / "bus", COUNTS)), SETTINGS, console) == 0
    assert len(decoded) == sum(COUNTS.values())
    assert set(decoded.values()) == {1}


def test_a_site_with_warnings_can_join(site, console, tmp_path):
    dataset = make_labels_csv(tmp_path / "bus", {"benign": 12, "malignant": 12}, patients=False)
    site.withdraw(DIGEST)
    assert check_site(site, ("labels-csv", dataset), SETTINGS, console) == 0
    assert [f["topic"] for f in result(site)["findings"] if f["verdict"] == "warn"] == [
        "Class normal", "Patients", "Notes", "Studies"
    ]  # fmt: skip
    assert open_site_folder(site.path).settings.data


def test_data_that_cannot_be_used_are_not_remembered(site, console, tmp_path):
    dataset = make_labels_csv(tmp_path / "my bus", COUNTS)
    (dataset / "scans" / "benign-0.png").write_bytes(b"")

    assert check_site(site, ("labels-csv", dataset), SETTINGS, console) == 1

    assert (result(site)["ready"], open_site_folder(site.path).settings.data) == (False, "")
    text = printed(console)
    assert "✘ Fix Files, then check again." in text
    assert f"fedbus check 'st-mary=labels-csv:{dataset}' --out private.json" in text
    assert "fedbus site join" not in text


def test_usable_data_are_remembered_though_the_hub_does_not_answer(site, console, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "ask_hub", lambda asked: Contact(False, problem="no answer"))
    dataset = make_labels_csv(tmp_path / "bus", COUNTS)
    assert check_site(site, ("labels-csv", dataset), SETTINGS, console) == 1
    assert "✘ Fix Hub, then check again." in printed(console)
    assert open_site_folder(site.path).settings.data == str(dataset)


def test_a_split_that_fails(site, console, tmp_path):
    dataset = make_labels_csv(tmp_path / "bus", COUNTS | {"normal": 4})
    assert check_site(site, ("labels-csv", dataset), SETTINGS, console) == 1
    (split,) = [f for f in result(site)["findings"] if f["topic"] == "Split"]
    assert (split["verdict"], split["found"][:29]) == ("fail", "normal has only 2 group(s) (p")


@pytest.mark.parametrize("reader", ["busi", "labels-csv"])
def test_a_dataset_that_cannot_be_read(site, console, tmp_path, reader):
    dataset = tmp_path / "bus"
    if reader == "busi":
        make_labels_csv(dataset, COUNTS)
    assert check_site(site, (reader, dataset), SETTINGS, console) == 1
    assert "✘ Fix Files, then check again." in printed(console)
    assert [f["verdict"] for f in result(site)["findings"] if f["topic"] == "Hub"] == [
        "pass"
    ]  # all other checks are made


def test_a_full_disk_is_not_filled_further(site, console, tmp_path, monkeypatch):
    dataset = make_labels_csv(tmp_path / "bus", COUNTS)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    assert check_site(site, ("labels-csv", dataset), SETTINGS, console) == 1
    verdicts = {f["topic"]: f["verdict"] for f in result(site)["findings"]}
    assert (verdicts["Disk"], verdicts["Split"], verdicts["Round"]) == ("fail", "warn", "warn")
    assert not site.cache.exists()
    assert open_site_folder(site.path).settings.data == ""


def test_the_folder_of_the_images_is_unknown(site, console):
    with pytest.raises(SettingsError, match="does not name the folder of st-mary's images") as error:
        check_site(site, None, SETTINGS, console)
    assert error.value.remedy == f"Run: fedbus site check {site.path} --data READER=FOLDER"


def test_misspelt_names_stop_before_any_work(site, console, tmp_path):
    with pytest.raises(SettingsError, match="Did you mean labels-csv"):
        check_site(site, ("labels-cvs", tmp_path), SETTINGS, console)
    with pytest.raises(SettingsError, match="no model called"):
        check_site(site, ("labels-csv", tmp_path), tiny_settings(model="resnot"), console)
    assert not (site.path / "check.json").exists()


SECRETS = ("MRN-7731", "jane-doe", "secret-scan", "private-folder")


@pytest.mark.parametrize("damage", ["none", "unreadable", "unlisted", "few"])
def test_no_name_of_a_patient_or_file_leaves(site, console, tmp_path, caplog, damage):
    dataset = make_labels_csv(tmp_path / "private-folder", COUNTS)
    rows = []
    for i, file in enumerate(sorted((dataset / "scans").iterdir())):
        label = file.name.partition("-")[0]
        renamed = file.rename(file.with_name(f"secret-scan-{i}-jane-doe.png"))
        rows.append((f"scans/{renamed.name}", label, f"MRN-7731-{label if damage == 'few' else i}"))
    copy = dataset / "scans" / "secret-scan-copy.png"
    shutil.copy(dataset / "scans" / "secret-scan-0-jane-doe.png", copy)
    if damage != "unlisted":  # else an error of the reader names it
        rows.append((f"scans/{copy.name}", "normal", "MRN-7731-copy"))
    write_table(dataset / "labels.csv", ("file", "label", "patient"), rows)
    if damage == "unreadable":
        (dataset / "scans" / "secret-scan-1-jane-doe.png").write_bytes(b"")

    with caplog.at_level(0):
        code = check_site(site, ("labels-csv", dataset), SETTINGS, console)

    assert code == (damage != "none")
    text = (site.path / "check.json").read_text()
    verdicts = {f["topic"]: f["verdict"] for f in json.loads(text)["findings"]}
    assert verdicts.get("Two labels") == ("warn" if damage != "unlisted" else None)
    assert {"unreadable": "Files", "unlisted": "Files", "few": "Split"}.get(damage) in (None, *(
        topic for topic, verdict in verdicts.items() if verdict == "fail"
    ))  # fmt: skip
    table = printed(console).partition("Which images:")[0]
    for secret in SECRETS:
        assert secret not in text
        assert secret not in caplog.text
        assert secret not in table
    assert not list(site.path.rglob("*.csv"))


def test_what_the_sites_own_limits_refuse_is_said_before_it_joins(site, console, tmp_path):
    strict = site.settings.limits.model_copy(update={"min_images": 3, "max_rounds": 2})
    site = SiteFolder(site.path, site.settings.model_copy(update={"limits": strict}))
    assert check_site(site, ("labels-csv", make_labels_csv(tmp_path / "bus", COUNTS)), SETTINGS, console) == 1
    found = {each["topic"]: each for each in result(site)["findings"] if each["verdict"] == "fail"}
    assert found.keys() == {"Limits", "Split"}
    assert "rounds = 3, above this site's max-rounds = 2" in found["Limits"]["found"]
    assert "fewer benign images in validation than this site's min-images = 3" in found["Split"]["found"]
