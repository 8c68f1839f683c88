"""Tiny random models of each trainable architecture, LoRA adapters for them, and llama.cpp to read them with."""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from koboshi_runtime.llama import quantise, start_backend
from koboshi_runtime.model import PromptProfile
from koboshi_runtime.workermodel import WorkerModel, WorkerSettings
from koboshi_trainer.architectures import ARCHITECTURES
from koboshi_trainer.gguf.read import GgufFile, Scalar
from koboshi_trainer.gguf.write import TensorPlan, encode_pair, write_gguf

_LAYERS, _HIDDEN, _INNER, _HEADS, _KV_HEADS, _VOCABULARY = 2, 64, 96, 4, 2, 320
_CONTEXT_TOKENS = 512
_F16, _F32 = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32


def _metadata(architecture: str, head_size: int) -> dict[str, Scalar]:
    own: dict[str, Scalar] = {
        "block_count": _LAYERS,
        "context_length": _CONTEXT_TOKENS,
        "embedding_length": _HIDDEN,
        "feed_forward_length": _INNER,
        "attention.head_count": _HEADS,
        "attention.head_count_kv": _KV_HEADS,
        "attention.key_length": head_size,
        "attention.value_length": head_size,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10_000.0,
    }
    if architecture == "gemma3":
        # Short and often, so that a test of some dozen tokens crosses windows of both kinds.
        own |= {"attention.sliding_window": 8, "attention.sliding_window_pattern": 2, "rope.freq_base": 1_000_000.0}
    general: dict[str, Scalar] = {"general.architecture": architecture, "general.file_type": 1}
    return general | {f"{architecture}.{key}": value for key, value in own.items()}


def _vocabulary_pairs() -> dict[str, bytes]:
    """A SentencePiece vocabulary of control tokens, bytes and letters: enough for llama.cpp to load a model."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [chr(0x4E00 + index) for index in range(_VOCABULARY - len(tokens))]
    kinds = [2, 3, 3, *[6] * 256] + [1] * (_VOCABULARY - 259)
    return {
        "tokenizer.ggml.model": encode_pair("tokenizer.ggml.model", "llama"),
        "tokenizer.ggml.tokens": _array("tokenizer.ggml.tokens", 8, [_text(token) for token in tokens]),
        "tokenizer.ggml.scores": _array(
            "tokenizer.ggml.scores", 6, [np.float32(-i).tobytes() for i in range(len(tokens))]
        ),
        "tokenizer.ggml.token_type": _array("tokenizer.ggml.token_type", 5, [np.int32(k).tobytes() for k in kinds]),
    }


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(8, "little") + data


def _array(key: str, kind: int, entries: Sequence[bytes]) -> bytes:
    head = _text(key) + (9).to_bytes(4, "little") + kind.to_bytes(4, "little") + len(entries).to_bytes(8, "little")
    return head + b"".join(entries)


def _shapes(architecture: str, head_size: int, *, tied: bool) -> dict[str, tuple[int, ...]]:
    queries, keys = _HEADS * head_size, _KV_HEADS * head_size
    sizes: dict[str, tuple[int, ...]] = {
        "attn_q": (queries, _HIDDEN),
        "attn_k": (keys, _HIDDEN),
        "attn_v": (keys, _HIDDEN),
        "attn_output": (_HIDDEN, queries),
        "ffn_gate": (_INNER, _HIDDEN),
        "ffn_up": (_INNER, _HIDDEN),
        "ffn_down": (_HIDDEN, _INNER),
        "attn_q_norm": (head_size,),
        "attn_k_norm": (head_size,),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (_VOCABULARY, _HIDDEN), "output_norm.weight": (_HIDDEN,)}
    if not tied:
        shapes["output.weight"] = (_VOCABULARY, _HIDDEN)
    for layer in range(_LAYERS):
        for part in ARCHITECTURES[architecture].layer:
            name, _, kind = part.partition(".")
            size = sizes.get(name, (_HIDDEN,))
            shapes[f"blk.{layer}.{part}"] = size[:1] if kind == "bias" else size
    return shapes


def _plan(name: str, weight: NDArray[np.float64]) -> TensorPlan:
    if weight.ndim == 1:
        return TensorPlan(name, weight.shape, _F32, lambda: [weight.astype(np.float32)])
    return TensorPlan(name, weight.shape, _F16, lambda: [weight.astype(np.float16)])


def write_tiny_model(
    path: Path,
    architecture: str,
    *,
    tied: bool = True,
    seed: int = 0,
    rope_factors: bool = False,
    head_size: int = 32,
) -> Path:
    """Write a random F16 model of about 200 KB; its predictions are far from uniform, so that an error shows."""
    # llama.cpp has no head size of its own for qwen2.
    head_size = _HIDDEN // _HEADS if architecture == "qwen2" else head_size
    generator = np.random.default_rng(seed)
    plans = []
    for name, shape in _shapes(architecture, head_size, tied=tied).items():
        is_norm = "norm" in name
        weight = generator.normal(1.0 if is_norm else 0.0, 0.3 if len(shape) == 1 else 0.15, shape)
        plans.append(_plan(name, weight))
    if rope_factors:
        plans.append(_plan("rope_freqs.weight", np.linspace(1, 8, head_size // 2)))
    pairs = {key: encode_pair(key, value) for key, value in _metadata(architecture, head_size).items()}
    write_gguf(path, pairs | _vocabulary_pairs(), plans)
    return path


def write_random_adapter(folder: Path, model: GgufFile, *, size: float, rank: int = 4, seed: int = 1) -> Path:
    """Write a LoRA on all linear layers as PEFT saves it; D's standard deviation is `size` times the weight's."""
    folder.mkdir(parents=True, exist_ok=True)
    family = ARCHITECTURES[model.architecture]
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in model.tensors.items():
        parameter = family.torch_name(name)
        if parameter is None or not parameter.endswith("proj.weight"):
            continue
        rows, columns = tensor.shape
        module = "base_model.model." + parameter.removesuffix(".weight")
        # With scale 2 and A, B normal, an entry of D has the standard deviation 2 sqrt(rank) sigma_a sigma_b.
        state[f"{module}.lora_A.weight"] = torch.randn(rank, columns, generator=generator)
        state[f"{module}.lora_B.weight"] = torch.randn(rows, rank, generator=generator) * size * 0.1 / (2 * rank**0.5)
    save_file(state, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A GGUF in a model worker: torch computes in this process, and llama.cpp must not decode beside it."""

    runner: asyncio.Runner
    model: WorkerModel
    scratch: Path

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return llama.cpp's logits after each id, `(ids, vocabulary)`."""
        path = self.scratch / "logits.npy"
        self.runner.run(self.model.logits(tuple(ids), path))
        found: NDArray[np.float32] = np.load(path)
        return found


@contextmanager
def load(path: Path, *, adapter: Path | None = None) -> Iterator[LoadedFile]:
    """Load a GGUF into a worker of its own for as long as the context lasts."""
    settings = WorkerSettings(context_tokens=1024, parallel=1, threads=1, batch_threads=1, adapter=adapter)
    profile = PromptProfile(template="chatml", tool_format="hermes")
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as scratch:
        model = runner.run(WorkerModel.start(path, settings, model_hash="sha256:test", name=path.stem, profile=profile))
        try:
            yield LoadedFile(runner, model, Path(scratch))
        finally:
            runner.run(model.close())


def quantise_q8_0(source: Path, target: Path) -> None:
    start_backend()
    quantise(source, target, "q8_0", threads=1)


class Kit:
    """The functions of this file as one value, for tests that use several of them."""

    write_tiny_model = staticmethod(write_tiny_model)
    write_random_adapter = staticmethod(write_random_adapter)
    load = staticmethod(load)
    quantise_q8_0 = staticmethod(quantise_q8_0)


@pytest.fixture
def kit() -> Kit:
    torch.set_num_threads(1)
    return Kit()
