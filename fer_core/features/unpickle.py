"""`python -m fer_core.features.unpickle IN.pth OUT.safetensors`: convert a PyTorch checkpoint to plain tensors.

Only this module opens a pickle, with `weights_only`. It runs in a child process, where a malicious file can do no more
than make it fail. It is called in this process only for files of an installed package, whose code runs here anyway.
"""

import sys

import torch
from safetensors.torch import save_file


def tensors_of(source: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint, without the wrappers `state_dict` and `model` and the prefix `module.`.

    Raises:
        SystemExit: the file is not a checkpoint of plain tensors.
    """
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as exc:
        # other files can raise any error; torch's message is not passed on, since it advises to drop weights_only
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
