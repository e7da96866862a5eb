"""What `fedbus watch` shows of a hub's run: its status, and the sites with their connection and images."""

from fedbus.runs.lock import RUNNING
from fedbus.system.files import write_json
from fedbus.system.locks import hold
from fedbus.watch.page import Page
from fedbus.watch.snapshot import RunReader, SiteState
from server.hub.run_status import Status, write_status
from server.hub.watched_run import HubReader, open_watched_run
from tests.watched_run import add_rounds, history_line, start_watched_run

NODES = {"north": 11, "south": 12}


def registration(phantoms=False):
    return {"splits": {"train": [5, 4, 3], "validation": [2, 1, 1], "test": [2, 2, 1]}, "phantoms": phantoms}


def hub_run(out, ask=lambda: {11: "online", 12: "offline"}):
    settings = start_watched_run(out, sites={}, arms=("fedavg",))
    return settings, RunReader(out, HubReader(out, NODES, ask))


def test_sites_have_their_connection_and_their_images_once_they_have_registered(tmp_path):
    _, reader = hub_run(tmp_path)
    assert reader.read().sites == (SiteState("north", "online", None), SiteState("south", "offline", None))
    write_json(tmp_path / "registrations.json", {"north": registration()})
    found = reader.read()
    assert found.sites == (SiteState("north", "online", 21), SiteState("south", "offline", None))
    assert not found.phantoms
    write_json(tmp_path / "registrations.json", {"north": registration(phantoms=True)})
    assert reader.read().phantoms


def test_a_hub_that_does_not_answer_leaves_the_connections_unknown(tmp_path):
    _, reader = hub_run(tmp_path, ask=lambda: None)
    assert [site.connection for site in reader.read().sites] == ["unknown", "unknown"]


def test_the_hub_is_asked_every_few_seconds_only(tmp_path, monkeypatch):
    asked = []
    _, reader = hub_run(tmp_path, ask=lambda: asked.append(1))
    for _ in range(50):
        reader.read()
    assert len(asked) == 1
    reader.hub.asked -= 10
    reader.read()
    assert len(asked) == 2


def test_the_state_is_the_status_unless_the_process_has_ended_without_writing_it(tmp_path):
    _, reader = hub_run(tmp_path)
    found = [reader.read().state]
    for state in ("starting", "waiting", "training", "evaluating", "stopped", "failed", "finished"):
        write_status(tmp_path, Status(state, "waits for south", remedy="Start south."))
        with hold(tmp_path / RUNNING, "taken", "wait"):
            found.append(reader.read().state)
    assert found == ["preparing", "preparing", "waiting", "training", "scoring", "interrupted", "failed", "scoring"]
    (tmp_path / "report.html").write_text("report")
    assert reader.read().state == "finished"
    write_status(tmp_path, Status("training", "round 2"))
    found = reader.read()
    assert (found.state, "--resume" in found.remedy) == ("interrupted", True)


def test_the_page_shows_status_remedy_sites_and_a_refusal(tmp_path):
    settings, reader = hub_run(tmp_path)
    write_status(tmp_path, Status("failed", "south sent <b>nothing</b>", remedy="Start south."))
    add_rounds(tmp_path, settings, "fedavg", [history_line(1, federated=True, refused={"south": "not finite"})])
    write_json(tmp_path / "registrations.json", {"north": registration()})
    text = Page("first").page(reader.read())
    for words in (
        "south sent &lt;b&gt;nothing",
        "What to do: Start south.",
        "refused south: not finite",
        "not registered yet",
    ):
        assert words in text
    assert "<td>online</td>" in text
    assert '<td class="hole">offline</td>' in text


def test_a_damaged_status_or_registration_does_not_end_the_page(tmp_path):
    _, reader = hub_run(tmp_path)
    for name in ("status.json", "registrations.json"):
        for text in ("{", '{"a": 1}', "[1]"):
            (tmp_path / name).write_text(text)
            assert Page("first").page(reader.read())


def test_a_run_is_one_of_a_hub_if_it_has_a_status_or_is_in_the_hub_s_folder(tmp_path):
    start_watched_run(tmp_path / "alone")
    assert open_watched_run(tmp_path / "alone").read().sites == ()
    start_watched_run(tmp_path / "copied", sites={}, arms=("fedavg",))
    write_status(tmp_path / "copied", Status("finished"))
    write_json(tmp_path / "copied" / "registrations.json", {"north": registration()})
    assert open_watched_run(tmp_path / "copied").read().sites == (SiteState("north", "unknown", 21),)
