"""FedAvg as Flower's quickstart writes it: whole state dicts are sent, and the steps are those that it reports."""

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedbus.training.rows import site_rows
from simulations.benchmarks.case import Case
from simulations.benchmarks.plain_flower import make_client_app, plain_sites, resources, run_plain_flower
from simulations.benchmarks.plain_loop import load_model

# Ray leaves its processes and /dev/null open until the interpreter ends.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def ask(case, sites, kind, partition):
    """Give a site the start weights in a message of that kind, without Ray."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    arrays = ArrayRecord(load_model(case.settings, case.start).state_dict())
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
    message = Message(content, dst_node_id=1, message_type=kind)
    message.metadata.__dict__["_message_id"] = "1"
    context = Context(run_id=1, node_id=1, node_config={"partition-id": partition}, state=RecordDict(), run_config={})
    return arrays, make_client_app(case.settings, sites)(message, context).content


def test_a_site_trains_its_own_rows_and_sends_the_whole_state_dict(tiny_case, tmp_path):
    sites = plain_sites(tiny_case, tmp_path)
    for number, (name, site) in enumerate(tiny_case.sites.items()):
        sent, content = ask(tiny_case, sites, "train", number)
        ours = site_rows(site, tiny_case.settings, 0, torch.device("cpu")).steps_per_round(tiny_case.settings)
        metrics = content["metrics"]
        assert (metrics["num-examples"], metrics["steps"]) == (len(site.splits["train"]), ours), name
        back = content["arrays"].to_torch_state_dict()
        assert list(back) == list(sent)
        counters = [value for key, value in back.items() if key.endswith("num_batches_tracked")]
        assert counters
        assert all(int(value) == ours for value in counters)


def test_a_site_scores_its_validation_rows(tiny_case, tmp_path):
    sites = plain_sites(tiny_case, tmp_path)
    _, content = ask(tiny_case, sites, "evaluate", 1)
    assert isinstance(content["metrics"], MetricRecord)
    assert content["metrics"]["num-examples"] == len(tiny_case.sites["south"].splits["validation"])
    assert "arrays" not in content


def test_a_whole_round(tiny_case: Case, tmp_path):
    settings = tiny_case.settings.model_copy(update={"rounds": 1, "local_epochs": 0.5})
    case = Case(settings, tiny_case.out, tiny_case.sites, tiny_case.start)
    result = run_plain_flower(case, tmp_path)
    cpu = torch.device("cpu")
    expected = sum(site_rows(site, settings, 0, cpu).steps_per_round(settings) for site in case.sites.values())
    assert result.steps == [expected]
    assert len(result.ends) == 1
    assert {key: value.shape for key, value in result.final.items()} == {
        key: value.shape for key, value in case.start.items()
    }
    assert any(not torch.equal(result.final[key], case.start[key]) for key in case.start)
    assert not list(tmp_path.iterdir()), "the trees are gone"


def test_sites_share_gpus_and_otherwise_get_flowers_defaults(tiny_case, monkeypatch):
    anywhere = tiny_case.settings.model_copy(update={"device": "auto"})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resources(anywhere, 3) == {"client_resources": {"num_cpus": 2, "num_gpus": 1 / 3}}
    assert resources(tiny_case.settings, 3) == {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resources(anywhere, 3) == {}
