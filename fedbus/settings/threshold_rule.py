"""The rule by which a threshold for malignant is chosen: `sensitivity=0.95`, `specificity=0.9` or `youden`."""

from dataclasses import dataclass

from fedbus.text import plain_text

SENSITIVITY, SPECIFICITY, YOUDEN = "sensitivity", "specificity", "youden"

EXAMPLES = "sensitivity=0.95, specificity=0.9 or youden"


@dataclass(frozen=True)
class ThresholdRule:
    """What a threshold must reach on validation images.

    Attributes:
        name: `SENSITIVITY`, `SPECIFICITY` or `YOUDEN`.
        target: The share to reach, between 0 and 1; 0 for `YOUDEN`, which has none.
    """

    name: str
    target: float = 0.0


def parse_rule(text: str) -> ThresholdRule:
    """Read a rule as it is written in settings.

    Raises:
        ValueError: If it is none of the rules, or its target is not between 0 and 1.
    """
    name, equals, number = (part.strip() for part in text.partition("="))
    if name == YOUDEN and not equals:
        return ThresholdRule(YOUDEN)
    if name not in (SENSITIVITY, SPECIFICITY) or not equals:
        raise ValueError(f"{plain_text(text)!r} is no rule for a threshold; write {EXAMPLES}")
    try:
        target = float(number)
    except ValueError:
        target = float("nan")
    if not 0 < target < 1:
        raise ValueError(f"{plain_text(text)!r} needs a number between 0 and 1, for example {name}=0.95")
    return ThresholdRule(name, target)
