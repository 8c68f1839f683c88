"""The one door to llama.cpp: a model, a context of many sequences, and its tokenizer, through the low-level calls.

Runs inside the model worker only: a malformed file or a wrong call can end the process, so nothing else may share it.
An `Engine` belongs to one thread. Positions and ids are int32; logits are float32 views into llama.cpp's own memory and
hold until the next `decode`.

All sequences share one KV cache (`kv_unified`), so that a batch of any lengths is decoded in one pass, and giving a
sequence the beginning of another marks cells instead of copying them. With flash attention a token costs what its own
run holds; cells of others are skipped.
"""

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koboshi_tools import KoboshiError

from .templates import MARKS
from .worker import kernels

# Before llama.cpp's own libraries: of two functions of one name that which is loaded first is called.
KERNELS = kernels.load()

import llama_cpp  # noqa: E402

_QUANTIZATIONS = {
    "f16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "q5_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}

_SPECIAL_ATTRIBUTES = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
)

# `ggml_log_level` in ggml.h; the Python package does not name it.
_LOG_LEVEL_ERROR = 4

# `llama_flash_attn_type` in llama.h, likewise.
_FLASH_ATTENTION_OFF = 0
_FLASH_ATTENTION_ON = 1

# `ggml_type` in ggml.h.
_CELL_TYPES = {"f16": 1, "bf16": 30}

_log_lines: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]  # the package has no types
def _keep_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level == _LOG_LEVEL_ERROR:
        _log_lines.append(text.decode("utf-8", "replace").strip())
        del _log_lines[:-5]


class ModelFileError(KoboshiError):
    """A model file that llama.cpp does not load, or a context that does not fit."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a model is loaded. `context_tokens` is of one sequence; thread counts are of decoding and of prefill.

    `cell_type` is the number format of the KV cache, `f16` or `bf16`.

    `extra_buffers` lets llama.cpp repack weights for the CPU's own instructions. Its AMX path dies on some builds
    (ggml-org/llama.cpp#26954), so the client turns it off where the worker's first decode ends the process, and with
    it `own_kernels`, which say whether koboshi computes itself what it can (`worker/kernels.py`).
    """

    context_tokens: int = 2048
    parallel: int = 16
    threads: int = 2
    batch_threads: int = 2
    gpu_layers: int = 0
    batch_tokens: int = 512
    flash_attention: bool = True
    cell_type: str = "f16"
    extra_buffers: bool = True
    own_kernels: bool = True
    adapter: Path | None = None


def build(*, own_kernels: bool) -> str:
    """Return which llama.cpp this is, as far as its package tells, and which of koboshi's kernels compute beside it."""
    own = [kernels.library_path().stem] if own_kernels and KERNELS.library is not None else []
    return " ".join(["llama-cpp-python", llama_cpp.__version__, *own])


def start_backend() -> None:
    """Prepare llama.cpp once per process; only errors of its log are kept."""
    llama_cpp.llama_log_set(_keep_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


def _reason() -> str:
    return " · ".join(_log_lines) or "no reason given"


def load_vocabulary(path: Path) -> Any:
    """Return a llama.cpp model that holds only metadata and vocabulary. Raises ModelFileError."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise ModelFileError(f"{path} was not read as a GGUF model: {_reason()}")
    return model


def metadata(model: Any) -> dict[str, str]:
    """Return the key-value region of a loaded model as text; arrays are left out by llama.cpp."""
    found: dict[str, str] = {}
    for index in range(llama_cpp.llama_model_meta_count(model)):
        key = _text_of(llama_cpp.llama_model_meta_key_by_index, model, index)
        found[key] = _text_of(llama_cpp.llama_model_meta_val_str_by_index, model, index)
    return found


def _text_of(call: Any, model: Any, index: int) -> str:
    needed = call(model, index, ctypes.create_string_buffer(1), 1)
    buffer = ctypes.create_string_buffer(max(needed, 0) + 1)
    call(model, index, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace")


def quantise(source: Path, target: Path, kind: str, *, threads: int) -> None:
    """Write `source` (F16, BF16 or F32) as `kind` to `target`, which is left behind, partial, on error.

    Raises ModelFileError: for an unknown kind, and where llama.cpp refuses, as it does for a source that is quantised.
    """
    if kind not in _QUANTIZATIONS:
        raise ModelFileError(f"unknown quantization {kind!r}", hint=f"one of {', '.join(_QUANTIZATIONS)}")
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = _QUANTIZATIONS[kind]
    params.allow_requantize = False
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if code != 0:
        raise ModelFileError(f"{source} was not quantised to {kind}: {_reason()}")


class Vocabulary:
    """Text to ids and back. Ids of markup come from `special_id` only, never from text.

    llama.cpp leaves a control token out of plain text, but finds a user-defined one (Qwen's `<tool_call>`) in any text.
    Where such a token is markup of ours, its text is cut behind its first character before it is tokenised. Not
    covered: an SPM vocabulary that puts a blank before each stretch of text shows one at the cut.
    """

    def __init__(self, model: Any) -> None:
        self.handle = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self.handle)
        self._pieces: dict[int, bytes] = {}
        open_marks = [mark for mark in MARKS if self._is_user_defined(mark)]
        self._cut = re.compile("|".join(f"(?<={re.escape(m[0])})(?={re.escape(m[1:])})" for m in open_marks) or "(?!)")

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of `text`, no BOS added; `special` lets the text's own markup become special tokens."""
        if special:
            return self._tokenize(text, special=True)
        return [token for part in self._cut.split(text) if part for token in self._tokenize(part, special=False)]

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        data = text.encode("utf-8", "surrogatepass") if _is_clean(text) else text.encode("utf-8", "replace")
        buffer = (llama_cpp.llama_token * (len(data) + 16))()
        count = llama_cpp.llama_tokenize(self.handle, data, len(data), buffer, len(buffer), False, special)
        if count < 0:
            # A negative count is the room that is needed: a byte may become several ids.
            buffer = (llama_cpp.llama_token * -count)()
            count = llama_cpp.llama_tokenize(self.handle, data, len(data), buffer, len(buffer), False, special)
        return list(buffer[:count])

    def special_id(self, text: str) -> int | None:
        """Return the id of `text` if it is one control or user-defined token of this vocabulary, else None."""
        ids = self._tokenize(text, special=True)
        return ids[0] if len(ids) == 1 and self._attributes(ids[0]) & _SPECIAL_ATTRIBUTES else None

    def _is_user_defined(self, text: str) -> bool:
        token = self.special_id(text)
        return token is not None and bool(self._attributes(token) & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)

    def _attributes(self, token: int) -> int:
        return int(llama_cpp.llama_vocab_get_attr(self.handle, token))

    def piece(self, token: int) -> bytes:
        """Return the bytes of one token; special tokens give their text."""
        if token not in self._pieces:
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                count = llama_cpp.llama_token_to_piece(self.handle, token, buffer, size, 0, True)
                if count >= 0:
                    break
                size = -count
            self._pieces[token] = buffer.raw[:count]
        return self._pieces[token]

    def is_end(self, token: int) -> bool:
        """Say whether a token ends a generation."""
        return bool(llama_cpp.llama_vocab_is_eog(self.handle, token))

    def end_ids(self) -> list[int]:
        """Return all tokens that end a generation, the vocabulary's own end of sequence first."""
        own = llama_cpp.llama_vocab_eos(self.handle)
        return [own, *(token for token in range(self.size) if token != own and self.is_end(token))]

    def begin_id(self) -> int | None:
        """Return the BOS token where this model wants one before the prompt, else None."""
        if not llama_cpp.llama_vocab_get_add_bos(self.handle):
            return None
        token: int = llama_cpp.llama_vocab_bos(self.handle)
        return token if token >= 0 else None


def _is_clean(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


class Engine:
    """A loaded model with one context of `parallel` sequences."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.settings = settings
        KERNELS.switch(settings.own_kernels)
        self.model = _load(path, settings)
        self.vocabulary = Vocabulary(self.model)
        self.context = _context(self.model, settings)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self._adapter = _adapter(self.model, self.context, settings.adapter)
        room = settings.batch_tokens
        self._token = np.zeros(room, dtype=np.int32)
        self._pos = np.zeros(room, dtype=np.int32)
        self._sequence = np.zeros(room, dtype=np.int32)
        self._wanted = np.zeros(room, dtype=np.int8)
        self._one = np.ones(room, dtype=np.int32)
        self._sequence_pointers = self._sequence.ctypes.data + 4 * np.arange(room, dtype=np.uint64)
        self._batch = self._make_batch()

    def _make_batch(self) -> Any:
        # Our own arrays instead of `llama_batch_init`, so that numpy fills a batch without a loop.
        batch = llama_cpp.llama_batch()
        int_pointer = ctypes.POINTER(ctypes.c_int32)
        batch.token = self._token.ctypes.data_as(int_pointer)
        batch.pos = self._pos.ctypes.data_as(int_pointer)
        batch.n_seq_id = self._one.ctypes.data_as(int_pointer)
        batch.seq_id = self._sequence_pointers.ctypes.data_as(ctypes.POINTER(int_pointer))
        batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        return batch

    def decode(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        sequences: Sequence[int],
        wanted: Sequence[bool],
    ) -> NDArray[np.float32]:
        """Decode up to `batch_tokens` tokens and return the logits of the wanted ones, `(wanted, vocabulary)`, float32.

        Raises ModelFileError when llama.cpp finds no room in the KV cache or fails.
        """
        count = len(tokens)
        self._token[:count] = tokens
        self._pos[:count] = positions
        self._sequence[:count] = sequences
        self._wanted[:count] = wanted
        self._batch.n_tokens = count
        code = llama_cpp.llama_decode(self.context, self._batch)
        if code != 0:
            raise ModelFileError(f"llama_decode of {count} tokens failed with {code}: {_reason()}")
        rows = int(sum(wanted))
        if rows == 0:
            return np.zeros((0, self.vocabulary.size), dtype=np.float32)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), shape=(rows, self.vocabulary.size))

    def forget(self, sequence: int, start: int) -> None:
        """Drop the cells of a sequence from position `start` on; where the model cannot, drop the whole sequence."""
        if not llama_cpp.llama_memory_seq_rm(self.memory, sequence, start, -1):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, -1, -1)

    def kept(self, sequence: int) -> int:
        """Return how many positions of a sequence are in the cache."""
        return int(llama_cpp.llama_memory_seq_pos_max(self.memory, sequence)) + 1

    def share(self, source: int, target: int, tokens: int) -> None:
        """Make `target` hold the first `tokens` positions of `source`, in the same cells, and nothing else."""
        llama_cpp.llama_memory_seq_rm(self.memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self.memory, source, target, 0, tokens)

    def state(self, sequence: int, tokens: int) -> bytes:
        """Return the cells of the first `tokens` positions of a sequence, to be put back by `restore`."""
        spare = self.settings.parallel
        self.share(sequence, spare, tokens)
        size = llama_cpp.llama_state_seq_get_size(self.context, spare)
        buffer = (ctypes.c_uint8 * size)()
        written = llama_cpp.llama_state_seq_get_data(self.context, buffer, size, spare)
        self.forget(spare, 0)
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, state: bytes) -> bool:
        """Make a sequence hold what `state` returned, and nothing else; False where llama.cpp does not take it."""
        self.forget(sequence, 0)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return bool(llama_cpp.llama_state_seq_set_data(self.context, buffer, len(state), sequence))

    def close(self) -> None:
        """Give back context and model."""
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def _load(path: Path, settings: EngineSettings) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = settings.gpu_layers
    params.use_extra_bufts = settings.extra_buffers
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise ModelFileError(
            f"llama.cpp does not load {path}: {_reason()}",
            hint="check the file with `koboshi models show REF --verify`, or add it again",
        )
    return model


def _context(model: Any, settings: EngineSettings) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = settings.context_tokens * settings.parallel
    # One more, in which a beginning is set apart to be written to disk.
    params.n_seq_max = settings.parallel + 1
    params.n_batch = settings.batch_tokens
    params.n_ubatch = settings.batch_tokens
    params.n_threads = settings.threads
    params.n_threads_batch = settings.batch_threads
    params.kv_unified = True
    params.flash_attn_type = _FLASH_ATTENTION_ON if settings.flash_attention else _FLASH_ATTENTION_OFF
    params.type_k = params.type_v = _CELL_TYPES[settings.cell_type]
    # A sliding window would drop cells that a later turn goes back to.
    params.swa_full = True
    params.no_perf = True
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelFileError(
            f"no context of {settings.parallel} sequences x {settings.context_tokens} tokens: {_reason()}",
            hint="lower worker.parallel or worker.context_tokens",
        )
    return context


def _adapter(model: Any, context: Any, path: Path | None) -> Any:
    if path is None:
        return None
    adapter = llama_cpp.llama_adapter_lora_init(model, str(path).encode())
    if not adapter:
        raise ModelFileError(f"llama.cpp does not load the adapter {path}: {_reason()}")
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
    scales = (ctypes.c_float * 1)(1.0)
    if llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) != 0:
        raise ModelFileError(f"the adapter {path} was not applied: {_reason()}")
    return adapter
