"""The choice of folds on the command line."""

import pytest

from fedbus.errors import SettingsError
from simulations.studies.folds import choose_folds


@pytest.mark.parametrize(
    ("listed", "all_folds", "folds"),
    [("", False, ()), ("1, 0", False, (0, 1)), ("3", False, (3,)), ("", True, (0, 1, 2, 3, 4))],
)
def test_folds_are_chosen_in_increasing_order(listed, all_folds, folds):
    assert choose_folds(listed, all_folds, 5) == folds


@pytest.mark.parametrize(
    ("listed", "all_folds", "words"),
    [("0", True, "exclude each other"), ("0,x", False, "0,x"), ("1,1", False, "1,1"), ("0,", False, "not a list")],
)
def test_what_is_no_list_of_folds_is_refused(listed, all_folds, words):
    with pytest.raises(SettingsError, match=words):
        choose_folds(listed, all_folds, 5)
