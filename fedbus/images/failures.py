"""Why a file can't be read, where that does not depend on its format."""

from pathlib import Path

from fedbus.errors import ImageError

FETCH_AGAIN = "Fetch the file again from its source, or remove it."


def describe_failure(path: Path, error: Exception) -> ImageError | None:
    """Describe a file that is missing, forbidden, empty or too much for memory; None if it is none of these."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{path} does not exist.", "Restore the file, or remove its row from the list.")
    if isinstance(error, PermissionError):
        return ImageError(f"{path} can't be read ({error.strerror}).", "Check that you may read it.")
    if path.is_file() and path.stat().st_size == 0:
        return ImageError(f"{path} is an empty file.", FETCH_AGAIN)
    if isinstance(error, RecursionError):
        return ImageError(f"{path} can't be decoded: its parts are nested too deeply.", FETCH_AGAIN)
    if isinstance(error, MemoryError):
        return ImageError(f"{path} can't be decoded: it needs more memory than there is.", FETCH_AGAIN)
    return None
