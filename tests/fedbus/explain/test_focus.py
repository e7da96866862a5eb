"""`fedbus explain RUN --masks`: the models of a run, and random weights, against the area of the lesions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fedbus.errors import ImageError, RunError
from fedbus.explain.energy import energy_shares
from fedbus.explain.focus import DRAWS, FOCUS_FILE, measure_focus
from fedbus.explain.focus_table import focus_table
from fedbus.explain.grad_cam import compute_maps
from fedbus.explain.randomised import randomise
from fedbus.explain.spatial_layer import spatial_layer_of
from fedbus.model_folder.apply import open_model
from fedbus.model_folder.read import read_model
from fedbus.runs.folder import read_settings
from fedbus.settings.schema import Settings
from fedbus.sites.site import open_site
from fedbus.system.csv_file import read_csv
from fedbus.text import NOT_A_DEVICE
from tests.archives import write_table

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def outlined_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run, one of whose sites has a mask of every image: a bar whose height depends on the image."""
    root = tmp_path_factory.mktemp("outlined")
    run = Path(shutil.copytree(trained_run, root / "run"))
    content = json.loads((run / "settings.json").read_text())
    south = Path(shutil.copytree(content["sites"]["south"]["path"], root / "south"))
    header, *rows = read_csv((south / "labels.csv").read_text())
    (south / "masks").mkdir()
    for number, row in enumerate(rows):
        with Image.open(south / row[0]) as image:
            mask = np.zeros((image.height, image.width), dtype=np.uint8)
        mask[: len(mask) * (number % 5) // 4] = 255  # every fifth is empty, every fifth is full
        row.append(f"masks/{number}.png")
        Image.fromarray(mask).save(south / row[-1])
    write_table(south / "labels.csv", (*header, "mask"), [tuple(row) for row in rows])
    content["sites"]["south"]["path"] = str(south)
    (run / "settings.json").write_text(json.dumps(content))
    return run


@pytest.fixture(scope="module")
def focus(outlined_run: Path) -> dict:
    """What is measured in it."""
    measure_focus(outlined_run, None, QUIET)
    return json.loads((outlined_run / "explained" / FOCUS_FILE).read_text())


def test_every_arm_is_measured_where_it_has_a_model_and_images_have_masks(focus: dict, trained_run: Path) -> None:
    site = open_site(trained_run, "south")
    tested = len(site.splits["test"])
    assert set(focus["arms"]) == {"local", "centralised", "fedavg", "fedavg-tuned"}
    assert focus["not_a_device"] == NOT_A_DEVICE
    without = focus["left_out"]["south"]["without_lesion_mask"]
    assert focus["left_out"]["north"]["without_lesion_mask"] == len(open_site(trained_run, "north").splits["test"])
    for found in focus["arms"].values():
        assert set(found) == {"south", "all"}
        assert found["south"] == found["all"]
        assert found["south"]["images"] + without == tested
        for name in ("trained", "randomised", "area", "largest"):
            assert (
                0 <= found["south"][name]["low"] <= found["south"][name]["value"] <= found["south"][name]["high"] <= 1
            )


def test_the_shares_are_those_of_the_arms_own_maps(focus: dict, outlined_run: Path) -> None:
    """Against one image at a time, with masks read here."""
    site, settings = open_site(outlined_run, "south"), read_settings(outlined_run)
    root, layer = settings.sites["south"].path, spatial_layer_of(settings.model, settings.image_size)
    mask_of = {row[0]: row[-1] for row in read_csv((root / "labels.csv").read_text())[1:]}
    model = open_model(read_model(outlined_run / "arms/fedavg"), "south")
    shares, areas = [], []
    for row in site.splits["test"]:
        with Image.open(root / mask_of[site.paths[row]]) as image:
            mask = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) >= 128
        if mask.any():
            image = site.pixels[row : row + 1]
            maps = compute_maps(model.module, layer, image, model.predict(image).argmax(axis=1))
            shares.append(energy_shares(maps, mask[None])[0])
            areas.append(mask.mean())
    found = focus["arms"]["fedavg"]["south"]
    assert found["trained"]["value"] == pytest.approx(np.nanmean(shares), rel=1e-4)
    assert found["area"]["value"] == pytest.approx(np.mean(areas))


def test_the_table_shows_every_arm_and_what_it_is_not(focus: dict) -> None:
    narrow = Console(width=80)
    with narrow.capture() as capture:
        narrow.print(focus_table(focus))
    text = " ".join(capture.get().split())
    assert NOT_A_DEVICE in text
    assert "Centralised" in text
    assert f"mean of {DRAWS} networks" in text


def test_random_weights_reach_the_share_of_the_area(two_site_settings: Settings) -> None:
    """Over many images, masks that are independent of them, and several networks."""
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (60, 32, 32), dtype=np.uint8)
    masks = np.zeros((60, 32, 32), dtype=np.bool_)
    for mask in masks:
        top, left = random.integers(0, 24, 2)
        mask[top : top + 8, left : left + 8] = True
    layer = spatial_layer_of(two_site_settings.model, 32)
    models = [randomise(two_site_settings, images, draw) for draw in range(DRAWS)]
    shares = [
        energy_shares(compute_maps(model, layer, images, np.full(60, index)), masks)
        for model in models
        for index in range(3)
    ]
    assert np.isfinite(shares).mean() > 0.5  # where a network predicts another class, its map may be empty
    assert np.nanmean(shares) == pytest.approx(masks.mean(), abs=0.02)
    again, other = randomise(two_site_settings, images, 0).state_dict(), models[1].state_dict()
    assert all(value.equal(again[key]) for key, value in models[0].state_dict().items())
    assert not all(value.equal(again[key]) for key, value in other.items())


def test_a_mask_of_another_size_is_named_and_nothing_is_written(outlined_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(outlined_run, tmp_path / "run", ignore=shutil.ignore_patterns("explained")))
    content = json.loads((run / "settings.json").read_text())
    south = Path(shutil.copytree(content["sites"]["south"]["path"], tmp_path / "south"))
    content["sites"]["south"]["path"] = str(south)
    (run / "settings.json").write_text(json.dumps(content))
    for mask in (south / "masks").iterdir():
        Image.new("L", (9, 9)).save(mask)
    with pytest.raises(ImageError, match=r"masks/\d+\.png is 9 x 9 pixels"):
        measure_focus(run, None, QUIET)
    assert not (run / "explained").exists()


def test_a_run_without_masks_and_a_folder_without_run_are_refused(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"No test image of .* has a lesion mask"):
        measure_focus(trained_run, tmp_path / "out", QUIET)
    with pytest.raises(RunError, match="contains no run"):
        measure_focus(trained_run / "arms/fedavg", tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()
