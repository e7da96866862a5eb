"""What the tables of datasets have of each image besides its class and patient."""

from pathlib import Path

import pytest

from fedbus.datasets.attributes import choose_columns, read_attributes
from fedbus.datasets.registry import read_dataset
from fedbus.errors import SettingsError
from tests.archives import make_bus_bra, make_bus_uclm, make_busi, make_labels_csv, write_table


def attributes_of(reader: str, root: Path) -> dict[str, dict[str, str]]:
    """By column the cell of each image's file name."""
    paths = [row.path for row in read_dataset(reader, root, "x").rows]
    found = read_attributes(reader, root, paths)
    return {name: dict(zip([Path(path).name for path in paths], cells, strict=True)) for name, cells in found.items()}


def test_bus_bra_has_bi_rads_device_and_side_of_each_image(tmp_path: Path) -> None:
    found = attributes_of("bus-bra", make_bus_bra(tmp_path))
    assert list(found) == ["BI-RADS", "device", "side"]
    assert set(found["BI-RADS"].values()) == {"4"}
    assert set(found["device"].values()) == {"Scanner @10MHz"}
    assert all(side == {"l": "left", "r": "right"}[name[-5]] for name, side in found["side"].items())


def test_bus_uclm_has_doppler_and_burned_in_annotations_with_one_spelling_of_yes(tmp_path: Path) -> None:
    root = make_bus_uclm(tmp_path)
    info = root / "BUS-UCLM" / "INFO.csv"
    info.write_text(info.read_text("utf-8-sig").replace("48x40;Malignant;No;Yes", "48x40;Malignant;Y;Yes"), "utf-8")
    found = attributes_of("bus-uclm", root)
    assert list(found) == ["Doppler", "burned-in annotations"]
    assert {name for name, cell in found["Doppler"].items() if cell == "yes"} == {
        name for name in found["Doppler"] if name.startswith("Q") and name != "QAAA_000.png"
    }
    assert set(found["Doppler"].values()) == {"yes", "no"}


def test_a_column_that_a_published_table_lacks_is_left_out(tmp_path: Path) -> None:
    root = make_bus_bra(tmp_path)
    data = root / "BUSBRA" / "bus_data.csv"
    data.write_text(data.read_text().replace("Device", "Apparatus"))
    assert list(attributes_of("bus-bra", root)) == ["BI-RADS", "side"]


def test_a_dataset_without_a_table_has_none(tmp_path: Path) -> None:
    assert attributes_of("busi", make_busi(tmp_path)) == {}


def test_labels_csv_has_every_column_that_is_not_read_otherwise(tmp_path: Path) -> None:
    root = make_labels_csv(tmp_path)
    names = sorted(path.name for path in (root / "scans").iterdir())
    rows = [(f"scans/{name}", name.split("-")[0], f"p{i}", f"S{i % 2}", i) for i, name in enumerate(names)]
    write_table(root / "labels.csv", ("file", "label", "patient", "Scanner", "age"), rows)
    found = attributes_of("labels-csv", root)
    assert {column: list(cells.values()) for column, cells in found.items()} == {
        "Scanner": [f"S{i % 2}" for i in range(15)],
        "age": [str(i) for i in range(15)],
    }


def test_columns_are_chosen_by_name_whatever_their_spelling() -> None:
    own = {"north": ["Scanner Type", "age"], "south": ["AGE", "comment"]}
    assert choose_columns(own, ("age", "scanner-type")) == {"north": ["Scanner Type", "age"], "south": ["AGE"]}
    assert choose_columns(own, ()) == {"north": [], "south": []}


@pytest.mark.parametrize(
    ("own", "name", "remedy"),
    [
        ({"north": ["scanner", "age"]}, "scaner", "Its other columns are age, scanner."),
        ({"north": ["scanner"]}, "patient", "such as scanner or age"),
        ({"north": []}, "scanner", "It has no other columns."),
        ({}, "scanner", "no site is read with labels-csv"),
    ],
)
def test_a_column_that_no_table_has_is_refused_by_name(own, name, remedy) -> None:
    with pytest.raises(SettingsError) as error:
        choose_columns(own, (name,))
    assert repr(name) in error.value.problem
    assert remedy in error.value.remedy
