"""The wheel contains everything: installed without the repository, it compares phantoms from start to report."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `fedbus` command of an environment that has the wheel and cannot see this checkout.

    The dependencies are those of the environment that runs the tests, added as a plain folder: links from there to a
    checkout (the `.pth` file of an editable installation) are not followed.
    """
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("fedbus-*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    packages = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin" / "fedbus"


def run(command: Path, *words: str, cwd: Path) -> str:
    """Run a command outside the checkout, and return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([command, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_installed_package_is_used(installed, tmp_path):
    code = "import fedbus, server, clients, simulations; print(fedbus.__file__)"
    assert str(ROOT) not in run(installed.with_name("python"), "-c", code, cwd=tmp_path)


def test_phantoms_are_compared_without_the_repository(installed, tmp_path):
    words = ["phantom-images=30", "image-size=32", "model=test_resnet", "weights=none", "rounds=1", "folds=3"]
    words += ["arms=local,centralised,fedavg", "bootstrap=20", f"cache={tmp_path / 'cache'}", "precision=float32"]
    run(installed, "compare", "--out", str(tmp_path / "run"), *(f"--set={word}" for word in words), cwd=tmp_path)
    assert "phantom-a" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
