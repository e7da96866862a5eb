"""Every setting of a comparison as a table for the terminal."""

from functools import partial
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording
from fedbus.reports.terminal_table import FittedTable, new_table
from fedbus.settings.schema import Settings, kebab
from fedbus.system.terminal import QUIET

TITLE = "Settings of a comparison: TOML keys, or --set KEY=VALUE"


def settings_table() -> FittedTable:
    """List key, default and meaning of every setting; in a narrow terminal the meaning is below the key."""
    return FittedTable(partial(_columns, 80), partial(_columns, 46), _definitions)


def _columns(meaning_width: int) -> Table:
    table = new_table(TITLE, "", phantoms=False)
    table.title_justify = "left"
    table.add_column("key", no_wrap=True)
    table.add_column("default", overflow="fold", max_width=28)
    table.add_column("meaning", max_width=meaning_width)
    for key, default, meaning in _rows():
        table.add_row(Text(key, style="bold"), default, meaning)
    return table


def _definitions() -> Table:
    table = Table.grid()
    table.title, table.title_justify = Text(TITLE), "left"
    table.add_column(overflow="fold")
    for key, default, meaning in _rows():
        table.add_row(Text.assemble((key, "bold"), " = ", default))
        if meaning:
            table.add_row(Padding(meaning, (0, 0, 0, 4)))
    return table


def _rows() -> list[tuple[str, Text, Text]]:
    """Key, default and meaning, the default as it is written after `--set KEY=`."""
    defaults = Settings.model_validate({}).as_dict()
    return [
        (kebab(name), Text(wording.plain(defaults[kebab(name)])), _meaning(field))
        for name, field in Settings.model_fields.items()
    ]


def _meaning(field: FieldInfo) -> Text:
    """The description, and the values of a setting that has only a few."""
    text = Text(field.description or "")
    if get_origin(field.annotation) is Literal:
        text.append(f"\nValues: {', '.join(get_args(field.annotation))}", style=QUIET)
    return text
