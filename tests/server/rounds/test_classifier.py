"""The classifier's rows by class: which arrays they are in, and over which sites they are averaged."""

import pytest
import torch

from fedbus.errors import SettingsError
from fedbus.models.build import build_model
from fedbus.models.state import State, get_state
from server.rounds import classifier
from server.rounds.classifier import average_by_class, classifier_arrays


@pytest.mark.parametrize(
    ("model", "names", "shape"),
    [
        ("test_resnet", ("fc.weight", "fc.bias"), (3, 96)),
        ("resnetv2_18", ("head.fc.weight", "head.fc.bias"), (3, 512, 1, 1)),
        ("mobilenetv2_035", ("classifier.weight", "classifier.bias"), (3, 1280)),
    ],
)
def test_the_classifier_is_found_in_models_of_every_kind(model, names, shape):
    assert classifier_arrays(model) == names
    assert get_state(build_model(model))[names[0]].shape == shape


def test_a_model_without_a_known_classifier_is_refused(monkeypatch):
    monkeypatch.setattr(classifier, "classifier_names", lambda model: ())
    with pytest.raises(SettingsError, match="timm does not name the classifier of test_resnet"):
        classifier_arrays("test_resnet")


SHAPES = {"head.fc.weight": (3, 5, 1, 1), "head.fc.bias": (3,)}


def random_state(seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=generator) for name, shape in SHAPES.items()}


def test_a_row_is_the_weighted_mean_over_the_sites_that_have_its_class():
    before, updates = random_state(0), {"east": random_state(1), "north": random_state(2), "south": random_state(3)}
    weights = {"east": 2.0, "north": 3.0, "south": 5.0}
    classes = {"east": {0, 1, 2}, "north": {0, 2}, "south": {0}}
    averaged = average_by_class(list(SHAPES), before, updates, weights, classes)
    for name in SHAPES:
        east, north, south = (updates[site][name] for site in updates)
        expected = [0.2 * east[0] + 0.3 * north[0] + 0.5 * south[0], east[1], 0.4 * east[2] + 0.6 * north[2]]
        torch.testing.assert_close(averaged[name], torch.stack(expected))


def test_a_row_stays_unchanged_if_no_site_has_its_class():
    before, updates = random_state(0), {"north": random_state(1)}
    averaged = average_by_class(list(SHAPES), before, updates, {"north": 1.0}, {"north": {0, 1}})
    for name in SHAPES:
        assert torch.equal(averaged[name][2], before[name][2])
        assert torch.equal(averaged[name][:2], updates["north"][name][:2])
        assert torch.equal(before[name], random_state(0)[name])
