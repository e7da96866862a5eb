"""pfl with its own loop gets our rows and takes our number of steps."""

import numpy as np
import pytest
import torch

from fedbus.models.inputs import MEAN, STD
from fedbus.training.rows import site_rows
from simulations.benchmarks.peer_pfl_plain import training_tensors, validation_tensors

CPU = torch.device("cpu")


def normalised(pixels):
    return (pixels[:, None] / 255 - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))


@pytest.mark.parametrize("epochs", [0.5, 1.0, 2.0])
def test_one_pass_over_the_rows_gives_our_number_of_full_batches(tiny_case, epochs):
    settings = tiny_case.settings.model_copy(update={"local_epochs": epochs})
    for site in tiny_case.sites.values():
        rows = site_rows(site, settings, 0, CPU)
        images, labels = training_tensors(rows, settings)
        assert len(images) == len(labels) == rows.steps_per_round(settings) * settings.batch_size
        if epochs == 1:
            counts = torch.bincount(labels, minlength=3)[torch.unique(rows.labels)]
            assert counts.max() - counts.min() <= settings.batch_size, "balanced, but for what fills the last batch"
        train = site.splits["train"]
        known = {
            (image.round(4).tobytes(), int(label))
            for image, label in zip(normalised(site.pixels[train]).astype(np.float32), site.labels[train], strict=True)
        }
        given = {(image.numpy().round(4).tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
        assert len(given & known) == len(given), "each image keeps its label, and none is from another split"


def test_the_validation_rows_of_all_sites_are_stored_normalised(tiny_case):
    images, labels = validation_tensors(tiny_case, CPU)
    parts = [(site, site.splits["validation"]) for site in tiny_case.sites.values()]
    assert labels.tolist() == [label for site, rows in parts for label in site.labels[rows].tolist()]
    assert images.is_contiguous()
    expected = np.concatenate([normalised(site.pixels[rows]) for site, rows in parts])
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5)
