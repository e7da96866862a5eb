"""Which folds a study is tested on."""

from fedbus.errors import SettingsError


def choose_folds(listed: str, all_folds: bool, count: int) -> tuple[int, ...]:
    """Return the folds that `--folds` or `--all-folds` name, in increasing order; empty without either.

    Args:
        listed: Value of `--folds`, numbers separated by commas; may be empty.
        all_folds: Whether `--all-folds` was given.
        count: Number of folds of the study.

    Raises:
        SettingsError: If both options are given, or a number is malformed or given twice.
    """
    if listed and all_folds:
        raise SettingsError("--folds and --all-folds exclude each other.", "Leave out one of them.")
    if all_folds:
        return tuple(range(count))
    numbers = [part.strip() for part in listed.split(",")] if listed else []
    if not all(part.isascii() and part.isdigit() for part in numbers) or len(set(numbers)) != len(numbers):
        raise SettingsError(f"--folds {listed} is not a list of folds.", "Write, for example, --folds 0,1.")
    return tuple(sorted(int(part) for part in numbers))
