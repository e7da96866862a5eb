"""The HTML templates of all reports, and the one environment that renders them."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fedbus.reports import wording

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Render a template with `words` (the wording module), `style` (the style sheet) and `values`; text is escaped.

    Args:
        template: Its path below `fedbus/reports` or `fedbus`, such as `comparison/page.html`.
        values: The variables of the template.
    """
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(words=wording, style=style, **values)


def render_fragment(template: str, **values: Any) -> Markup:
    """Render a template that is a part of a page, for another template to insert."""
    return Markup(render(template, **values))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import, and only reports need it

    environment = Environment(
        loader=FileSystemLoader([HERE, HERE.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": wording.plain, "duration": wording.duration}
    return environment
