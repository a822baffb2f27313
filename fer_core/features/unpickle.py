"""`python -m fer_core.features.unpickle IN.pth OUT.safetensors`: a PyTorch checkpoint to plain tensors.

The one place that opens a pickle. Run as a child process and with `weights_only`, it can do no more than fail; called
in this one, it is for files that came with an installed package, whose code runs here anyway.
"""

import sys

import torch
from safetensors.torch import save_file


def tensors_of(source: str) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint; wrappers `state_dict` and `model` and the prefix `module.` are taken off."""
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as exc:
        # bytes that are no checkpoint can lead to any; torch's own words urge to drop weights_only
        raise SystemExit(f"torch.load with weights_only ends in {type(exc).__name__}") from exc
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise SystemExit(f"needs a dict of tensors, got {type(state).__name__}")
    tensors = {
        key.removeprefix("module."): value.clone().contiguous()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise SystemExit("holds no tensors")
    return tensors


if __name__ == "__main__":
    save_file(tensors_of(sys.argv[1]), sys.argv[2])
