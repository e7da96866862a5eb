"""The public Python module: tables agree with the run's files, and every example of docs/python.md runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus import api
from fedbus.errors import RunError, SettingsError
from fedbus.evaluation.predictions import Predictions
from fedbus.images.decode import decode_image
from fedbus.runs.folder import read_settings
from fedbus.sites.site import open_site
from fedbus.system.files import read_json
from tests.archives import make_labels_csv

PAGE = Path(__file__).resolve().parents[1] / "docs/python.md"


def test_every_example_of_the_page_runs(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/compare").symlink_to(trained_run)
    make_labels_csv(tmp_path / "outside", {"benign": 12, "malignant": 9}, seed=77)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "fedavg" in capsys.readouterr().out
    with Image.open("headline.png") as figure:
        assert figure.format == "PNG"


def test_only_documented_names_are_public() -> None:
    page = PAGE.read_text(encoding="utf-8")
    functions = {name for name in api.__all__ if name.islower()}
    assert [name for name in functions if name not in page] == []
    assert all(getattr(api, name).__doc__ for name in api.__all__ if name != "CLASSES")


def test_tables_are_those_of_the_results(trained_run: Path) -> None:
    run, results = api.load_run(trained_run), read_json(trained_run / "results.json")
    table = run.metrics()
    rows = list(zip(*(table[key] for key in ("arm", "site", "metric", "label", "low")), strict=True))
    for arm, places in results["arms"].items():
        assert (arm, "all", "auc", "", places["all"]["auc"]["low"]) in rows
        benign = places["all"]["sensitivity"]["benign"]
        assert (arm, "all", "sensitivity", "benign", benign["low"]) in rows
    assert len(run.differences()["value"]) == len(results["differences"])
    assert run.history("fedavg")["round"] == [1, 2]
    found = Predictions.from_csv(trained_run / "arms/fedavg/predictions.csv")
    assert run.predictions("fedavg")["malignant"] == found.probabilities[:, 1].tolist()


def test_arrays_and_files_are_prepared_as_in_training(trained_run: Path, tmp_path: Path) -> None:
    site = open_site(trained_run, "north")
    source = read_settings(trained_run).sites["north"].path
    files = [source / path for path in site.paths[site.splits["test"]]]
    model = api.load_model(trained_run / "arms/fedavg", site="north")
    calibration = model.applied.folder.facts.calibration
    assert calibration is not None
    expected = calibration.apply(
        Predictions.from_csv(trained_run / "arms/fedavg/predictions.csv").select("north").probabilities
    )
    np.testing.assert_array_equal(model.predict(files), expected)
    arrays = [np.asarray(decode_image(file)) for file in files]
    np.testing.assert_array_equal(model.predict(arrays), expected)


def test_what_cannot_be_used_is_named(trained_run: Path, tmp_path: Path) -> None:
    run = api.load_run(trained_run)
    with pytest.raises(RunError, match="'fedavgg'") as caught:
        run.history("fedavgg")
    assert "fedavg" in caught.value.remedy
    with pytest.raises(RunError, match=r"results\.json is missing"):
        api.load_run(tmp_path)
    model = api.load_model(trained_run / "arms/centralised")
    with pytest.raises(SettingsError, match=r"\(8, 8, 3\)"):
        model.predict([np.zeros((8, 8, 3), dtype=np.uint8)])
    assert model.predict([]).shape == (0, 3)


def test_a_single_path_is_not_read_letter_by_letter(trained_run: Path, tmp_path: Path) -> None:
    source = read_settings(trained_run).sites["north"].path
    file = next(iter(sorted(source.rglob("*.png"))))
    model = trained_run / "arms/centralised"
    rows = api.predict(model, str(file), tmp_path / "predictions")
    assert len(rows["file"]) == 1
    assert api.load_model(model).predict(str(file)).shape == (1, 3)
    with pytest.raises(SettingsError, match="no format 'onx'"):
        api.export(model, "onx", tmp_path / "bundle")  # type: ignore[arg-type]
