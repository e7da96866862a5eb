"""Who is a patient, and how often over-sampling draws one: against the balanced rows themselves."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedbus.privacy.patients import PrivacyError, largest_rate, list_patients
from fedbus.training.rows import pooled_rows, site_rows
from tests.fedbus.privacy.private_rows import CPU, PATIENTS, patients_site, private_settings, rows_of
from tests.tiny import noise_site


def test_a_patient_is_all_training_images_of_a_group():
    site = patients_site()
    patients = list_patients(rows_of(private_settings()), private_settings())
    train = site.splits["train"]
    found = [sorted(patient.index.tolist()) for patient in patients]
    assert found == [sorted(train[site.groups[train] == f"p{number}"].tolist()) for number in range(PATIENTS)]
    assert all(patient.labels.tolist() == site.labels[patient.index].tolist() for patient in patients)
    assert sorted(place for patient in patients for place in patient.places.tolist()) == list(range(len(train)))


def test_groups_of_different_sites_are_different_patients():
    sites, settings = [patients_site("north"), patients_site("south")], private_settings()
    patients = list_patients(pooled_rows(sites, settings, 0, CPU), settings)
    assert len(patients) == 2 * PATIENTS


@pytest.mark.parametrize("sampler", ["ros", "none"])
def test_an_image_counts_as_often_as_over_sampling_repeats_its_class(sampler):
    settings = private_settings(sampler=sampler)
    rows = rows_of(settings)
    patients = list_patients(rows, settings)
    expected = Counter[int]()  # how often each image counts in a step on average, summed by class
    for patient in patients:
        for label, weight in zip(patient.labels.tolist(), patient.weights.tolist(), strict=True):
            expected[label] += patient.rate * weight
    share = settings.batch_size / len(rows.index)
    balanced = np.bincount(rows.labels.numpy(), minlength=3)
    assert [expected[label] for label in range(3)] == pytest.approx((share * balanced).tolist())
    assert sum(expected.values()) == pytest.approx(settings.batch_size)
    assert all(float(patient.weights.max()) == 1 for patient in patients)
    assert max(patient.rate for patient in patients) == pytest.approx(largest_rate(rows, settings))


def test_what_a_patient_contributes_does_not_depend_on_the_others_or_on_what_was_repeated():
    settings, site = private_settings(), patients_site()
    pixels = site.pixels.copy()
    pixels[site.groups == "p0"] = 0
    changed = replace(site, pixels=pixels)
    drawn = [site_rows(site, settings, 0, CPU), site_rows(changed, settings, 0, CPU), site_rows(site, settings, 1, CPU)]
    assert not torch.equal(drawn[0].index, drawn[2].index)  # over-sampling drew other images
    first, *others = [list_patients(rows, settings) for rows in drawn]
    for patients in others:
        for patient, again in zip(first, patients, strict=True):
            assert torch.equal(patient.index, again.index)
            assert torch.equal(patient.weights, again.weights)
            assert patient.rate == again.rate


def test_a_batch_larger_than_the_site_is_refused_with_the_largest_that_works():
    settings = private_settings(batch_size=20)
    with pytest.raises(PrivacyError, match="north") as error:
        largest_rate(rows_of(settings), settings)
    largest = int(error.value.remedy.split("batch-size=")[1].split()[0])
    assert largest_rate(rows_of(settings), private_settings(batch_size=largest)) <= 1
    with pytest.raises(PrivacyError):
        largest_rate(rows_of(settings), private_settings(batch_size=largest + 1))


def test_a_site_with_one_patient_is_refused():
    site = replace(noise_site(), groups=np.array(["same"] * 30))
    with pytest.raises(PrivacyError, match="single training patient"):
        list_patients(rows_of(private_settings(), site), private_settings())
