"""Measure what a model of 7B's shape costs on its way: add, master, export, load, each in a process of its own.

    python tests/trainer/measure_seven_b.py FOLDER [STAGE ...]

`FOLDER` takes some 45 GB. The file is of Llama 2 7B's shape, Q4_0, of random blocks; the adapter is random. Each stage
is a line of JSON: seconds, the process's largest resident set, and, where the memory cgroup of Linux can be written to,
the most memory that it and the page cache for it held under a limit of 8 GB: a stage that needs more is killed.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

LIMIT_BYTES = 8_000_000_000
LAYERS, WIDTH, INNER, HEADS, VOCABULARY, RANK = 32, 4096, 11008, 32, 32000, 8
CGROUPS = Path("/sys/fs/cgroup/memory")
SHAPES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH, WIDTH),
    "attn_v": (WIDTH, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (INNER, WIDTH),
    "ffn_up": (INNER, WIDTH),
    "ffn_down": (WIDTH, INNER),
}
MODULES = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)


def make(folder: Path) -> None:
    """Write the model; tensors of one shape share their random blocks."""
    writer = gguf.GGUFWriter(folder / "base.gguf", "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q4_0))
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"▁t{number}" for number in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(VOCABULARY)])
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (VOCABULARY - 259)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    made: dict[tuple[int, int], np.ndarray] = {}

    def matrix(name: str, shape: tuple[int, int]) -> None:
        if shape not in made:
            made[shape] = _blocks(shape)
        writer.add_tensor(name, made[shape], raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    matrix("token_embd.weight", (VOCABULARY, WIDTH))
    matrix("output.weight", (VOCABULARY, WIDTH))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for name, shape in SHAPES.items():
            matrix(f"blk.{layer}.{name}.weight", shape)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _blocks(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = shape
    blocks = np.random.default_rng(0).integers(0, 256, (rows, columns // 32, 18), dtype=np.uint8)
    # The first two bytes are a block's scale: about that of real weights of this width.
    blocks[:, :, :2] = np.frombuffer(np.float16(0.004).tobytes(), np.uint8)
    return blocks.reshape(rows, columns // 32 * 18)


def add(folder: Path) -> None:
    """Bring it into a home as a user does."""
    command = [str(Path(sys.executable).parent / "koboshi"), "models", "add", str(folder / "base.gguf"), "--json"]
    subprocess.run([*command, "--template", "chatml"], check=True, env={**os.environ, "KOBOSHI_HOME": f"{folder}/home"})


def master(folder: Path) -> None:
    """Make the F16 master of the file in the home."""
    from koboshi_trainer.master import make_master

    (model,) = (folder / "home" / "models").glob("*/model.gguf")
    make_master(model, folder / "master.gguf")


def export(folder: Path) -> None:
    """Export a random adapter on the master: merged F16, Q8_0, and the adapter by itself."""
    from koboshi_runtime.models.inspect import quantise
    from koboshi_trainer.export import export as export_all

    adapter = folder / "lora"
    adapter.mkdir(exist_ok=True)
    state = {}
    for layer in range(LAYERS):
        for module, (rows, columns) in zip(MODULES, SHAPES.values(), strict=True):
            name = f"base_model.model.model.layers.{layer}.{module}"
            state[f"{name}.lora_A.weight"] = torch.randn(RANK, columns) * 0.01
            state[f"{name}.lora_B.weight"] = torch.randn(rows, RANK) * 0.01
    save_file(state, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none", "target_modules": "all-linear"}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    export_all(
        folder / "master.gguf",
        adapter,
        folder / "export",
        quantise=lambda source, target: quantise(source, target, "q8_0", threads=1),
        run_id="measured",
        on_stage=lambda name: print(f"  {name}", file=sys.stderr, flush=True),
    )


def load(folder: Path) -> None:
    """Load the exported Q8_0 file in a worker and have it write a token."""
    _write_token(folder / "export" / "model.q8_0.gguf", None)


def load_adapter(folder: Path) -> None:
    """Load the adapter on the user's own file, the release for a model whose merged file would not fit."""
    _write_token(folder / "base.gguf", folder / "export" / "adapter.gguf")


def _write_token(path: Path, adapter: Path | None) -> None:
    from koboshi_runtime.model import GenerateRequest, PromptProfile
    from koboshi_runtime.workermodel import WorkerModel, WorkerSettings

    async def written() -> int:
        settings = WorkerSettings(context_tokens=512, parallel=1, threads=1, batch_threads=1, adapter=adapter)
        profile = PromptProfile(template="chatml", tool_format="hermes")
        model = await WorkerModel.start(path, settings, model_hash="sha256:7b", name="7b", profile=profile)
        try:
            return len((await model.generate(GenerateRequest(prompt_ids=(1, 300, 301), max_tokens=1))).ids)
        finally:
            await model.close()

    assert asyncio.run(written()) == 1


STAGES: dict[str, Callable[[Path], None]] = {
    "make": make,
    "add": add,
    "master": master,
    "export": export,
    "load": load,
    "load-adapter": load_adapter,
}


def _limited() -> Path | None:
    """Put this process under the limit, and return its group; None where there is no group to be had."""
    group = CGROUPS / f"koboshi-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES), encoding="ascii")
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    except OSError:
        return None
    return group


def _measured(name: str, folder: Path) -> None:
    group, started = _limited(), time.monotonic()
    STAGES[name](folder)
    seconds = time.monotonic() - started
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    largest = max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024
    held = int((group / "memory.max_usage_in_bytes").read_text(encoding="ascii")) if group else None
    print(json.dumps({"stage": name, "seconds": round(seconds), "resident_bytes": largest, "held_bytes": held}))
    if group:
        (CGROUPS / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        group.rmdir()


if __name__ == "__main__":
    place, stages = Path(sys.argv[1]), sys.argv[2:] or list(STAGES)
    place.mkdir(parents=True, exist_ok=True)
    if len(stages) == 1:
        _measured(stages[0], place)
    else:
        for stage in stages:
            subprocess.run([sys.executable, __file__, str(place), stage], check=True)
