"""Sentences about a run's data and training, which the model card and the checklists share."""

from collections import Counter

from fedbus.cards.run import FinishedRun
from fedbus.settings.arms import blended_from, is_blended, is_tuned
from fedbus.sites.prepare import COPY
from fedbus.sites.split import SPLITS


def joined(words: list[str]) -> str:
    """Join words as in a sentence: `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def counted(count: int, thing: str) -> str:
    """Write a count with its noun: `1 image`, `1,875 images`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def images_of(run: FinishedRun, split: str) -> int:
    """Count the images of a split at all sites."""
    return sum(sum(facts["splits"].get(split, {}).values()) for facts in run.sites.values())


def left_out(run: FinishedRun, site: str) -> int:
    """Count the images of a site that were left out: copies of another site's, or identical ones with two labels."""
    facts = run.sites[site]
    return int(facts["dropped_images"]) if "dropped_images" in facts else len(facts.get("dropped") or [])


def left_out_sentence(run: FinishedRun) -> str:
    """Say how many images were left out at each site and why, without naming files."""
    counts = {site: count for site in run.sites if (count := left_out(run, site))}
    if not counts:
        return "No image was left out."
    parts = [f"{site} {counted(count, 'image')}{_reasons(run, site)}" for site, count in counts.items()]
    return f"Left out: {'; '.join(parts)}."


def _reasons(run: FinishedRun, site: str) -> str:
    """Count the reasons by kind."""
    if run.deployed:
        return " (the site knows which and why)"
    kinds = Counter(
        "copies of images of another site" if each["reason"].startswith(COPY) else "identical images with two labels"
        for each in run.sites[site].get("dropped") or []
    )
    return f" ({', '.join(f'{count} {kind}' for kind, count in kinds.items())})" if kinds else ""


def without_patients(run: FinishedRun) -> list[str]:
    """List the sites whose images name no patient."""
    return [site for site, facts in run.sites.items() if not facts.get("patients")]


def counts_sentence(run: FinishedRun) -> str:
    """Write the images of each site and class."""
    parts = []
    for site, facts in run.sites.items():
        totals = {
            label: sum(facts["splits"][each].get(label, 0) for each in SPLITS) for label in run.results["classes"]
        }
        patients = f", {counted(facts['patients'], 'patient')}" if facts.get("patients") else ", patients not known"
        listed = ", ".join(f"{count:,} {label}" for label, count in totals.items())
        parts.append(f"{site}: {counted(sum(totals.values()), 'image')}{patients} ({listed})")
    return "; ".join(parts) + "."


def split_sentence(run: FinishedRun) -> str:
    """Describe how rows were assigned to training, validation and test."""
    settings = run.settings
    share = f"validation takes {100 * settings.validation_fraction:g} % of the rest"
    kind = {
        "groups": "Groups are split, stratified by class",
        "images": "Single images are split, which leaks between splits on purpose",
        "balanced-images": "Single images are split after over-sampling, which leaks between splits on purpose",
    }[settings.split]
    return (
        f"{kind}, within each site: fold {settings.fold} of {settings.folds} is the test set (counted from 0), "
        f"{share}; seed {settings.split_seed}."
    )


def disjoint_sentence(run: FinishedRun) -> str:
    """Describe the level at which the splits share nothing."""
    if run.settings.split != "groups":
        return "The splits are not disjoint: images of one patient, or copies of one image, can be in several splits."
    text = (
        "A group is a patient, joined with near-duplicates: images whose 256-bit difference hashes differ in at most "
        f"{run.settings.near_bits} bits. All images of a group are in the same split."
    )
    unknown = without_patients(run)
    if unknown:
        text += (
            f" {joined(unknown)} {'names' if len(unknown) == 1 else 'name'} no patients, so only near-duplicates "
            "are kept together there."
        )
    return text


def preprocessing_sentence(run: FinishedRun) -> str:
    """Describe what happens to an image before the model sees it."""
    settings = run.settings
    painted = "kept" if settings.burned_in == "kept" else "painted over"
    return (
        "Every image is decoded to 8-bit grey, turned upright, cropped to the ultrasound regions that a DICOM file "
        f"declares, and resized to {settings.image_size} x {settings.image_size} pixels without regard to its aspect "
        f"ratio; burned-in annotations are {painted}. The grey channel is repeated three times and normalised with "
        "ImageNet's mean and standard deviation. An image that cannot be decoded stops the run before training."
    )


def augmentation_sentence(run: FinishedRun) -> str:
    """Describe the augmentation of training images."""
    if not run.settings.augmentation:
        return "Training images are not augmented."
    return (
        "Training images are randomly mirrored left to right, rotated, scaled, shifted, and changed in gain and "
        "contrast."
    )


def balancing_sentence(run: FinishedRun) -> str:
    """Describe what was done about unequal class counts."""
    settings = run.settings
    if settings.sampler == "none":
        return "No method against class imbalance was used."
    method = {
        "ros": "random over-sampling", "rus": "random under-sampling", "class-weights": "class weights in the loss",
    }.get(settings.sampler, settings.sampler)  # fmt: skip
    target = "of all sites together" if settings.balance == "federation" else "of each site"
    return (
        f"The training rows are balanced by {method}, so that rare classes are not neglected, to equal classes "
        f"{target}. Validation and test rows keep their class shares."
    )


def training_sentence(run: FinishedRun) -> str:
    """Describe rounds, optimiser and loss."""
    settings = run.settings
    passes = f"{settings.local_epochs:g} pass{'' if settings.local_epochs == 1 else 'es'}"
    steps = f"{settings.steps_per_round} steps per site"
    work = steps if settings.steps_per_round else f"{passes} over a site's balanced images"
    return (
        f"{settings.rounds} rounds of {work} each; {settings.optimiser}, peak learning rate "
        f"{settings.learning_rate:g} ({settings.schedule}), weight decay {settings.weight_decay:g}, batches of "
        f"{settings.batch_size} images, label smoothing {settings.label_smoothing:g}, {settings.precision}. "
        f"Seeds: {', '.join(str(seed) for seed in settings.seeds)}."
    )


def selection_sentence(run: FinishedRun) -> str:
    """Describe which weights of an arm were tested."""
    if run.settings.keep == "last":
        return "The weights of the last round are tested; no round is chosen."
    return (
        "The weights of the round with the lowest validation loss, averaged over classes and then over sites, are "
        "tested. The test rows are used once, afterwards."
    )


def derived_sentence(run: FinishedRun) -> str:
    """Describe arms that combine models or train them further."""
    arms = list(run.results["arms"])
    blended = [arm for arm in arms if is_blended(arm)]
    tuned = [arm for arm in arms if is_tuned(arm)]
    parts = []
    if blended:
        names = joined([f"{arm} ({blended_from(arm)} with each site's own model)" for arm in blended])
        parts.append(f"Blended, by the mean of the log-probabilities with equal weights: {names}.")
    if tuned:
        parts.append(f"Fine-tuned at each site after federated training: {joined(tuned)}.")
    return " ".join(parts)
