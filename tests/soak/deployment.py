"""Kills in a federation: the hub's processes, a site's and `hub run`, then `--resume`."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from fedbus.datasets.readers.phantoms import write_phantoms
from fedbus.runs.lock import RUNNING
from fedbus.system.locks import is_held
from simulations.local_federation import LocalFederation
from tests.soak.case import (
    MARK,
    PATIENCE_SECONDS,
    SEEDS,
    SETTINGS,
    FaultError,
    Workplace,
    expect_end,
    expect_same_weights,
    kill_at_random,
    rounds_of,
    wait_until,
    weights_of,
)

TARGETS = {
    "SuperLink": "server.hub.superlink_process", "ServerApp": "flwr-serverapp", "SuperNode": "clients.site.supernode",
    "site": "fedbus site join", "hub": "fedbus hub start", "hub run": "fedbus hub run",
}  # fmt: skip
"""What the command line of a process contains."""

TRIES = 5
"""Of `hub run --resume`: a run whose command was killed may still be training."""


class Deployment:
    """A hub with two sites for all cases; what a case has killed is started again for the next one."""

    def __init__(self, place: Workplace) -> None:
        self.place, folder = place, place.folder / "federation"
        folders = write_phantoms(place.folder / "phantoms", 40, 0)
        sites = {f"site-{name[-1]}": ("phantoms", path) for name, path in list(folders.items())[:2]}
        self.federation = LocalFederation(folder, sites, {MARK: place.mark, "OMP_NUM_THREADS": "1"})
        values = {key: value for key, value in SETTINGS.items() if key not in ("phantom-images", "arms")}
        lines = [f"{key} = {value!r}" for key, value in (values | {"arms": ["fedavg"], "round-timeout": 90}).items()]
        self.settings = place.folder / "settings.toml"
        self.settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.uncut: dict[str, str] = {}

    def close(self) -> None:
        """End all processes."""
        self.federation.__exit__()

    def list_cases(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """List the cases, each with the function that runs it and describes what was done."""
        for seed in SEEDS:
            for target in TARGETS:
                yield f"federation: {target}, seed {seed}", partial(self._kill, target, seed)

    def start(self) -> None:
        """Start what is not running, and train once without a fault."""
        for name in ("hub", *self.federation.sites):
            process = self.federation.processes.get(name)
            if process is not None and process.poll() is None:
                continue
            if name == "hub":
                self.federation.start_hub()
                if not self.federation.hub.sites():
                    self.federation.approve_sites()
            else:
                self.federation.start_site(name)
        if not self.uncut:
            self.uncut = weights_of(self.run("uncut"))

    def run(self, name: str, *options: str) -> Path:
        """Run to the end, and return the run folder."""
        out = self.federation.hub.runs / name
        expect_end(self.federation.run(self.settings, "--out", str(out), *options), self.federation.log("run"))
        return out

    def _kill(self, target: str, seed: int) -> str:
        self.start()
        out = self.federation.hub.runs / f"{target.replace(' ', '-')}-{seed}"
        run = self.federation.run(self.settings, "--out", str(out))
        moment = kill_at_random(out, run, lambda: self._find(TARGETS[target]), seed)
        expect_end(run, self.federation.log("run"), code=None)
        status, done = run.returncode, rounds_of(out)
        wait_until(
            lambda: not is_held(out / RUNNING), PATIENCE_SECONDS, lambda: "the run continues without its command"
        )
        self._expect_no_zombie()
        if status:
            self.start()
            self.run(out.name, "--resume")
        expect_same_weights(out, self.uncut)
        return f"{moment}; hub run ended with {status} and {done} rounds"

    def _find(self, words: str) -> list[psutil.Process]:
        found = []
        for process in self.place.processes():
            with suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _expect_no_zombie(self) -> None:
        """Check that no process has a child that ended and was forgotten, and that at most one ServerApp is running."""
        for process in self.place.processes():
            with suppress(psutil.Error):
                zombies = [child for child in process.children() if child.status() == psutil.STATUS_ZOMBIE]
                if zombies:
                    raise FaultError(f"{' '.join(process.cmdline())[:60]} has {len(zombies)} zombies")
        if len(self._find(TARGETS["ServerApp"])) > 1:
            raise FaultError("several ServerApps are running")
