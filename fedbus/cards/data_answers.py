"""Answers about the data of a run: sources, counts, preparation and split."""

from fedbus.cards import facts
from fedbus.cards.answer import Answer, filled, for_you
from fedbus.cards.evidence import result
from fedbus.cards.run import FinishedRun
from fedbus.sites.split import SPLITS


def split_evidence(run: FinishedRun) -> tuple[str, ...]:
    """Pointers to the frozen splits, or to the counts of a hub, whose sites keep their splits."""
    files = ("registrations.json",) if run.deployed else tuple(f"splits/{site}.csv" for site in run.sites)
    return (result("sites"), *files)


def _sources_text(run: FinishedRun) -> str:
    if run.deployed:
        return f"{facts.counted(len(run.sites), 'site')}, each with its own images; the hub knows only their counts."
    listed = [f"{site}: {each.get('citation') or 'no published dataset'}" for site, each in run.sites.items()]
    return " ".join(line if line.endswith(".") else f"{line}." for line in listed)


def sources(run: FinishedRun) -> Answer:
    """Where the images come from; complete if every site is a published dataset."""
    if not run.deployed and all(each.get("citation") for each in run.sites.values()):
        return filled(_sources_text(run), result("sites"))
    return for_you("Name the source of each site's images.", _sources_text(run), result("sites"))


def sources_and_reasons(run: FinishedRun) -> Answer:
    """Where the images come from, and what only the authors know about them."""
    task = "Say what kind of data these are (trial, cohort, routine care), why you chose them and whom they represent."
    return for_you(task, _sources_text(run), result("sites"))


def centres(run: FinishedRun) -> Answer:
    """Number of sites."""
    names = ", ".join(run.sites)
    task = "Describe the setting of each site (screening, referral, hospital), its place and its scanners."
    return for_you(task, f"{facts.counted(len(run.sites), 'site')} took part: {names}.", result("sites"))


def eligibility(run: FinishedRun) -> Answer:
    """What FedBUS left out, of what the authors had included."""
    task = "Give the criteria by which patients and images entered each dataset."
    return for_you(task, facts.left_out_sentence(run), result("sites"))


def preparation(run: FinishedRun) -> Answer:
    """How images were processed and checked."""
    where = "within each site" if run.deployed else "within and between sites"
    text = (
        f"{facts.preprocessing_sentence(run)} Checked as well: masks among the images, identical images with two "
        f"labels, near-duplicates {where}. The steps are the same for every patient."
    )
    return filled(text, result("settings", "image-size"), result("settings", "burned-in"))


def subsets(run: FinishedRun) -> Answer:
    """Which part of the data, and of each image, was used."""
    limit = run.settings.limit
    text = f"At most {limit} images per site were drawn, in whole groups." if limit else "All usable images were used."
    text += " Whole images go into the model, not regions around a lesion."
    return filled(text, result("settings", "limit"), result("sites"))


def missing_data(run: FinishedRun) -> Answer:
    """How missing data were handled."""
    text = (
        "The model has one input, the image. An image that cannot be decoded stops the run before training, so no "
        f"value is imputed. {facts.left_out_sentence(run)}"
    )
    lacking = [
        f"{site} has no {' and no '.join(absent)} images"
        for site, each in run.sites.items()
        if (absent := [label for label, count in each["splits"]["train"].items() if not count])
    ]
    if lacking:
        text += f" {facts.joined(lacking)} (missing-classes = {run.settings.missing_classes})."
    return filled(text, result("sites"), result("settings", "missing-classes"))


def deidentification(run: FinishedRun) -> Answer:
    """How patients are protected."""
    text = (
        "Patient ids of DICOM files are stored as hashes, and no other DICOM tag is kept. "
        + ("Weights, counts and metrics left the sites, no image." if run.deployed else "")
        + (" The hub saw only their sums over the sites (secure aggregation)." if run.totals_only else "")
    ).strip()
    return for_you("Describe how the images were de-identified before they reached FedBUS.", text, result("sites"))


def sample_size(run: FinishedRun) -> Answer:
    """Images and patients; no calculation is part of a run."""
    task = "Say how the size was chosen and why it is enough; FedBUS makes no sample size calculation."
    return for_you(task, facts.counts_sentence(run), result("sites"))


def use_of_data(run: FinishedRun) -> Answer:
    """How the data were split, with the number of images in each split."""
    sizes = ", ".join(f"{facts.images_of(run, split):,} {split}" for split in SPLITS)
    return filled(f"{facts.split_sentence(run)} Images: {sizes}.", *split_evidence(run))


def disjoint(run: FinishedRun) -> Answer:
    """Level at which splits are disjoint."""
    return filled(facts.disjoint_sentence(run), *split_evidence(run), result("settings", "split"))


def flow(run: FinishedRun) -> Answer:
    """Images and patients included and left out; the authors complete it where patients are unknown."""
    text = f"{facts.counts_sentence(run)} {facts.left_out_sentence(run)}"
    unknown = facts.without_patients(run)
    if unknown:
        return for_you(f"Give the number of patients of {facts.joined(unknown)}.", text, *split_evidence(run))
    return filled(text, *split_evidence(run))


def numbers_in_analyses(run: FinishedRun) -> Answer:
    """Images of each class in each split of each site."""
    return filled(_counts_by_split(run), result("sites"))


def _counts_by_split(run: FinishedRun) -> str:
    parts = []
    for site, each in run.sites.items():
        counts = [
            f"{split} {', '.join(f'{count} {label}' for label, count in each['splits'][split].items())}"
            for split in SPLITS
        ]
        parts.append(f"{site}: {'; '.join(counts)}.")
    return f"Images. {' '.join(parts)}"


def characteristics(run: FinishedRun) -> Answer:
    """Class counts; demographic and clinical characteristics are not part of a run."""
    task = "Add age, sex, lesion size, device and dates for each site and split; the run folder has at most a part."
    return for_you(task, _counts_by_split(run), result("sites"), *subgroup_evidence(run))


def sites_with_subgroups(run: FinishedRun) -> list[str]:
    """List the sites whose figures were computed by subgroup."""
    return [site for site, found in (run.results.get("subgroups") or {}).items() if found["columns"]]


def subgroup_evidence(run: FinishedRun) -> tuple[str, ...]:
    """Pointers to the figures by subgroup, if the run has them."""
    return tuple(result("subgroups", site) for site in sites_with_subgroups(run))


def comparison_with_development(run: FinishedRun) -> Answer:
    """Class shares of training and test images."""
    shares = []
    for site, each in run.sites.items():
        text = ", ".join(
            f"{label} {_share(each, 'train', label)} in training and {_share(each, 'test', label)} in test"
            for label in run.results["classes"]
        )
        shares.append(f"{site}: {text}.")
    return for_you("Compare demographic and clinical characteristics as well.", " ".join(shares), result("sites"))


def _share(facts_of_site: dict[str, dict[str, dict[str, int]]], split: str, label: str) -> str:
    counts = facts_of_site["splits"][split]
    return f"{100 * counts.get(label, 0) / max(1, sum(counts.values())):.0f} %"


def training_against_evaluation(run: FinishedRun) -> Answer:
    """Differences between training and test data."""
    text = (
        "Training and test images are of the same sites and were separated by the split, so setting, criteria, outcome "
        "and input are the same."
    )
    if not run.elsewhere:
        return filled(text, result("sites"), result("settings", "split"))
    task = f"Describe how {facts.joined([each.site for each in run.elsewhere])} differs from the sites of the run."
    return for_you(task, text, *(each.file for each in run.elsewhere))
