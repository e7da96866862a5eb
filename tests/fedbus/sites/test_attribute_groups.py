"""The values of an attribute as groups."""

import numpy as np
import pytest

from fedbus.sites.attribute_groups import MOST_CHARACTERS, MOST_VALUES, group_values, natural_order


def test_values_that_differ_only_in_form_are_one_group_under_the_commonest_spelling() -> None:
    groups, note = group_values("device", ["GE Logiq", "ge logiq", "GE Logiq", "GE-Logiq ", "Toshiba"])
    assert groups == ["GE Logiq"] * 4 + ["Toshiba"]
    assert note == ""


@pytest.mark.parametrize("cell", ["", "NA", "unknown", "-", "n/a", "-99"])
def test_unknown_cells_have_no_group(cell: str) -> None:
    assert group_values("device", [cell, "GE"])[0] == ["", "GE"]


def test_none_is_a_value_of_an_attribute() -> None:
    assert group_values("implant", ["none", "silicone"])[0] == ["none", "silicone"]


def test_a_few_numbers_stay_as_they_are() -> None:
    assert group_values("BI-RADS", ["2", "3", "4", "4.0", "5"])[0] == ["2", "3", "4", "4", "5"]


def test_many_numbers_are_cut_into_thirds_of_all_known_cells() -> None:
    numbers = np.random.default_rng(0).gamma(2, 20, 600)
    cells = [f"{number:.2f}" for number in numbers]
    groups, _ = group_values("age", [*cells[:300], "", *cells[300:]])
    assert groups is not None
    assert groups.pop(300) == ""
    expected = np.argsort(np.argsort([float(cell) for cell in cells])) // 200
    order = sorted(set(groups), key=natural_order)
    # Bounds are rounded to three digits, so a number beside one may be on its other side.
    assert np.mean([order.index(group) == third for group, third in zip(groups, expected, strict=True)]) > 0.99
    low, high = (float(part) for part in order[1].split(" to "))
    assert order == [f"{low:g} or less", f"{low:g} to {high:g}", f"over {high:g}"]
    for cell, group in zip(cells, groups, strict=True):
        assert order.index(group) == (float(cell) > low) + (float(cell) > high)


def test_decimal_commas_are_numbers_too() -> None:
    groups, _ = group_values("age", [f"{i},5" for i in range(9)])
    assert groups == ["3.17 or less"] * 3 + ["3.17 to 5.83"] * 3 + ["over 5.83"] * 3


def test_numbers_of_which_most_are_equal_give_fewer_groups() -> None:
    groups, _ = group_values("number", ["0"] * 50 + [str(i) for i in range(1, 9)])
    assert groups == ["0 or less"] * 50 + ["over 0"] * 8


def test_a_column_with_500_values_is_refused_with_its_name_and_a_remedy() -> None:
    groups, note = group_values("report text", [f"finding {chr(97 + i % 26)}{i}" for i in range(500)])
    assert groups is None
    assert "the column report text has 500 different values" in note
    assert "write fewer, broader values" in note
    assert group_values("town", [f"town {i}" for i in range(MOST_VALUES)])[0] is not None
    assert group_values("town", [f"town {i}" for i in range(MOST_VALUES + 1)])[0] is None


def test_a_column_without_known_values_is_refused() -> None:
    groups, note = group_values("device", ["", "NA"])
    assert groups is None
    assert "device has no known value" in note


def test_a_value_is_made_plain() -> None:
    (group,), _ = group_values("device", ["GE\x1b[31m\nLogiq" + "x" * 100])
    assert group.isprintable()
    assert len(group) <= MOST_CHARACTERS


def test_groups_are_ordered_as_readers_expect() -> None:
    for order in (["2", "3", "10"], ["4.1 or less", "4.1 to 12", "over 12"], ["left", "right", "single"]):
        assert sorted({*order}, key=natural_order) == order
