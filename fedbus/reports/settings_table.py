"""Every setting of a study as a table for the terminal."""

from rich.table import Table

from fedbus.settings.schema import Settings


def settings_table() -> Table:
    """Key, default and meaning of every setting."""
    table = Table(title="Settings of a study: TOML keys, or --set KEY=VALUE", title_justify="left")
    for heading in ("key", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    for name, field in Settings.model_fields.items():
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        table.add_row(name.replace("_", "-"), str(default), field.description or "")
    return table
