"""`model_card.md`: what the models of a run are, what they were trained on, how well they do, and their limits.

The parts follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath

import tomlkit

from fedbus.cards import facts, figures
from fedbus.cards.calibration_tables import calibration_tables
from fedbus.cards.focus import focus_sentences
from fedbus.cards.markdown import code, first_lines, prose, table
from fedbus.cards.membership import membership_lines
from fedbus.cards.result_answers import limits
from fedbus.cards.run import FinishedRun
from fedbus.cards.subgroup_tables import subgroup_tables
from fedbus.reports import wording
from fedbus.reports.comparison import summary
from fedbus.reports.differential_privacy import epsilon_rows, privacy_sentences
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.settings.arms import blended_from, is_blended, is_tuned, tuned_from
from fedbus.settings.schema import Settings

FILE = "model_card.md"

PRIVATE = ("sites", "cache", "ray-address", "track")
"""Settings that name folders or machines, and change no figure."""


def model_card(run: FinishedRun) -> str:
    """Write the model card as Markdown."""
    lines = [*first_lines(run), "# Model card: breast-ultrasound classifier", "", *_what(run)]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", *section(run)]
    return "\n".join(lines) + "\n"


def _what(run: FinishedRun) -> list[str]:
    results, settings = run.results, run.settings
    where = "between sites that kept their images" if run.deployed else "on one machine"
    text = (
        f"Models that give a breast-ultrasound image a probability of each of {facts.joined(results['classes'])}. "
        f"Trained {where} with FedBUS {results['fedbus']}, started {results['created'][:10]}."
    )
    if run.settings.privacy == "secure-aggregation":
        text += " By secure aggregation: a round's updates were added up without being seen."
    arms = [f"- {prose(wording.long_arm_label(arm))}: {_arm_kind(arm)}" for arm in wording.ordered_arms(results)]
    return [
        prose(text),
        "",
        f"Architecture: {code(settings.model)} (timm), input {settings.image_size} x {settings.image_size} pixels.",
        "",
        "The run compares these arms:",
        "",
        *arms,
    ]


def _arm_kind(arm: str) -> str:
    if arm == "local":
        return "each site uses the model that it trained alone."
    if is_blended(arm):
        return f"the predictions of {wording.arm_label(blended_from(arm))} and of each site's own model, averaged."
    if is_tuned(arm):
        return f"{wording.arm_label(tuned_from(arm))}, then trained further at each site, on its images."
    return {
        wording.ALONE: "trained only on the images of that site.",
        wording.POOLED: "trained on the pooled images of all sites.",
        wording.FEDERATED: "trained by all sites together, without sharing images.",
    }[wording.family(arm)]


def _use(run: FinishedRun) -> list[str]:
    return [
        "- For: research on federated training, and studies of such models on data with known labels.",
        "- By: researchers and hospitals that can judge its figures.",
        "- Not for: decisions about patients. It is not a medical device.",
        "- Not for: other organs, other imaging or video. Nothing of that was tested.",
        "- At other sites than those below, the models have to be tested first (`fedbus evaluate`).",
    ]


def _data(run: FinishedRun) -> list[str]:
    lines = [*figures.data_tables(run), "", prose(facts.left_out_sentence(run))]
    for site, each in run.sites.items():
        if each.get("citation"):
            lines += ["", prose(f"{site}: {each['citation'].rstrip('.')}. Terms: {each.get('terms', 'not known')}")]
    return lines


def _split(run: FinishedRun) -> list[str]:
    return [prose(facts.split_sentence(run)), "", prose(facts.disjoint_sentence(run))]


def _training(run: FinishedRun) -> list[str]:
    derived = facts.derived_sentence(run)
    sentences = [
        facts.preprocessing_sentence(run),
        facts.augmentation_sentence(run),
        facts.balancing_sentence(run),
        facts.training_sentence(run),
        facts.selection_sentence(run),
        f"Start weights: {run.results['weights']}.",
        *([derived] if derived else []),
    ]
    return [f"- {prose(sentence)}" for sentence in sentences]


def _findings(run: FinishedRun) -> list[str]:
    return [f"- {prose(sentence)}" for sentence in summary.findings(run.results)]


def _focus(run: FinishedRun) -> list[str]:
    found = focus_sentences(run.path)
    if not found:
        return ["It was not measured."]
    return [prose(found[0]), "", *(f"- {prose(sentence)}" for sentence in found[1:])]


def _privacy(run: FinishedRun) -> list[str]:
    sentences = privacy_sentences(run.results)
    if not sentences:
        return ["The models were trained without differential privacy: they can reveal images that they learned from."]
    rows = [[row["label"], row["owner"], row["last"]] for row in epsilon_rows(run.results, {})]
    return [
        *(f"- {prose(sentence)}" for sentence in sentences),
        "",
        *table(["Arm", "patients of", "epsilon"], rows, text=2),
    ]


def _limits(run: FinishedRun) -> list[str]:
    notes = sum(len(each.get("notes") or []) for each in run.sites.values())
    own = [
        facts.disjoint_sentence(run) if run.settings.split != "groups" else "",
        f"Only {run.settings.limit} images per site were used." if run.settings.limit else "",
        *(
            f"{site} names no patients: images of one patient that look different can be in training and test."
            for site in facts.without_patients(run)
            if run.settings.split == "groups"
        ),
        "" if run.elsewhere else "All test images are of the sites that trained.",
        "Age, sex and origin of the patients were not read: whether the models do equally well for all is unknown.",
        f"{facts.counted(notes, 'note')} on the data: see report.html, “Read with care”." if notes else "",
    ]
    return [f"- {prose(sentence)}" for sentence in (*limits(run), *own) if sentence]


def _reproduce(run: FinishedRun) -> list[str]:
    if run.deployed:
        command = "fedbus hub run HUB settings.toml"
    else:
        readers = {site: each["reader"] for site, each in run.sites.items()}
        sites = [f"--site {site}={reader}:FOLDER" for site, reader in readers.items() if reader != "phantoms"]
        command = " ".join(["fedbus compare settings.toml", *sites, "--out runs/again"])
    return [
        f"With FedBUS {prose(run.results['fedbus'])}, the same images and these settings as `settings.toml`:",
        "",
        "```sh",
        command,
        "```",
        "",
        "```toml",
        settings_toml(run.settings).rstrip(),
        "```",
    ]


def settings_toml(settings: Settings) -> str:
    """Write settings as a settings file, without the paths of datasets and cache, and of weights only the name."""
    shown = {key: value for key, value in settings.as_dict().items() if key not in PRIVATE}
    return tomlkit.dumps(shown | {"weights": PurePath(settings.weights).name})


def _digests(run: FinishedRun) -> list[str]:
    rows = [
        [f"{site}, {what}", str(each[key])]
        for site, each in run.sites.items()
        for what, key in (("images", "digest"), ("split", "split_digest"))
        if each.get(key)
    ]
    rows += [
        [f"{file.removesuffix(f'/{MODEL_FILE}')}, {part.file}", part.sha256]
        for file, model in run.models.items()
        for part in model.parts
    ]
    if not rows:
        return ["The run folder records none."]
    return ["SHA-256:", "", *table(["Of", "digest"], rows, text=2)]


def _versions(run: FinishedRun) -> list[str]:
    machine = {name: value for name, value in run.results["machine"].items() if value is not None}
    rows = [[name, str(value)] for name, value in (*run.results["versions"].items(), *machine.items())]
    return table(["Software or machine", "version or size"], rows, text=2)


SECTIONS: dict[str, Callable[[FinishedRun], Sequence[str]]] = {
    "Intended use, and what it is not for": _use,
    "Data": _data,
    "Split": _split,
    "Training": _training,
    "Findings": _findings,
    "Figures": figures.performance_tables,
    "Figures by class": figures.class_tables,
    "Subgroups": subgroup_tables,
    "Calibration and threshold": calibration_tables,
    "Differential privacy": _privacy,
    "Differences between arms": lambda run: figures.difference_table(run) or ["None were computed."],
    "At sites outside the run": figures.elsewhere_lines,
    "What the models look at": _focus,
    "What the models give away about patients": membership_lines,
    "Limits": _limits,
    "Reproduce": _reproduce,
    "Digests": _digests,
    "Versions and machine": _versions,
}
"""The sections of the card in their order."""
