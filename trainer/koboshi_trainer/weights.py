"""Load an F16 master into torch: a config made from its metadata, then its tensors, and nothing else.

No tokenizer is loaded, nothing is fetched, no weight is initialised to be thrown away. What the metadata asks for and
torch would do differently (another rope scaling, a partial rotation) is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from koboshi_tools import UsageError

from .architectures import ROPE_FREQUENCIES, Architecture, architecture_of, heads_of
from .four_bit import FourBitLinear, make_four_bit
from .gguf.read import GgufError, GgufFile, read_gguf, read_tensor

# Layers of Gemma 3 27B, by which llama.cpp knows it: it alone scales attention by its width over its heads.
_GEMMA_27B_LAYERS = 62
# llama.cpp's values where a gemma3 file does not say.
_GEMMA_WINDOW_PERIOD = 6
_GEMMA_LOCAL_ROPE_BASE = 10_000.0


def load_model(master: Path, dtype: torch.dtype = torch.float32, *, four_bit: bool = False) -> Any:
    """Return the causal LM in `master`, in evaluation mode, weights in `dtype`, attention by sdpa.

    With `four_bit` the linear layers of its body are held in NF4, and made so one by one. Raises UsageError for an
    architecture that was not proved and GgufError where tensors and metadata disagree.
    """
    file = read_gguf(master)
    family = architecture_of(file)
    config = make_config(file)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    packed = make_four_bit(model) if four_bit else {}
    try:
        # Not strict, because a tied output is missing by right; what else is missing is found below.
        state = _state(file, family, dtype, packed)
        strange = model.load_state_dict(state, strict=False, assign=True).unexpected_keys
    except RuntimeError as error:
        raise GgufError(f"the tensors of {master} are not what its metadata says: {error}") from error
    if strange:
        raise GgufError(f"the metadata of {master} leaves no place for {', '.join(strange[:3])}")
    model.tie_weights()
    _fill_buffers(model, file)
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if left:
        raise GgufError(f"{master} has no tensor for {', '.join(left[:3])}")
    return model.eval()


def make_config(file: GgufFile) -> Any:
    """Return the transformers config of a GGUF model. Raises GgufError for metadata that torch cannot follow."""
    family = architecture_of(file)
    heads = int(file.number("attention.head_count"))
    hidden = int(file.number("embedding_length"))
    head_size = int(file.number("attention.key_length", hidden // heads))
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise GgufError(f"{file.path} has no tensor token_embd.weight")
    _refuse_partial_rotation(file, head_size)
    common = {
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden,
        "intermediate_size": int(file.number("feed_forward_length")),
        "num_hidden_layers": int(file.number("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(file.number("attention.head_count_kv", heads)),
        "max_position_embeddings": int(file.number("context_length")),
        "rms_norm_eps": file.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    match family.name:
        case "llama":
            return transformers.LlamaConfig(**common, head_dim=head_size, rope_parameters=_rope(file))
        case "qwen2":
            return transformers.Qwen2Config(**common, rope_parameters=_rope(file))
        case "qwen3":
            return transformers.Qwen3Config(**common, head_dim=head_size, rope_parameters=_rope(file))
        case _:
            return _gemma3_config(file, common, head_size)


def _gemma3_config(file: GgufFile, common: Mapping[str, Any], head_size: int) -> Any:
    layers = common["num_hidden_layers"]
    window = int(file.number("attention.sliding_window", 0))
    period = int(file.number("attention.sliding_window_pattern", _GEMMA_WINDOW_PERIOD))
    local = {"rope_type": "default", "rope_theta": file.number("rope.freq_base_swa", _GEMMA_LOCAL_ROPE_BASE)}
    is_27b = layers == _GEMMA_27B_LAYERS
    return transformers.Gemma3TextConfig(
        **common,
        head_dim=head_size,
        query_pre_attn_scalar=common["hidden_size"] // common["num_attention_heads"] if is_27b else head_size,
        sliding_window=window or None,
        layer_types=[
            "sliding_attention" if window and (layer + 1) % period else "full_attention" for layer in range(layers)
        ],
        final_logit_softcapping=file.number("final_logit_softcapping", 0.0) or None,
        rope_parameters={"full_attention": _rope(file), "sliding_attention": local},
    )


def _rope(file: GgufFile) -> dict[str, Any]:
    base = {"rope_type": "default", "rope_theta": file.number("rope.freq_base", 10_000.0)}
    scaling = file.values.get(f"{file.architecture}.rope.scaling.type", "none")
    match scaling:
        case "none":
            return base
        case "linear":
            return base | {"rope_type": "linear", "factor": file.number("rope.scaling.factor")}
        case _:
            raise GgufError(f"{file.path} scales its positions by {scaling!r}; none and linear can be trained")


def _refuse_partial_rotation(file: GgufFile, head_size: int) -> None:
    rotated = int(file.number("rope.dimension_count", head_size))
    if rotated != head_size or int(file.number("attention.value_length", head_size)) != head_size:
        raise GgufError(f"{file.path} rotates {rotated} of {head_size} dimensions of a head; only all can be trained")


def _state(
    file: GgufFile, family: Architecture, dtype: torch.dtype, packed: Mapping[str, FourBitLinear]
) -> dict[str, torch.Tensor]:
    """Return the tensors by torch's names, without the weights of `packed`, which take them here."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in file.tensors.items():
        target = family.torch_name(name)
        if target is not None:
            weight = family.to_torch(name, read_tensor(file, tensor), heads_of(file, name))
            if (layer := packed.get(target.removesuffix(".weight"))) is not None and target.endswith(".weight"):
                layer.take(torch.from_numpy(weight))
                continue
            # `copy` gives one contiguous tensor of torch's own, whatever view numpy made.
            state[target] = torch.from_numpy(weight).to(dtype, copy=True).contiguous()
    return state


def _fill_buffers(model: Any, file: GgufFile) -> None:
    body = model.model
    body.rotary_emb = type(body.rotary_emb)(model.config)
    if hasattr(body.embed_tokens, "embed_scale"):
        body.embed_tokens.embed_scale = torch.tensor(body.embed_tokens.scalar_embed_scale)
    factors = file.tensors.get(ROPE_FREQUENCIES)
    if factors is None:
        return
    if not hasattr(body.rotary_emb, "inv_freq"):
        raise UsageError(f"{file.path} is a {file.architecture} model with {ROPE_FREQUENCIES}, which was not proved")
    body.rotary_emb.inv_freq = body.rotary_emb.inv_freq / torch.from_numpy(read_tensor(file, factors))
