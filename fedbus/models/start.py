"""Start weights: from timm's hub, from a file, or random."""

from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fedbus.errors import WeightsError, listed
from fedbus.models.build import build_model, classifier_names
from fedbus.models.state import State, get_state


def start_state(name: str, weights: str, seed: int) -> State:
    """Make the state that every arm of a comparison starts from.

    Args:
        name: a timm classifier.
        weights: `imagenet` (timm's own, from its hub), `none` (random), or a .safetensors or .pth file.
        seed: of the random parts: all of it for `none`, the classifier's head otherwise.

    Raises:
        WeightsError: the weights can't be had or do not fit; never a silent random start.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        model = build_model(name)
    if weights == "imagenet":
        _load_backbone(model, _hub_state(name), f"timm's weights of {name}")
    elif weights != "none":
        _load_backbone(model, _file_state(Path(weights)), weights)
    return get_state(model)


def _load_backbone(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load everything but the classifier's head, which keeps its random start unless it fits."""
    head = tuple(f"{module}." for module in classifier_names(model))
    own = model.state_dict()
    wanted = {k for k in own if not k.endswith("num_batches_tracked") and not k.startswith(head)}
    given = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    missing = sorted(wanted - given.keys())
    surplus = sorted(k for k in given.keys() - own.keys() if not k.startswith(head))
    shapes = sorted(f"{k} {list(given[k].shape)} for {list(own[k].shape)}" for k in wanted & given.keys()
                    if given[k].shape != own[k].shape)  # fmt: skip
    if missing or surplus or shapes:
        parts = {"missing": missing, "not of this model": surplus, "of another shape": shapes}
        said = "; ".join(f"{what}: {listed(keys)}" for what, keys in parts.items() if keys)
        raise WeightsError(f"{source} does not fit the model: {said}.", "Name weights of the same architecture.")
    fitting_head = {k: v for k, v in given.items() if k.startswith(head) and k in own and v.shape == own[k].shape}
    model.load_state_dict({k: given[k].float() for k in wanted} | fitting_head, strict=False)


def _hub_state(name: str) -> Mapping[str, Tensor]:
    settings = timm.get_pretrained_cfg(name)
    if settings is None or not settings.has_weights:
        raise WeightsError(
            f"timm publishes no weights of {name}.",
            "Choose a model that has some (timm.list_pretrained()), name a file (--set weights=FILE.safetensors), "
            "or start from random weights (--set weights=none).",
        )
    try:
        pretrained = timm.create_model(name, pretrained=True)
    except Exception as error:  # huggingface_hub, timm and the network each raise their own
        raise WeightsError(
            f"timm's ImageNet weights of {name} can't be had here ({type(error).__name__}: {str(error)[:200]}).",
            "Bring a file from a machine with a network and name it (--set weights=FILE.safetensors), "
            "or start from random weights (--set weights=none).",
        ) from error
    state: Mapping[str, Tensor] = pretrained.state_dict()
    return state


def _file_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"weights: {path} is not there.", "Name a .safetensors or .pth file, imagenet or none.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way: KeyError, IndexError, struct.error and more
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"{path} can't be read as weights ({why}).",
            "Save a plain state dict: torch.save(model.state_dict(), FILE), or use .safetensors.",
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict of tensors.", "Save torch.save(model.state_dict(), FILE).")
    return dict(state)
