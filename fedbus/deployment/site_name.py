"""Names of sites in the files that hub and sites exchange or keep."""

from typing import Annotated

from pydantic import AfterValidator

from fedbus.settings.site_name import check_site_name


def valid_site_name(name: str) -> str:
    """Return a site's name if it is valid.

    Raises:
        ValueError: If it is not usable as a folder name, or means several sites.
    """
    try:
        check_site_name(name)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("sites: ")) from error  # the key of a comparison's settings
    return name


SiteName = Annotated[str, AfterValidator(valid_site_name)]
