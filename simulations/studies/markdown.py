"""Print the tables of studies as Markdown, for example those of docs/study.md.

    python -m simulations.studies.markdown FILE.json [FILE.json ...]

FILE.json is the `study.json` of a study's folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fedbus.errors import FedbusError, RunError
from fedbus.reports.study.markdown import markdown_study
from fedbus.system.files import read_json
from simulations.studies.results import SCHEMA


def markdown_files(paths: Sequence[Path]) -> str:
    """Write the tables of several studies, one after the other.

    Raises:
        RunError: If a file is missing, damaged or not of a study of this version.
    """
    parts = []
    for path in paths:
        content = read_json(path)
        if content.get("schema") != SCHEMA or "title" not in content:
            raise RunError(f"{path} is not of a finished study of this version.", "Name the study.json of a study.")
        parts.append(markdown_study(content))
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Print the tables; return the exit status."""
    if not arguments:
        print("usage: python -m simulations.studies.markdown FILE.json [FILE.json ...]", file=sys.stderr)
        return 2
    try:
        print(markdown_files([Path(argument) for argument in arguments]), end="")
    except FedbusError as error:
        print(f"Error: {error.problem}\nWhat to do: {error.remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
