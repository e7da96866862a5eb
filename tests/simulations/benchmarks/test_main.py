"""Each part runs in its own process; one that fails is missing with its reason, and leaves no old result."""

from pathlib import Path

import pytest
from rich.console import Console

from simulations.benchmarks import __main__ as bench
from simulations.benchmarks.parts import PARTS, Part


def test_a_part_gets_its_files_and_the_quick_option_if_it_has_one():
    part = Part("growth", "", ("growth", "rounds", "{out}", "{quick}"), 1)
    assert part.command(Path("s.json"), Path("o.json"), quick=False) == [
        "simulations.benchmarks.growth",
        "rounds",
        "o.json",
    ]
    assert part.command(Path("s.json"), Path("o.json"), quick=True)[-1] == "--quick"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_is_a_program(part: Part):
    module = part.command(Path("s"), Path("o"), quick=True)[0]
    path = Path(bench.__file__).parents[2] / (module.replace(".", "/") + ".py")
    assert "__main__" in path.read_text()


def test_a_failed_part_is_missing_the_others_continue_and_old_results_are_deleted(tmp_path, monkeypatch):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad").mkdir()
    parts = [
        Part("bad", "no such part", ("nothing_of_that_name", "{out}"), 1),
        Part("good", "a part", ("wire_of", "{out}"), 1),
    ]
    command = Part.command

    def words(self: Part, settings: Path, out: Path, *, quick: bool) -> list[str]:
        return (
            ["json.tool", str(settings), str(out)] if self.name == "good" else command(self, settings, out, quick=quick)
        )

    monkeypatch.setattr(Part, "command", words)
    (tmp_path / bench.SETTINGS_FILE).write_text('{"a": 1}')
    found, missing = bench.run_parts(parts, tmp_path, False, Console(quiet=True))
    assert found == {"good": {"a": 1}}
    assert list(missing) == ["bad"]
    assert "No module named" in missing["bad"]
    assert not (tmp_path / "bad.json").exists()
    assert not (tmp_path / "bad").exists()


def test_a_peer_that_can_not_be_installed_is_missing_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "install_peer", lambda: "no network")
    peer = next(part for part in PARTS if part.name == "peer")
    assert bench.run_part(peer, tmp_path, quick=True) == "no network"
