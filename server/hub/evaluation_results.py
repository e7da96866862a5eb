"""`evaluation.json` and the page of an evaluation, from the answers of the sites."""

from pathlib import Path
from typing import Any

from fedbus.evaluation.site_scores import SiteScores, pool_sites
from fedbus.model_folder.read import read_model
from fedbus.reports.comparison.results import shown_settings
from fedbus.reports.hub_evaluation.page import write_page
from fedbus.runs.folder import ENVIRONMENT_FILE, read_settings
from fedbus.system.files import read_json, write_json
from server.hub.evaluation_run import GIVEN, read_answers, read_request

EVALUATION_FILE, PAGE = "evaluation.json", "report.html"


def write_evaluation(out: Path) -> dict[str, Any]:
    """Write `evaluation.json` and `report.html` of an evaluation in which at least one site has answered.

    Args:
        out: The run folder.

    Returns:
        The content of `evaluation.json`, with the path of the page as "page".

    Raises:
        RunError: If a file is damaged, no site has answered, or the disk is full.
    """
    results = _assemble(out)
    write_json(out / EVALUATION_FILE, results)
    write_page(results, out / PAGE)
    return results | {"page": str(out / PAGE)}


def _assemble(out: Path) -> dict[str, Any]:
    answers, request, settings = read_answers(out), read_request(out), read_settings(out)
    found = dict(sorted(answers["sites"].items()))
    scores = {name: SiteScores.from_metrics(site["scores"]) for name, site in found.items()}
    facts, environment = read_model(out / GIVEN).facts, read_json(out / ENVIRONMENT_FILE)
    return {
        "fedbus": environment["versions"]["fedbus"],
        "phantoms": facts.phantoms or any(site["registration"]["phantoms"] for site in found.values()),
        "model": {
            "folder": Path(request.model).name,
            "digest": request.digest,
            "arm": facts.arm,
            "seed": facts.seed,
            "run": facts.run,
            "architecture": facts.architecture,
            "image_size": facts.image_size,
            "sites": list(facts.sites),
            "fedbus": facts.fedbus,
            "own": request.own,
            "seen": facts.seen is not None,
        },
        "sites": {
            name: {
                "metrics": scores[name].metrics,
                "batch_norm": site["batch_norm"],
                "left_out": sum(site["registration"]["splits"]["test"]) - scores[name].metrics["images"],
            }
            for name, site in found.items()
        },
        "failures": dict(sorted(answers["failures"].items())),
        "all": pool_sites(scores, settings.bootstrap, settings.draw_seed),
        "settings": shown_settings(settings),
        **{key: environment[key] for key in ("created", "command", "versions", "machine")},
    }
