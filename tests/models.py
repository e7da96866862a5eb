"""Models small enough that NumPy can compute what training must do to them."""

import numpy as np
import torch
from torch import nn

from fedbus.models.inputs import MEAN, STD
from fedbus.settings.schema import Settings
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import TrainingRows

CPU = torch.device("cpu")
PLAIN = {"augmentation": False, "schedule": "constant", "warmup": 0.0, "label_smoothing": 0.0, "sampler": "none"}


def linear_model(seed: int = 0) -> nn.Sequential:
    """Multinomial logistic regression on 4 x 4 cells, whose gradient fits in one line of NumPy."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 3))


def conv_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def sgd(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=settings.learning_rate)


def train(model: nn.Module, rows: TrainingRows, settings: Settings, steps: int = 3, **changes: object) -> float:
    arguments = {"seed": 0, "round_number": 1, "steps": steps, "optimiser": make_optimiser(model, settings)} | changes
    return train_round(model, rows, settings, **arguments)


def features(images: np.ndarray) -> np.ndarray:
    """Return the inputs of `linear_model`'s last layer, a 1 for the bias last: 4 x 4 means of three channels."""
    cells = (images / 255).reshape(-1, 4, 8, 4, 8).mean(axis=(2, 4)).reshape(-1, 16)
    channels = [(cells - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    return np.concatenate([*channels, np.ones((len(images), 1))], axis=1)


def weights_of(model: nn.Sequential) -> np.ndarray:
    linear = model[2]
    return torch.cat([linear.weight, linear.bias[:, None]], dim=1).detach().double().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
