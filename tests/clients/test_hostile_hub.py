"""A hub that goes too far: what a site answers, prepares and stores then, with the ClientApp of a deployed site."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients import work, workspace
from clients.app import make_client_app
from clients.limits.disk import MOST_DECODED, MOST_FOLDERS, remove_old_folders
from clients.site.folder import SiteFolder
from clients.workspace import workspace_of_site
from fedbus.classes import class_counts
from fedbus.model_folder.read import read_model
from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.sites.pixel_cache import read_hashes
from fedbus.sites.site import open_site, read_facts
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, MOST_SEEN, SEEN, Instruction
from fedbus.transport.packing import pack
from tests.archives import make_class_folders
from tests.site_folders import make_site
from tests.tiny import tiny_settings

COUNTS = {"benign": 40, "malignant": 36, "normal": 36}
KINDS = {"query": MessageType.QUERY, "train": MessageType.TRAIN, "evaluate": MessageType.EVALUATE}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteFolder:
    """A site with the default limits."""
    root = tmp_path_factory.mktemp("hostile")
    return make_site(root).with_data("class-folders", make_class_folders(root / "bus", COUNTS))


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    """Every test starts as a site's process does."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # the sender, as Flower's processes set it
    yield
    workspace._prepare_at_site.cache_clear()
    work.forget()


def ask(
    site: SiteFolder,
    kind: str = "query",
    arrays: State | None = None,
    raw: dict | None = None,
    seen: np.ndarray | None = None,
    **changes,
) -> Message:
    """Send an instruction to the site and return its reply; `raw` replaces keys of the instruction, as a hub could."""
    title = changes.pop("title", "run")
    settings = tiny_settings(**({"batch_size": 16} | changes))
    config = Instruction(settings, 7, (0, 1, 2), title=title).to_config() | {"server-round": 1}
    for key, value in (raw or {}).items():
        config[key] = json.dumps(json.loads(config["settings"]) | value) if key == "settings" else value
    content = RecordDict({CONFIG: ConfigRecord(config)})
    if kind != "query":
        state = start_state("test_resnet", "none", 7) if arrays is None else arrays
        content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in pack(state, settings.payload).items()})
    if seen is not None:
        content[SEEN] = ArrayRecord({SEEN: Array(seen)})
    message = Message(content, 7, KINDS[kind])
    message.metadata.__dict__["_message_id"] = "1"
    app = make_client_app(lambda context, instruction: workspace_of_site(site, instruction, RECEIVED.append))
    return app(message=message, context=Context(1, 7, {}, RecordDict(), {}))


def stored(site: SiteFolder) -> set[Path]:
    folders = (site.work, site.cache / "pixels", site.models, site.answered)
    return {path for folder in folders if folder.is_dir() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "images"}, "split = images leaks test images into training"),
        ({"steps_per_round": 1, "batch_size": 2}, "an update of 2 images, below this site's min-update-images = 32"),
        ({"rounds": 10_000}, "rounds = 10000, above this site's max-rounds = 300"),
        ({"model": "eva02_enormous_patch14_clip_224"}, "above this site's max-parameters = 150"),
    ],
)
def test_a_study_beyond_the_limits_is_refused_before_anything_is_prepared(kind, changes, words, site, monkeypatch):
    monkeypatch.setattr(workspace, "read_dataset", lambda *_: pytest.fail("the images are read"))
    monkeypatch.setattr(work, "place_model", lambda *_: pytest.fail("a model is built"))
    before = stored(site)
    reply = ask(site, kind, **changes)
    assert words in reply.error.reason
    assert str(site.path) not in reply.error.reason
    assert stored(site) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 30, "folds": 2}, "fewer benign images in validation than this site's min-images = 3"),
        ({"validation_fraction": 0.01}, "images in validation than this site's min-images = 3"),
        ({"folds": 25}, "images in test than this site's min-images = 3"),
    ],
)
def test_counts_of_few_images_never_leave(kind, changes, words, site):
    reply = ask(site, kind, **changes)
    assert words in reply.error.reason
    assert not reply.has_content()
    assert not site.answered.exists() or not list(site.answered.iterdir())


@pytest.mark.parametrize(
    "raw",
    [
        {"settings": {"weights": "https://example.org/weights.pth"}},
        {"settings": {"weights": "/etc/passwd"}},
        {"settings": {"cache": "/tmp"}},
        {"settings": {"sites": {"st-mary": {"reader": "class-folders", "path": "/etc"}}}},
        {"settings": {"ray-address": "198.51.100.1:6379"}},
        {"settings": {"device": "cuda"}},
        {"split": "train"},
        {"server-round": 4},
        {"title": "../../site.toml"},
        {"run": "../0"},
    ],
    ids=str,
)
def test_what_is_not_the_hubs_to_decide_is_refused(raw, site, monkeypatch):
    monkeypatch.setattr(workspace, "read_dataset", lambda *_: pytest.fail("the images are read"))
    assert ask(site, raw=raw).error.reason == "RunError; see the site's own log"


@pytest.mark.parametrize("payload", ["flat", "flat-fp16", "dict"])
def test_arrays_of_another_model_are_refused_before_a_model_is_built(payload, site, monkeypatch):
    monkeypatch.setattr(work, "place_model", lambda *_: pytest.fail("a model is built"))
    state = start_state("test_resnet", "none", 7)
    name = next(iter(sorted(state)))
    for wrong in ({name: state[name]}, state | {"more": torch.zeros(9)}, state | {name: torch.zeros(1000)}):
        for kind in ("train", "evaluate"):
            assert ask(site, kind, wrong, payload=payload).error.reason == "RunError; see the site's own log"


def test_a_study_within_the_limits_is_answered(site):
    assert ask(site).content[METRICS]["images-train"]
    for kind in ("train", "evaluate"):
        assert ask(site, kind).content[METRICS]["confusion"]


def test_an_instruction_to_train_longer_than_allowed_ends(site, monkeypatch):
    strict = site.settings.limits.model_copy(update={"max_minutes": 0})
    settings = site.settings.model_copy(update={"limits": strict})
    reply = ask(SiteFolder(site.path, settings), "train")
    assert "the round takes longer than this site's max-minutes = 0" in reply.error.reason


def test_many_studies_leave_a_bounded_number_of_folders_and_files(site):
    for number in range(MOST_FOLDERS + 3):
        assert ask(site, image_size=32 + min(number, MOST_DECODED), bootstrap=10 + number).has_content()
        assert len(list(site.work.iterdir())) <= MOST_FOLDERS, remove_old_folders
        assert len({path.name[:32] for path in (site.cache / "pixels").iterdir()}) <= MOST_DECODED
    assert len(list(site.answered.iterdir())) == 1, "all had the same split"
    assert ask(site, image_size=32, bootstrap=10).has_content(), "prepared again"


def test_the_folder_of_the_current_run_and_its_state_are_kept(site, monkeypatch):
    monkeypatch.setattr(workspace, "remove_old_folders", partial(remove_old_folders, most=2))
    settings = {"optimiser_state": "kept", "title": "current"}
    assert ask(site, "train", **settings).has_content()
    for number in range(3):
        assert ask(site, bootstrap=100 + number).has_content()
        assert ask(site, "train", **settings).has_content()
    assert len(list(site.work.glob("*/memory/current/st-mary/optimiser-00001.safetensors"))) == 1


def test_many_titles_leave_the_state_of_a_bounded_number_of_trainings(site, monkeypatch):
    monkeypatch.setattr(work, "MOST_STATES", 2)
    for title in ("first", "second", "third", "second", "fourth"):
        assert ask(site, "train", optimiser_state="kept", seeds=(5,), title=title).has_content()
    (kept,) = {path.parent for path in site.work.glob("*/memory/fourth")}
    assert {path.name for path in kept.iterdir()} == {"second", "fourth"}


def test_a_nearly_full_disk_is_not_filled(site):
    full = site.settings.limits.model_copy(update={"min_free_disk": 10**9})
    other = SiteFolder(site.path, site.settings.model_copy(update={"limits": full}))
    before = stored(site)
    assert "min-free-disk = 1000000000 GB" in ask(other, bootstrap=999).error.reason
    assert stored(site) == before


RECEIVED: list[Path] = []
"""The folders of models that the site has received."""

EVALUATION = {"task": "evaluation", "split": "test"}


def test_hashes(site: SiteFolder) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of the site's test images by group, in the folder that `ask` uses, and the groups."""
    assert ask(site, raw=EVALUATION).has_content()
    (prepared,) = [path for path in site.work.iterdir() if path.stat().st_mtime == newest(site)]
    opened = open_site(prepared, "st-mary")
    rows = opened.splits["test"]
    return read_hashes(Path(read_facts(prepared)["st-mary"]["pixels"]))[rows], opened.groups[rows]


test_hashes.__test__ = False


def newest(site: SiteFolder) -> float:
    return max(path.stat().st_mtime for path in site.work.iterdir())


def test_the_model_of_a_runs_last_test_is_received_as_a_model_folder(site):
    assert ask(site, "evaluate", raw={"split": "test", "arm": "fedavg"}, title="spring").has_content()
    folder = read_model(RECEIVED.pop())
    assert (folder.path, folder.facts.arm) == (site.models / "spring", "fedavg")
    opened = open_site(max(site.work.iterdir(), key=lambda path: path.stat().st_mtime), "st-mary")
    rows = opened.splits["train"]
    assert folder.facts.sites["st-mary"].images == class_counts(opened.labels[rows])
    assert len(folder.seen().hashes) == len(rows) + len(opened.splits["validation"])
    shutil.rmtree(site.models)


def test_only_training_is_limited_by_what_training_takes(site):
    assert ask(site, "evaluate", raw=EVALUATION, rounds=10_000).has_content()
    assert "rounds = 10000" in ask(site, "evaluate", rounds=10_000).error.reason
    assert ask(site, "train", raw={"task": "evaluation"}).error.reason == "RunError; see the site's own log"
    for changes in ({"split": "images"}, {"model": "eva02_enormous_patch14_clip_224"}, {"image_size": 1024}):
        assert "This site refuses" in ask(site, "evaluate", raw=EVALUATION, **changes).error.reason


def test_a_given_model_is_tested_and_not_kept(site):
    before = stored(site)
    reply = ask(site, "evaluate", raw=EVALUATION)
    assert reply.content[METRICS]["test-batch-norm"] == 0
    assert not site.models.exists()
    assert {path.parent for path in stored(site) - before} <= {site.work, site.cache / "pixels", site.answered}


def test_hashes_do_not_select_the_images_of_one_patient(site):
    """The hub has the hash of an image and compares the answer without it with the answer with it."""
    hashes, groups = test_hashes(site)
    reply = ask(site, "evaluate", raw=EVALUATION, seen=hashes[:1])
    assert "fewer patients than this site's min-split-patients = 3" in reply.error.reason
    chosen = np.isin(groups, np.unique(groups)[:4])
    answered = set(site.answered.iterdir())
    reply = ask(site, "evaluate", raw=EVALUATION, seen=hashes[chosen])
    assert reply.content[METRICS]["test-images"] == (~chosen).sum()
    assert len(set(site.answered.iterdir()) - answered) == 1, "recorded as a split of its own"
    one_more = np.isin(groups, np.unique(groups)[:5])
    assert (one_more.sum() - chosen.sum()) < site.settings.limits.min_images
    reply = ask(site, "evaluate", raw=EVALUATION, seen=hashes[one_more])
    assert "differs from that of an earlier run by fewer images" in reply.error.reason
    assert "all of its test images" in ask(site, "evaluate", raw=EVALUATION, seen=hashes).error.reason


@pytest.mark.parametrize(
    "seen",
    [np.zeros((2, 31), np.uint8), np.zeros((2, 32), np.int8), np.zeros(32, np.uint8), np.zeros((2, 32, 1), np.uint8)],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_what_is_no_hash_is_refused(seen, site, monkeypatch):
    monkeypatch.setattr(work, "place_model", lambda *_: pytest.fail("a model is built"))
    assert ask(site, "evaluate", raw=EVALUATION, seen=seen).error.reason == "RunError; see the site's own log"


def test_more_hashes_than_any_model_has_are_refused(site):
    seen = np.zeros((MOST_SEEN + 1, 32), np.uint8)
    assert ask(site, "evaluate", raw=EVALUATION, seen=seen).error.reason == "RunError; see the site's own log"
