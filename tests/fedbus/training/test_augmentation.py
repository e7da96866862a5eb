"""Random views: range, chance, geometry against SciPy, and what never happens."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from fedbus.training import augmentation
from fedbus.training.augmentation import augment, draw_views

SIZE = 33


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, SIZE, SIZE, generator=generator(seed))


def view(batch: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return augment(batch, draw_views(1, len(batch), generator(seed))[0])


def ramp(axis: int, count: int) -> torch.Tensor:
    """Brightness from 0.3 to 0.7 along an axis: 2 downwards, 3 to the right."""
    line = torch.linspace(0.3, 0.7, SIZE)
    return (line.view(1, 1, -1, 1) if axis == 2 else line.view(1, 1, 1, -1)).expand(count, 1, SIZE, SIZE)


@pytest.fixture
def gentle(monkeypatch):
    """Set magnitudes to zero; those named keep the value given."""

    def set_magnitudes(**kept: float) -> None:
        for name in ("ROTATION", "SCALE", "SHIFT", "CONTRAST", "GAIN"):
            monkeypatch.setattr(augmentation, name, kept.get(name, 0.0))

    return set_magnitudes


def test_range_shape_and_type_stay():
    views = view(noise(200))
    assert views.shape == (200, 1, SIZE, SIZE)
    assert views.dtype == torch.float32
    assert 0 <= float(views.min()) < float(views.max()) <= 1


def test_views_depend_only_on_the_generator():
    batch = noise(8)
    torch.manual_seed(0)
    first = view(batch, 3)
    torch.manual_seed(1)
    assert torch.equal(first, view(batch, 3))
    assert not torch.equal(first, view(batch, 4))


def test_the_batch_is_left_unchanged():
    batch = noise(4)
    before = batch.clone()
    view(batch)
    assert torch.equal(batch, before)


def test_each_image_gets_a_different_view():
    views = view(noise(1).expand(6, 1, SIZE, SIZE))
    assert all(not torch.equal(views[i], views[j]) for i in range(6) for j in range(i))


def test_without_magnitudes_a_view_is_the_image_or_its_mirror_image(gentle):
    gentle()
    batch = noise(400)
    views = view(batch)
    same = (views - batch).abs().amax(dim=(1, 2, 3)) < 1e-4
    mirrored = (views - batch.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert bool((same ^ mirrored).all())
    assert 160 < int(mirrored.sum()) < 240  # 400 fair coins, four standard deviations


def test_nothing_is_ever_turned_upside_down():
    views = view(ramp(2, 1000))
    top, bottom = views[:, :, : SIZE // 2].mean(dim=(1, 2, 3)), views[:, :, SIZE // 2 + 1 :].mean(dim=(1, 2, 3))
    assert bool((bottom > top).all())


def test_half_of_the_views_are_mirrored():
    views = view(ramp(3, 1000))
    left, right = views[..., : SIZE // 2].mean(dim=(1, 2, 3)), views[..., SIZE // 2 + 1 :].mean(dim=(1, 2, 3))
    assert 436 < int((left > right).sum()) < 564


def test_gain_and_contrast_keep_to_their_bounds(gentle):
    gentle(CONTRAST=0.2, GAIN=0.1)
    level = 0.6
    views = view(torch.full((2000, 1, 8, 8), level))
    assert float((views - views[:, :, :1, :1]).abs().max()) < 1e-6
    values = views[:, 0, 0, 0]
    bound = (level - 0.5) * 0.2 + 0.1
    assert float((values - level).abs().max()) <= bound + 1e-6
    assert float(values.max() - level) > 0.9 * bound
    assert float(level - values.min()) > 0.9 * bound
    assert abs(float(values.mean()) - level) < 0.01


def test_a_shift_moves_by_at_most_a_twentieth_of_the_image(gentle):
    gentle(SHIFT=0.05)
    place = torch.arange(SIZE).float() - SIZE // 2
    spot = torch.exp(-(place.view(-1, 1) ** 2 + place.view(1, -1) ** 2) / 18).view(1, 1, SIZE, SIZE)
    views = view(spot.expand(500, 1, SIZE, SIZE))[:, 0]
    mass = views.sum(dim=(1, 2))
    for moved in ((views.sum(dim=2) * place).sum(dim=1) / mass, (views.sum(dim=1) * place).sum(dim=1) / mass):
        assert 0.85 * 0.05 * SIZE < float(moved.abs().max()) <= 0.05 * SIZE + 0.05


def test_geometry_is_that_of_an_independent_implementation():
    batch = noise(20, seed=5)
    views = view(batch, 9)
    draws = torch.rand(20, 7, generator=generator(9)).double().numpy()
    centre = (SIZE - 1) / 2
    for image, seen, draw in zip(batch[:, 0].numpy(), views[:, 0].numpy(), draws, strict=True):
        centred = 2 * draw - 1
        angle, scale = math.radians(10) * centred[0], 1 + 0.1 * centred[1]
        # In (row, column): where in the image each pixel of the view comes from.
        matrix = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        if draw[2] < 0.5:
            matrix = matrix @ np.diag([1, -1])
        shift = 0.05 * SIZE * np.array([centred[4], centred[3]])
        offset = centre + shift - matrix @ np.array([centre, centre])
        moved = affine_transform(image.astype(float), matrix, offset, order=1, mode="nearest")
        expected = np.clip((moved - 0.5) * (1 + 0.2 * centred[5]) + 0.5 + 0.1 * centred[6], 0, 1)
        np.testing.assert_allclose(seen, expected, atol=2e-5)


def test_views_of_many_batches_are_those_of_one_after_the_other():
    single, whole = generator(4), generator(4)
    one_by_one = [draw_views(1, 5, single)[0] for _ in range(7)]
    together = draw_views(7, 5, whole)
    assert together.shape == (7, 5, 8)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, torch.stack(one_by_one), rtol=0, atol=1e-6)
    assert torch.equal(
        torch.rand(3, generator=single), torch.rand(3, generator=whole)
    )  # both generators are in the same state
