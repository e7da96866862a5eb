"""Answers about the figures of a run: metrics, intervals, performance here and elsewhere, limits."""

from fedbus.cards import facts
from fedbus.cards.answer import Answer, filled, for_you, not_done
from fedbus.cards.data_answers import split_evidence, subgroup_evidence
from fedbus.cards.evidence import point, result
from fedbus.cards.focus import FILE as FOCUS_FILE
from fedbus.cards.focus import focus_sentences
from fedbus.cards.model_answers import calibration_evidence
from fedbus.cards.run import FinishedRun
from fedbus.evaluation.site_mean import MEAN
from fedbus.reports import wording
from fedbus.reports.comparison import summary


def limits(run: FinishedRun) -> list[str]:
    """List the limits of a run that its own figures show, without the notes that name files."""
    without_notes = {site: {**facts_, "notes": []} for site, facts_ in run.sites.items()}
    return summary.cautions({**run.results, "sites": without_notes})


def measures(run: FinishedRun) -> Answer:
    """Measures of performance, with their reasons."""
    text = (
        "AUC (needs no threshold; each class against the rest, averaged), accuracy, macro F1 (every class counts the "
        "same), sensitivity and specificity of each class, expected calibration error in 15 bins, confusion matrices; "
    )
    text += "on all test images" if run.totals_only else "at each site and on all test images"
    text += ", and as the mean of the sites (every site counts the same)." if _has_mean(run) else "."
    if run.results.get("differences"):
        text += " Arms are compared by paired differences."
    text += " Plots in the report: forest plots, recall by class, models by sites, confusion matrices, training curves."
    if calibration_evidence(run):
        text += (
            " Calibration: reliability diagram, Brier score, slope and intercept, before and after. Clinical utility: "
            "decision curves for malignant against the rest."
        )
    evidence = (result("arms"), result("differences"), *calibration_evidence(run), point("report.html"))
    return filled(text, *evidence)


def intervals(run: FinishedRun) -> Answer:
    """Measures of uncertainty."""
    text = f"95 % intervals from {run.settings.bootstrap:,} bootstrap draws of groups within sites"
    text += ", paired for differences." if run.results.get("differences") else "."
    if wording.has_spread(run.results):
        text += f" Standard deviation over {len(run.settings.seeds)} training seeds."
    if run.deployed:
        text += " On all test images together, they are from as many normal draws of the sums that the sites sent."
    if run.totals_only:
        text += " Those of the mean of sites follow from sums over the sites' own intervals (Zou and Donner 2008)."
    text += " No P values are computed."
    return filled(text, result("arms"), result("settings", "bootstrap"), result("differences"))


def _has_mean(run: FinishedRun) -> bool:
    return wording.primary(run.results) == MEAN


def _figures(run: FinishedRun, metric: str = "auc") -> str:
    """Write a metric of the shared arms at each site."""
    parts = []
    for arm in wording.shared_arms(run.results):
        places = [*run.sites, *([MEAN] if _has_mean(run) else [])]
        at = [
            f"{wording.site_label(place)} {wording.with_interval(scores.get(metric))}"
            for place in places
            if (scores := wording.scores(run.results, arm, place))
        ]
        parts.append(f"{wording.arm_label(arm)}: {', '.join(at)}.")
    return " ".join(parts)


def performance(run: FinishedRun) -> Answer:
    """Performance with intervals."""
    text = f"AUC with 95 % interval. {_figures(run)} All other figures are in the model card."
    return filled(text, result("arms"))


def performance_with_subgroups(run: FinishedRun) -> Answer:
    """Performance with intervals, with that of subgroups where it was computed."""
    found = subgroup_evidence(run)
    text = performance(run).text
    text += " Figures by subgroup are in the model card." if found else " Figures by subgroup were not computed."
    return filled(text, result("arms"), *found, point("headline.png"))


def diagnostic_performance(run: FinishedRun) -> Answer:
    """Sensitivity and specificity with intervals."""
    parts = []
    for arm in wording.shared_arms(run.results):
        scores = wording.scores(run.results, arm, "all")
        shown = [
            f"{label} sensitivity {wording.with_interval(scores['sensitivity'].get(label))}, specificity "
            f"{wording.with_interval(scores['specificity'].get(label))}"
            for label in run.results["classes"]
            if scores.get("sensitivity")
        ]
        parts.append(f"{wording.arm_label(arm)}: {'; '.join(shown)}.")
    by_site = wording.TOTALS_ONLY if run.totals_only else "By site: model card."
    return filled(f"On all test images. {' '.join(parts)} {by_site}", result("arms"))


def heterogeneity(run: FinishedRun) -> Answer:
    """How differences between sites were handled."""
    text = "The sites are the clusters: every arm is measured at each site with its own interval"
    text += ", of which the hub knows only sums" if run.totals_only else ""
    text += ", and as the mean of the sites." if _has_mean(run) else "."
    if run.settings.batch_norm in ("local", "local-statistics"):
        text += " BatchNorm stays at the sites, so every site has its own model parameters there."
    return filled(text, result("arms"), result("sites"), result("settings", "batch-norm"))


def heterogeneity_results(run: FinishedRun) -> Answer:
    """Differences between sites in figures."""
    claims = [sentence for sentence in summary.findings(run.results) if "joining" in sentence]
    return filled(" ".join(["AUC with 95 % interval.", _figures(run), *claims]), result("arms"), result("claims"))


def internal(run: FinishedRun) -> Answer:
    """Evaluation on data of the same sites."""
    count = facts.images_of(run, "test")
    text = f"{facts.counted(count, 'test image')} of the same sites, in no training or validation split."
    if run.settings.split != "groups":
        text = f"{facts.counted(count, 'test image')} of the same sites. {facts.disjoint_sentence(run)}"
    return filled(text, result("arms"), *split_evidence(run))


def external(run: FinishedRun) -> Answer:
    """Evaluation on data of other sites."""
    if not run.elsewhere:
        return not_done(
            "The run folder contains no test of the models at a site outside the run.",
            "fedbus evaluate RUN/arms/ARM --site READER=FOLDER makes one; then write the card again.",
        )
    return filled(" ".join(elsewhere_sentences(run)), *(each.file for each in run.elsewhere))


def elsewhere_sentences(run: FinishedRun) -> list[str]:
    """Write, for each site outside the run, the AUC of the run's models."""
    sentences = []
    for each in run.elsewhere:
        tested = f"{facts.counted(each.images, 'image')} in {facts.counted(each.groups, 'group')}"
        aucs = [f"{wording.arm_label(arm)} {wording.with_interval(auc)}" for arm, auc in each.aucs.items()]
        sentences.append(f"{each.site}, {tested}: AUC {'; '.join(aucs)}.")
    return sentences


def robustness(run: FinishedRun) -> Answer:
    """Sensitivity of the figures to choices."""
    if len(run.settings.seeds) == 1:
        return not_done(
            "Every arm was trained once, with one split and one group of settings.",
            "Several seeds (--set seeds=0,1,2) or fedbus study show how much the figures depend on such choices.",
        )
    text = f"Every arm was trained with {len(run.settings.seeds)} seeds; ± is the standard deviation over them."
    return filled(text, result("settings", "seeds"), result("arms"))


def explanations(run: FinishedRun) -> Answer:
    """Methods that show what a model looks at."""
    found = focus_sentences(run.path)
    if found:
        return filled(" ".join(found), FOCUS_FILE)
    return not_done(
        "The run folder contains no measurement of what the models look at.",
        "fedbus explain RUN --masks makes one where lesion masks are published; then write the card again.",
    )


def failures(run: FinishedRun) -> Answer:
    """Wrong predictions."""
    lost = [sentence for sentence in limits(run) if "fewer images of a class than random guessing" in sentence]
    text = " ".join(["Confusion matrices of every arm and site are in the report.", *lost])
    return for_you("Look at wrong predictions and say what they have in common.", text, result("arms"))


def fairness(run: FinishedRun) -> Answer:
    """Measures for fairness between groups of patients."""
    found = subgroup_evidence(run)
    text = "No method that aims at fairness between groups of patients was used, and age and ethnicity were not read."
    return not_done(text, "Figures by subgroup are in the model card." if found else "")


def objectives(run: FinishedRun) -> Answer:
    """What the run did, as the start of the objectives."""
    arms = facts.joined([wording.arm_label(arm) for arm in wording.ordered_arms(run.results)])
    text = f"The run develops models and evaluates them on test images of the same sites. Arms compared: {arms}."
    if run.elsewhere:
        text += " It also evaluates them at sites that took no part."
    return for_you("State the aims and hypotheses.", text, result("settings", "arms"), result("arms"))


def goal(run: FinishedRun) -> Answer:
    """What kind of study it is."""
    text = "Development and comparison of classifiers that are trained alone, on pooled data, or by federated learning."
    return for_you("State the goal: feasibility, development, or the test of a hypothesis.", text, result("arms"))


def interpretation(run: FinishedRun) -> Answer:
    """The run's findings, as material for an interpretation."""
    task = "Interpret them in the light of the aims, of earlier studies and of fairness."
    return for_you(task, " ".join(summary.findings(run.results)), result("arms"), result("claims"))


def limitations(run: FinishedRun) -> Answer:
    """Limits that the figures show."""
    task = "Discuss what they and the choice of patients mean for bias, uncertainty and other hospitals."
    return for_you(task, " ".join(limits(run)), result("arms"), point("report.html"))
