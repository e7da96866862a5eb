"""The page in a real browser: it changes while the run trains, and says so when the command has ended."""

import pytest

from fedbus.runs.lock import RUNNING
from fedbus.system.locks import hold
from tests.browser import open_browser
from tests.fedbus.watch.test_server import served
from tests.watched_run import add_rounds, history_line, start_watched_run

LINES = [history_line(number, federated=True) for number in (1, 2, 3, 4)]

CELL = "document.querySelector('tr.federated td').innerText.trim()"
POINTS = "document.querySelectorAll('#curves svg use').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def test_a_new_round_appears_without_loading_the_page_again(browser, tmp_path):
    settings = start_watched_run(tmp_path, arms=("centralised", "fedavg"))
    with hold(tmp_path / RUNNING, "taken", "wait"), served(tmp_path) as address:
        browser.open(address)
        browser.wait_for("document.getElementById('curves')?.innerText.includes('after the first round')")
        browser.value("window.before = document.getElementById('federation'); 1")
        add_rounds(tmp_path, settings, "fedavg", LINES[:1])
        browser.wait_for(f"{CELL} === '1 of 4'")
        browser.wait_for("document.querySelector('#curves svg') !== null")
        points = browser.value(POINTS)
        add_rounds(tmp_path, settings, "fedavg", LINES[:2])
        browser.wait_for(f"{CELL} === '2 of 4'")
        browser.wait_for(f"{POINTS} > {points}")
        browser.wait_for("document.getElementById('federation').innerText.includes('Rounds 1 to 2: north, south')")
        assert browser.value("window.before !== undefined"), "it was not loaded again"
        for arm in ("centralised", "fedavg"):
            add_rounds(tmp_path, settings, arm, LINES)
        browser.wait_for("document.querySelector('.state').innerText.startsWith('scoring')")
        assert browser.value("document.getElementById('ended').hidden")
    browser.wait_for("!document.getElementById('ended').hidden")


def test_a_section_that_has_not_changed_is_left_alone_and_one_that_has_keeps_its_place(browser, tmp_path):
    settings = start_watched_run(tmp_path, arms=("centralised", "fedavg"))
    add_rounds(tmp_path, settings, "fedavg", LINES[:2])
    with hold(tmp_path / RUNNING, "taken", "wait"), served(tmp_path) as address:
        browser.open(address, width=400, height=900)
        browser.wait_for("document.querySelector('#curves svg') !== null")
        browser.value("window.kept = document.getElementById('federation'); 1")
        browser.value("document.querySelector('#curves figure > div').scrollLeft = 120")
        browser.value("window.drawn = document.querySelector('#curves svg'); 1")
        add_rounds(tmp_path, settings, "centralised", [history_line(1)])
        browser.wait_for("document.querySelector('#curves svg') !== window.drawn")
        assert browser.value("document.getElementById('federation') === window.kept")
        assert browser.value("document.querySelector('#curves figure > div').scrollLeft") == 120
        assert browser.value("document.documentElement.scrollWidth") == 400, "the page itself does not scroll sideways"


def test_without_scripts_the_page_loads_itself_again(browser, tmp_path):
    settings = start_watched_run(tmp_path, arms=("fedavg",))
    with hold(tmp_path / RUNNING, "taken", "wait"), served(tmp_path) as address:
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            browser.open(address)
            browser.wait_for("document.body.innerText.includes('0 of 4')")
            add_rounds(tmp_path, settings, "fedavg", LINES[:3])
            browser.wait_for("document.body.innerText.includes('3 of 4')")
        finally:
            browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_browser_runs_no_script_but_the_page_s_own(browser, tmp_path):
    settings = start_watched_run(tmp_path, arms=("fedavg",))
    script = "<img src=x onerror='window.broken=1'><script>window.broken=1</script>"
    add_rounds(tmp_path, settings, "fedavg", [history_line(1, federated=True, refused={"south": script})])
    with hold(tmp_path / RUNNING, "taken", "wait"), served(tmp_path) as address:
        browser.open(address)
        browser.wait_for("document.getElementById('federation')?.innerText.includes('onerror')")
        browser.value("window.added = document.createElement('script'); added.textContent = 'window.broken = 1'; 1")
        browser.value("document.body.append(added)")
        assert browser.value("window.broken") is None
