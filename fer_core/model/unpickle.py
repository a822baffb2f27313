"""`python -m fer_core.model.unpickle IN.pth OUT.safetensors`: a PyTorch checkpoint to plain tensors.

The one place that opens a pickle. Run as a child process and with `weights_only`, it can do no more than fail.
"""

import sys

import torch
from safetensors.torch import save_file


def main(source: str, target: str) -> None:
    """Convert one checkpoint; wrappers `state_dict` and `model` and the prefix `module.` are taken off."""
    state = torch.load(source, map_location="cpu", weights_only=True)
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
    save_file(tensors, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
