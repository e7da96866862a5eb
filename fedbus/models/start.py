"""Start weights: timm's pretrained ones, those of a file, or random ones."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fedbus.errors import WeightsError, listed
from fedbus.models.build import build_model, classifier_names
from fedbus.models.state import State, get_state
from fedbus.models.timm_import import import_timm


def start_state(name: str, weights: str, seed: int) -> State:
    """Make the state that every arm of a comparison starts from.

    Args:
        name: A timm classifier.
        weights: `imagenet` (timm's pretrained weights, downloaded if not cached), `none` (random), or the path of a
            .safetensors or .pth file.
        seed: Seed of the random parts: all weights for `none`, otherwise the classifier's head.

    Raises:
        SettingsError: If timm has no such model.
        WeightsError: If the weights are not available or do not fit. There is no silent fallback to random ones.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random state is left as it was
        torch.manual_seed(seed % 2**63)
        model = build_model(name)
    if weights == "imagenet":
        _load_backbone(model, _read_pretrained(name), f"timm's weights of {name}")
    elif weights != "none":
        _load_backbone(model, _read_file(Path(weights)), weights)
    return get_state(model)


def _load_backbone(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load all weights, except a classifier's head of another shape: that one keeps its random weights."""
    head = tuple(f"{module}." for module in classifier_names(model))
    own = model.state_dict()
    wanted = {k for k in own if not k.endswith("num_batches_tracked") and not k.startswith(head)}
    given = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    missing = sorted(wanted - given.keys())
    surplus = sorted(k for k in given.keys() - own.keys() if not k.startswith(head))
    shapes = sorted(f"{k} {list(given[k].shape)} for {list(own[k].shape)}" for k in wanted & given.keys()
                    if given[k].shape != own[k].shape)  # fmt: skip
    if missing or surplus or shapes:
        faults = {"missing": missing, "not of this model": surplus, "of another shape": shapes}
        described = "; ".join(f"{fault}: {listed(keys)}" for fault, keys in faults.items() if keys)
        raise WeightsError(f"{source} does not fit the model: {described}.", "Use weights of the same architecture.")
    fitting_head = {k: v for k, v in given.items() if k.startswith(head) and k in own and v.shape == own[k].shape}
    model.load_state_dict({k: given[k].float() for k in wanted} | fitting_head, strict=False)


def _read_pretrained(name: str) -> Mapping[str, Tensor]:
    timm = import_timm()
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(
            f"timm publishes no weights of {name}.",
            "Choose a model that has some (timm.list_pretrained()), name a file (--set weights=FILE.safetensors), "
            "or start from random weights (--set weights=none).",
        )
    try:
        pretrained = timm.create_model(name, pretrained=True)
    except Exception as error:  # huggingface_hub, timm and the network layers each raise their own types
        raise WeightsError(
            f"timm's ImageNet weights of {name} are not available ({type(error).__name__}: {str(error)[:200]}).",
            "Copy a file from a machine with network access and name it (--set weights=FILE.safetensors), "
            "or start from random weights (--set weights=none).",
        ) from error
    state: Mapping[str, Tensor] = pretrained.state_dict()
    return state


def _read_file(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"weights: {path} does not exist.", "Name a .safetensors or .pth file, imagenet or none.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)  # never unpickles code
    except Exception as error:  # a damaged pickle raises anything: KeyError, IndexError, struct.error and more
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"{path} can't be read as weights ({why}).",
            "Save a plain state dict, torch.save(model.state_dict(), FILE), or use .safetensors.",
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} contains no state dict of tensors.", "Save a state dict: torch.save(model.state_dict(), FILE)."
        )
    return dict(state)
