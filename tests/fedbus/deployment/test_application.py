"""The bundle that operators approve: its digest, what it contains, and how it differs from what is installed."""

import hashlib
import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedbus.deployment.application import (
    MAX_UNPACKED_BYTES,
    PACKAGES,
    ROOT,
    differing_files,
    digest_of,
    installed_files,
)
from server.hub.bundle import application_folder, stage_application
from server.hub.folder import init_hub

FILES = {"fedbus/a.py": b"a = 1\n", "server/b.py": b"b = 2\n", "clients/c/d.py": b"d = 3\n"}
INSTALLED = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, bytes]:
    """The staged folder, its digest, and the bundle that Flower makes of it."""
    hub = init_hub(tmp_path_factory.mktemp("hub") / "hub", "127.0.0.1")
    leftover = application_folder(hub) / "fedbus" / "leftover.py"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("of an older version")
    folder, digest = stage_application(hub)
    return folder, digest, build_fab_from_disk(folder)


def test_the_staged_bundle_is_what_is_installed_and_its_digest_that_of_its_bytes(staged):
    _, digest, bundle = staged
    assert digest == digest_of(bundle) == hashlib.sha256(bundle).hexdigest()
    assert differing_files(bundle, installed_files()) == []


def test_the_bundle_contains_sources_and_nothing_else_of_this_machine(staged):
    with zipfile.ZipFile(io.BytesIO(staged[2])) as archive:
        names = set(archive.namelist())
        project = tomllib.loads(archive.read("pyproject.toml").decode())
    sources = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    others = names - sources
    assert {"pyproject.toml"} <= others <= {"pyproject.toml", ".info/CONTENT"}
    assert names >= sources
    assert "fedbus/leftover.py" not in names
    assert project["tool"]["flwr"]["app"]["components"]["clientapp"] == "clients.app:app"


def test_staging_twice_gives_the_same_digest(staged):
    folder, digest, _ = staged
    assert digest_of(build_fab_from_disk(folder)) == digest


def test_every_source_file_of_the_application_counts():
    found = installed_files()
    for package in PACKAGES:
        paths = list((ROOT / package).rglob("*.py"))
        assert len(paths) > 5, package
        for path in paths:
            assert found[path.relative_to(ROOT).as_posix()] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {name.partition("/")[0] for name in found} == set(PACKAGES)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, []),
        ({"fedbus/a.py": b"a = 2\n"}, ["fedbus/a.py"]),
        ({"fedbus/a.py": None}, ["fedbus/a.py"]),
        ({"fedbus/more.py": b""}, ["fedbus/more.py"]),
        ({"sitecustomize.py": b"import os\n"}, ["sitecustomize.py"]),
        ({"server/b.py": b"", "clients/c/d.py": None, "x.py": b""}, ["clients/c/d.py", "server/b.py", "x.py"]),
        ({"pyproject.toml": b"[project]", ".info/CONTENT": b"a,b", "fedbus/notes.md": b"#"}, []),
    ],
    ids=["equal", "changed", "missing", "extra", "extra at the top", "several", "other files"],
)
def test_files_that_differ_are_named(change, named):
    files = {name: content for name, content in (FILES | change).items() if content is not None}
    assert differing_files(zipped(files), INSTALLED) == named


@pytest.mark.parametrize("cut", [0, 1, 30, -10], ids=str)
def test_a_bundle_that_is_not_an_archive_differs_as_a_whole(cut):
    assert differing_files(zipped(FILES)[:cut], INSTALLED) == ["the whole bundle"]


def test_a_bundle_that_would_fill_the_memory_is_not_unpacked(monkeypatch):
    monkeypatch.setattr("zipfile.ZipFile.read", lambda *_: pytest.fail("unpacked"))
    bomb = zipped(FILES | {"clients/zeros.py": b"0" * (MAX_UNPACKED_BYTES + 1)})
    assert len(bomb) < 1 << 20
    assert differing_files(bomb, INSTALLED) == ["the whole bundle"]


def test_no_damaged_byte_goes_unseen_or_escapes_as_another_error():
    files = {"fedbus/a.py": b"".join(b"value_%d = %d\n" % (i, i * i) for i in range(60))}
    installed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    whole = zipped(files)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        start = archive.getinfo("fedbus/a.py").header_offset + 30 + len("fedbus/a.py")
        stop = start + archive.getinfo("fedbus/a.py").compress_size
    for place in range(start, stop - 1):  # the last byte ends in unused bits
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        assert differing_files(damaged, installed) == ["the whole bundle"], place
