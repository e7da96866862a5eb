"""Check whether a site's own limits allow the settings of the coming run."""

from clients.check.results import CheckResult
from clients.limits.refusal import RefusedError
from clients.limits.study import check_study
from clients.site.folder import SiteFolder
from fedbus.settings.schema import Settings


def check_limits(site: SiteFolder, settings: Settings) -> list[CheckResult]:
    """Check the settings; limits on counts of images are checked with the split.

    Returns:
        One failed result if the site would refuse the settings, otherwise none.

    Raises:
        SettingsError: If there is no such model.
    """
    try:
        check_study(settings, site.settings.limits)
    except RefusedError as error:
        return [CheckResult("Limits", "fail", error.problem.rstrip("."), error.remedy)]
    return []
