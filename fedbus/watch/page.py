"""Renders the page of `fedbus watch` from a snapshot."""

from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedbus.reports import wording
from fedbus.reports.comparison.page import stretches
from fedbus.reports.templates import render, render_fragment
from fedbus.watch.snapshot import Snapshot, Training
from fedbus.watch.time_left import seconds_left

HERE = Path(__file__).parent

KINDS = {wording.ALONE: "alone", wording.POOLED: "pooled", wording.FEDERATED: "federated"}
"""Class of a row in the style sheet, by family of arms."""

RUNNING = {"preparing", "waiting", "training"}
"""States in which the time that is left is worth an estimate."""


@cache
def script() -> str:
    """Return the page's script."""
    return (HERE / "watch.js").read_text(encoding="utf-8")


class Page:
    """Renders the page of one run; a figure is drawn again only when its histories have changed.

    Args:
        name: The name of the run folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: dict[int, tuple[tuple[Any, ...], Markup]] = {}

    def page(self, snapshot: Snapshot) -> str:
        """Render the whole page."""
        return render(
            "watch/page.html",
            results={"phantoms": snapshot.phantoms},
            name=self.name,
            snapshot=snapshot,
            live=Markup(self.live(snapshot)),
            watch_style=Markup((HERE / "watch.css").read_text(encoding="utf-8")),
            script=Markup(script()),
        )

    def live(self, snapshot: Snapshot) -> str:
        """Render the part that changes; all text of the run is escaped."""
        trainings, settings = snapshot.trainings, snapshot.settings
        seeds = settings.seeds if settings else ()
        current = _current(snapshot)
        done, total = sum(each.done for each in trainings), sum(each.total for each in trainings)
        return render_fragment(
            "watch/live.html",
            snapshot=snapshot,
            seeds=len(seeds),
            trainings=[_row(each, snapshot, current) for each in trainings],
            done=done,
            total=total,
            percent=100 * done // total if total else 0,
            now=wording.arm_label(current.arm) if current else "",
            now_note=_current_note(current),
            figures=[(seed, figure) for seed in reversed(seeds) if (figure := self._figure(snapshot, seed))],
            federation=[
                {"label": wording.arm_label(each.arm), "seed": each.seed, "stretches": stretches(each.lines)}
                for each in trainings
                if any("participants" in line for line in each.lines)
            ],
            **_time_left(snapshot),
        )

    def _figure(self, snapshot: Snapshot, seed: int) -> Markup:
        """Draw the curves of a seed; empty before its first round."""
        found = [each for each in snapshot.trainings if each.seed == seed and each.lines]
        if not found:
            return Markup("")
        # A line is complete once it has validation scores; until then the last one may change.
        key = (snapshot.phantoms, *((e.arm, len(e.lines), "validation" in e.lines[-1], e.best_round) for e in found))
        if seed not in self.figures or self.figures[seed][0] != key:
            from fedbus.reports.comparison.curves import validation_curves  # loads matplotlib

            sites = [each.arm.removeprefix("local-") for each in found if each.arm.startswith("local-")]
            results = {
                "arms": {each.arm: {} for each in found},
                "sites": dict.fromkeys(sites),
                "phantoms": snapshot.phantoms,
                "work": {each.arm: {"best_round": each.best_round} for each in found},
            }
            histories = {each.arm: list(each.lines) for each in found}
            self.figures[seed] = key, Markup(validation_curves(results, histories))
        return self.figures[seed][1]


def _row(training: Training, snapshot: Snapshot, current: Training | None) -> dict[str, Any]:
    """Describe one arm and seed for the table."""
    last = training.lines[-1] if training.lines else {}
    scores: dict[str, Any] = next(
        (line["validation"] for line in reversed(training.lines) if line.get("validation")), {}
    )
    state = "done" if training.finished else "training" if training is current else "waiting"
    if state == "waiting" and training.done:
        stopped = snapshot.state in ("interrupted", "failed")
        state = "trained" if training.done == training.total else "stopped" if stopped else "waiting"
    return {
        "label": wording.arm_label(training.arm),
        "kind": KINDS[wording.family(training.arm)],
        "seed": training.seed,
        "done": training.done,
        "total": training.total,
        "percent": 100 * training.done // training.total if training.total else 100,
        "state": state,
        "train_loss": wording.number(last.get("train_loss")),
        "validation_loss": wording.number(scores.get("loss")),
        "macro_f1": wording.number(scores.get("macro_f1")),
        "best": training.best_round or "",
    }


def _current(snapshot: Snapshot) -> Training | None:
    """Find the training that is in progress: the first with rounds to do."""
    if snapshot.state not in RUNNING:
        return None
    unfinished = [each for each in snapshot.trainings if not each.finished and each.done < each.total]
    return unfinished[0] if unfinished else None


def _current_note(training: Training | None) -> str:
    if training is None:
        return "no arm"
    rounds = f"round {training.done + 1} of {training.total}"
    if training.round_seconds is None:
        return rounds
    return f"{rounds}, {wording.duration(training.round_seconds)} each"


def _time_left(snapshot: Snapshot) -> dict[str, str]:
    if snapshot.state not in RUNNING:
        return {"left": "", "left_note": ""}
    sites = len(snapshot.sites) or len({e.arm for e in snapshot.trainings if e.arm.startswith("local-")})
    sites = sites or len(snapshot.settings.sites if snapshot.settings else ())
    left = seconds_left(snapshot.trainings, sites)
    if left is None:
        return {"left": wording.MISSING, "left_note": "known after the first round"}
    return {"left": f"about {wording.duration(left)}", "left_note": "of training; scoring comes after it"}
