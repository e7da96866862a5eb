"""The findings of an external validation in sentences computed from its figures, and cautions for its readers."""

from typing import Any

from fedbus.evaluation.site_mean import ALL
from fedbus.reports import wording
from fedbus.sites.notes import FEW_IMAGES


def findings(results: dict[str, Any]) -> list[str]:
    """Write what each model reached, and how the first differs from the others."""
    (name,) = results["sites"]
    sentences = []
    for model in results["arms"]:
        auc = wording.scores(results, model, ALL).get("auc")
        sentences.append(f"{wording.arm_label(model)} reached AUC {wording.with_interval(auc)} on {name}.")
    for row in results["differences"]:
        if row["metric"] == "auc":
            pair = f"{wording.arm_label(row['arm'])} minus {wording.arm_label(row['reference'])}"
            difference = wording.with_interval(row, signed=True)
            sentences.append(f"{pair}: AUC {difference}; {wording.verdict_sentence(row)}.")
    return sentences


def cautions(results: dict[str, Any]) -> list[str]:
    """List what to read with care: how models were applied, what they lack, what was left out, few images, one seed."""
    ((name, facts),) = results["sites"].items()
    return [
        *(sentence for model in results["models"] for sentence in _of_model(results, name, model)),
        *_missing_classes(results),
        *_left_out(name, facts),
        *_not_checked(facts),
        *_few(results, name, facts),
        *_unequal(results),
        *([] if wording.has_spread(results) else ["Every model was trained once; another seed gives other figures."]),
        *(f"{name}: {note}." for note in facts["notes"]),
    ]


def na_reason(results: dict[str, Any], label: str) -> str:
    """Explain why there is no figure of a class; empty if the dataset has images of it."""
    (name,) = results["sites"]
    return "" if wording.tested(results, ALL, label) else f"{name} has no {label} images"


def arrays_note(results: dict[str, Any], model: str) -> str:
    """Describe whose BatchNorm a model used, in one sentence."""
    (name,) = results["sites"]
    label, site = wording.arm_label(model), results["as"]
    match results["models"][model]["arrays"]:
        case "own":
            return f"{label} was applied as at {site}, with what this site keeps for itself."
        case "adapted":
            return (
                f"{label} has BatchNorm statistics only for its own sites. Here it has the mean of their arrays, and "
                f"statistics estimated from the tested images of {name} without their labels, so its figures describe "
                "a place that classifies many images at once."
            )
        case _:
            shared = f" {site} keeps no arrays for itself." if site else ""
            return f"{label} was applied with the weights and BatchNorm statistics of its training.{shared}"


def _of_model(results: dict[str, Any], name: str, model: str) -> list[str]:
    facts, label, sentences = results["models"][model], wording.arm_label(model), []
    if facts["arrays"] != "shared":
        sentences.append(arrays_note(results, model))
    for each in results["classes"]:
        images = wording.tested(results, ALL, each)
        if images and each not in facts["predicts"]:
            sentences.append(f"{label} can't predict {each}: the {images} such images of {name} count as errors.")
            continue
        recall = wording.recall(results, model, ALL, each)
        if recall and recall["value"] < wording.GUESSING:
            below = f"(recall {wording.value(recall)}, below {wording.number(wording.GUESSING)})"
            sentences.append(f"{label} finds fewer {each} images than random guessing {below}.")
    return sentences


def _missing_classes(results: dict[str, Any]) -> list[str]:
    missing = [label for label in results["classes"] if na_reason(results, label)]
    return [
        f"{na_reason(results, label)}: the sensitivity of {label} is n/a. AUC and macro F1 are means over the other "
        "classes, and not comparable with those of datasets that have all classes."
        for label in missing
    ]


def _left_out(name: str, facts: dict[str, Any]) -> list[str]:
    left_out, sentences = facts["left_out"], []
    if left_out["seen in training"]:
        counts = [
            f"{wording.arm_label(model)} {found} near-duplicates and {left_out['further images of patients'][model]} "
            "further images of its patients"
            for model, found in left_out["near-duplicates"].items()
            if found or left_out["further images of patients"][model]
        ]
        sentences.append(
            f"{left_out['seen in training']} of {facts['images']} images of {name} are left out, whole groups, because "
            f"models know them from training or validation: {'; '.join(counts)}."
        )
    if left_out["conflicting labels"]:
        sentences.append(
            f"{left_out['conflicting labels']} images of {name} are left out: identical images have other labels."
        )
    return sentences


def _not_checked(facts: dict[str, Any]) -> list[str]:
    models = ", ".join(wording.arm_label(model) for model in facts["not checked"])
    if not models:
        return []
    return [
        f"The folder of {models} does not have the fingerprints of all training images: whether images of this dataset "
        "are among them could not be checked completely."
    ]


def _few(results: dict[str, Any], name: str, facts: dict[str, Any]) -> list[str]:
    sentences = []
    if facts["patients"] is None:
        sentences.append(
            f"{name} names no patients: their images count as independent, and its intervals are likely too narrow."
        )
    if facts["groups"] < wording.FEW_GROUPS:
        sentences.append(f"{name} has only {facts['groups']} groups: its intervals are likely too narrow.")
    few = {label: count for label, count in facts["splits"]["test"].items() if 0 < count < FEW_IMAGES}
    if few:
        listed = ", ".join(f"{label} {count}" for label, count in few.items())
        sentences.append(f"Few images of a class, and its figures rest on these: {listed}.")
    return sentences


def _unequal(results: dict[str, Any]) -> list[str]:
    """Say so if only some of the compared models have used the tested images."""
    adapted = [name for name, model in results["models"].items() if model["arrays"] == "adapted"]
    if not adapted or len(adapted) == len(results["models"]):
        return []
    listed = ", ".join(wording.arm_label(name) for name in adapted)
    return [
        f"Only {listed} used statistics of the tested images, so a part of the differences to the other models may "
        "come from this and not from the training."
    ]
