"""A site whose program was changed, or which is in trouble: `python tampered.py MODE... -- site join DIR`.

Modes: nan@R, shape@R, norm@R (a broken update in round R), labels, size (a wrong registration), full (a full disk at
the end), die=FILE (killed at the next step of a secure sum that FILE does not name). It is Flower's real SuperNode and
FedBUS's real worker, without the checks of what the site sends.
"""

import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path


def spoil_updates(modes: dict[int, str]) -> None:
    from clients import app, work

    train = work.train

    def spoiled(workspace, instruction, state):
        update, report = train(workspace, instruction, state)
        name = next(key for key in sorted(update) if update[key].dim() == 4)
        mode = modes.get(instruction.round)
        if mode == "nan":
            update[name] = update[name] * float("nan")
        elif mode == "shape":
            update[name] = update[name][:1]
        elif mode == "norm":
            update = {key: value * 1000 for key, value in update.items()}
        return update, report

    work.train, app.check_reply = spoiled, lambda *reply: None


def change_registration(**changes: object) -> None:
    from clients import app, work

    register = work.register
    work.register = lambda workspace, instruction: replace(register(workspace, instruction), **changes)
    app.check_registration = lambda *reply: None


def fill_disk() -> None:
    from clients import work

    keep_model = work.keep_model

    def on_a_full_disk(*arguments):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            return keep_model(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    work.keep_model = on_a_full_disk


def die_at_next_step(died: Path) -> None:
    """Kill this process at a step of a training round, and append the step and the round to a file before."""
    from clients import secure_sum

    steps = {"send_keys": "keys", "send_shares": "shares", "send_update": "masked", "unmask": "unmask"}
    done = len(died.read_text().splitlines()) if died.is_file() else 0
    if done == len(steps):
        return
    function, step = list(steps.items())[done]

    def die(workspace, *arguments):
        config = next(each for each in arguments if hasattr(each, "keys") and "server-round" in each)
        with died.open("a") as file:
            file.write(f"{step} {config['server-round']}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(secure_sum, function, die)


def main() -> None:
    split = sys.argv.index("--")
    modes, arguments = sys.argv[1:split], sys.argv[split + 1 :]
    rounds = {int(mode.partition("@")[2]): mode.partition("@")[0] for mode in modes if "@" in mode}
    if rounds:
        spoil_updates(rounds)
    if "labels" in modes:
        change_registration(labels=("benign", "cancer", "normal"))
    if "size" in modes:
        change_registration(image_size=48)
    if "full" in modes:
        fill_disk()
    for mode in modes:
        if mode.startswith("die="):
            die_at_next_step(Path(mode.removeprefix("die=")))
    sys.argv = ["fedbus", *arguments]
    from fedbus.cli import main as fedbus

    fedbus()


main()
