"""The trained model as torch computes it in float32: what every exported file is compared with.

The update is added from PEFT's own names to torch's own parameters and is not rounded, so that nothing of the way
through GGUF (names, row order, F16) is shared with what it judges.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .adapter import AdapterError, read_torch_adapter
from .parity import Logits
from .weights import load_model


def reference_logits(master: Path, adapter: Path) -> Logits:
    """Return a function from ids to logits, `(ids, vocabulary)` float32, of `master` with PEFT's folder `adapter`."""
    model = load_model(master, torch.float32)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in read_torch_adapter(adapter).items():
            if name not in parameters:
                raise AdapterError(f"the adapter changes {name}, which {master} does not have")
            parameters[name].add_(torch.from_numpy(delta.rows(0, len(delta.b))))

    def logits(ids: Sequence[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = model(torch.tensor([list(ids)]), use_cache=False).logits[0].numpy()
        return found

    return logits
