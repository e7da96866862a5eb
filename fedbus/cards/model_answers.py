"""Answers about the models of a run: architecture, training, choice of weights, software."""

from fedbus.cards import facts
from fedbus.cards.answer import Answer, filled, for_you, not_done
from fedbus.cards.evidence import point, result
from fedbus.cards.run import FinishedRun
from fedbus.reports import wording
from fedbus.reports.calibration import calibration_rows, describe_rule, missing_thresholds


def _weights_evidence(run: FinishedRun) -> tuple[str, ...]:
    """Pointers to the models; those of fine-tuned arms are in files of the sites, which their `model.json` names."""
    return (*(run.name(folder / run.weights_file) for folder in run.trained), *run.models)


def predictors(run: FinishedRun) -> Answer:
    """Choice of the model's input."""
    text = "The image is the only input. No clinical variable is used, and nothing was selected beforehand."
    return filled(text, result("settings", "image-size"))


def input_handling(run: FinishedRun) -> Answer:
    """Transformations of the input."""
    text = f"{facts.preprocessing_sentence(run)} {facts.augmentation_sentence(run)}"
    return filled(text, result("settings", "image-size"), result("settings", "augmentation"))


def architecture(run: FinishedRun) -> Answer:
    """The model in detail."""
    return filled(
        f"{run.settings.model} of timm {run.results['versions'].get('timm', '')}, a neural network with one output for "
        f"each of {facts.joined(run.results['classes'])}. Input: {run.settings.image_size} x "
        f"{run.settings.image_size} pixels, three equal channels. Output: three probabilities that sum to 1. "
        f"BatchNorm: {run.settings.batch_norm}.",
        result("settings", "model"),
        result("versions", "timm"),
        result("settings", "batch-norm"),
    )


def building_steps(run: FinishedRun) -> Answer:
    """Type of model and all steps of training it."""
    text = f"{architecture(run).text} {_training_text(run)} {facts.selection_sentence(run)} {facts.split_sentence(run)}"
    task = "Say why you chose this model, and how you chose the settings that differ from FedBUS's defaults."
    return for_you(task, text, result("settings"), result("work"))


def _training_text(run: FinishedRun) -> str:
    arms = facts.joined([wording.arm_label(arm) for arm in wording.ordered_arms(run.results)])
    derived = facts.derived_sentence(run)
    text = f"Arms: {arms}. {facts.training_sentence(run)} {facts.augmentation_sentence(run)}"
    return f"{text} {facts.balancing_sentence(run)}{f' {derived}' if derived else ''}"


def training(run: FinishedRun) -> Answer:
    """Training in detail."""
    histories = [run.name(folder / "history.jsonl") for folder in run.trained]
    text = f"{_training_text(run)} The model card lists all settings."
    return filled(text, result("settings"), result("work"), *histories)


def start(run: FinishedRun) -> Answer:
    """Initial weights."""
    text = f"Every arm starts from the same weights: {run.results['weights']}."
    return filled(text, result("weights"), point("start.json"))


def selection(run: FinishedRun) -> Answer:
    """Choice of the weights that are tested."""
    return filled(facts.selection_sentence(run), result("settings", "keep"), result("work"))


def ensembles(run: FinishedRun) -> Answer:
    """Combined models."""
    text = facts.derived_sentence(run)
    text = text if "Blended" in text else f"No predictions of several models were combined. {text}".strip()
    return filled(text, result("settings", "arms"), result("arms"))


def class_imbalance(run: FinishedRun) -> Answer:
    """Method against class imbalance."""
    text = facts.balancing_sentence(run)
    if run.settings.sampler != "none":
        text += f" {recalibration_sentence(run)}"
    evidence = (result("settings", "sampler"), result("settings", "balance"), *calibration_evidence(run))
    return filled(text, *evidence)


def calibration_evidence(run: FinishedRun) -> tuple[str, ...]:
    """Pointer to the calibration, if the run has one."""
    return (result("calibration"),) if run.results.get("calibration") else ()


def recalibration_sentence(run: FinishedRun) -> str:
    """Say whether probabilities were calibrated afterwards."""
    if run.results.get("calibration"):
        return "Probabilities are calibrated afterwards, by a temperature that is fitted to validation rows."
    return "The probabilities were not calibrated afterwards."


def output(run: FinishedRun) -> Answer:
    """The model's output, the classification and the threshold."""
    text = (
        f"Probabilities of {facts.joined(run.results['classes'])}. The class is the one with the highest probability; "
        f"accuracy, macro F1, sensitivity and specificity use it. {_thresholds(run)}"
    )
    return filled(text, result("classes"), result("arms"), *calibration_evidence(run))


def _thresholds(run: FinishedRun) -> str:
    """Write the threshold for malignant of every arm, and its rule."""
    rows = calibration_rows(run.results)
    if not rows:
        return "No other threshold was chosen."
    rule, missing = describe_rule(run.results["calibration"]["rule"]), missing_thresholds(run.results["calibration"])
    listed = [f"{row['label']} {row['threshold']}" for row in rows if not row["reason"]]
    text = f"A threshold for malignant is {rule}, on validation images, with calibrated probabilities"
    return " ".join([f"{text}: {', '.join(listed) or 'no arm has one'}.", *missing])


def calculation(run: FinishedRun) -> Answer:
    """How predictions of the test rows were calculated."""
    folders = [folder.path for folders in run.folders.values() for folder in folders]
    predictions = [] if run.deployed else [run.name(folder / "predictions.csv") for folder in folders]
    where = "each site computes its own" if run.deployed else "the run folder keeps one row per test image"
    text = f"Softmax of the model's outputs for each test image, with {run.weights_file} of each arm; {where}."
    return filled(text, result("arms"), *predictions)


def specification(run: FinishedRun) -> Answer:
    """The model as files."""
    text = (
        f"{architecture(run).text} The weights are in {run.weights_file} of each arm's folder (safetensors); "
        "fedbus predict applies them."
    )
    task = "Say who can get the weights, from where and on which terms."
    return for_you(task, text, *_weights_evidence(run), result("settings", "model"))


def updating(run: FinishedRun) -> Answer:
    """Models changed after they were evaluated."""
    adapted = [each.file for each in run.elsewhere if each.adapted]
    if adapted:
        text = (
            "At sites outside the run, models whose BatchNorm stays at the sites used running statistics that were "
            "estimated from the tested images, without labels."
        )
        return filled(text, *adapted)
    return not_done("No model was changed after it was evaluated.")


def software(run: FinishedRun) -> Answer:
    """Software with versions."""
    listed = ", ".join(f"{package} {version}" for package, version in run.results["versions"].items())
    return filled(f"{listed}.", result("versions"), point("environment.json"))


def code(run: FinishedRun) -> Answer:
    """Availability of the analysis code."""
    text = (
        f"FedBUS {run.results['fedbus']} (Apache-2.0); all settings are in the run folder, and the model card has the "
        "command that repeats the run."
    )
    task = "Say where readers get this version, and publish what you changed or added."
    return for_you(task, text, result("fedbus"), point("settings.json"))


def data_sharing(run: FinishedRun) -> Answer:
    """Availability of the data."""
    terms = [f"{site}: {each['terms'].rstrip('.')}." for site, each in run.sites.items() if each.get("terms")]
    text = " ".join(["Terms of the datasets:", *terms]) if terms else ""
    return for_you("Say who can get the images and labels, from where and on which terms.", text, result("sites"))


def availability(run: FinishedRun) -> Answer:
    """Availability of software, model and data."""
    task = "Say who can get software, weights, images and labels, from where and on which terms."
    text = " ".join(part for part in (code(run).text, data_sharing(run).text) if part)
    return for_you(task, text, result("fedbus"), result("sites"), *_weights_evidence(run))
