"""A site whose patients have several images, in two classes, and settings that protect them."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fedbus.privacy.plan import Plan
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.training.rows import TrainingRows, site_rows
from tests.tiny import noise_site, tiny_settings

CPU = torch.device("cpu")
PATIENTS = 6
KEY = bytes(range(32))


def private_settings(**changes: object) -> Settings:
    given = {"model": "test_efficientnet_gn", "dp_epsilon": 8, "dp_delta": 1e-3, "rounds": 2, "augmentation": False}
    return tiny_settings(**given | changes)


def patients_site(name: str = "north") -> Site:
    """18 training images of six patients; the images of the last one are of two classes."""
    site = noise_site(name)
    groups = np.array([f"p{(i * 7) % PATIENTS}" for i in range(len(site.labels))])
    return replace(site, groups=groups)


def rows_of(settings: Settings, site: Site | None = None) -> TrainingRows:
    return site_rows(site or patients_site(), settings, 0, CPU)


def plan_of(rows: TrainingRows, clip: float = 1.0, noise: float = 0.0, steps: int = 1) -> Plan:
    return Plan(rate=0.5, steps=steps, rounds=2, delta=1e-3, clip=clip, noise_multiplier=noise)


def tiny_model(seed: int = 0) -> nn.Sequential:
    """A network with a convolution and GroupNorm."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 3, stride=4), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)
