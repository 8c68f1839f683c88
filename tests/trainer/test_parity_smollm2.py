"""F10 and F11 on the model that koboshi ships with."""

import random
from pathlib import Path

import pytest
from tests.trainer.conftest import Kit

from koboshi_runtime.llama import Vocabulary, load_vocabulary, start_backend
from koboshi_trainer.adapter import read_adapter
from koboshi_trainer.corpus import make_corpus
from koboshi_trainer.export import export
from koboshi_trainer.gguf.read import read_gguf
from koboshi_trainer.kept import measure_kept
from koboshi_trainer.master import make_master
from koboshi_trainer.parity import ExportedFile, parity
from koboshi_trainer.reference import reference_logits

pytestmark = [pytest.mark.slow, pytest.mark.model]

_STRINGS = 10_000
_MARKUP = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>")
_ALPHABETS = (
    "  \t\n0123456789",
    "abc XYZ.,;:",
    "äöüßéñ漢字かな한글עברית",
    "👩‍👩‍👧🇫🇮\u200d\u0301\ufeff",
    "-=_#*~ ",
    "{}[]\"':, \n0123456789",
)
# Turns as the runtime lays them out, standing in for trajectories of held-out tasks.
_TRAJECTORY = (
    "<|im_start|>user\nDan had ${a} and bought {b} pens for ${c} each. How much is left?<|im_end|>\n"
    "<|im_start|>assistant\nPens: <tool_call>\n"
    '{{"name": "calculator", "arguments": {{"expression": "{a} - {b} * {c}"}}}}\n'
    "</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n{d}\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\nDan has ${d} left.<|im_end|>\n"
)


def _vocabulary(path: Path) -> Vocabulary:
    start_backend()
    return Vocabulary(load_vocabulary(path))


def _trajectory(index: int) -> str:
    a, b, c = 40 + index, 2 + index % 7, 1 + index % 5
    return _TRAJECTORY.format(a=a, b=b, c=c, d=a - b * c)


@pytest.fixture(scope="module")
def master(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smollm2") / "master.gguf"
    make_master(smollm2_gguf, path)
    return path


@pytest.mark.parametrize("size", [0.0, 0.02], ids=["zero LoRA", "random LoRA"])
def test_the_exported_files_are_the_trained_model(size: float, master: Path, tmp_path: Path, kit: Kit) -> None:
    model = read_gguf(master)
    adapter = kit.write_random_adapter(tmp_path / "adapter", model, size=size)
    manifest = export(master, adapter, tmp_path / "out", quantise=kit.quantise_q8_0, run_id="r")
    f16, q8_0, lora = (tmp_path / "out" / manifest.stage(name).file for name in ("f16", "q8_0", "adapter"))
    vocabulary = _vocabulary(f16)
    logged = [vocabulary.tokenize(_trajectory(index), special=True) for index in range(12)]
    with kit.load(f16) as a, kit.load(q8_0) as b, kit.load(master, adapter=lora) as c:
        files = [
            ExportedFile("f16", f16, a.logits),
            ExportedFile("q8_0", q8_0, b.logits),
            ExportedFile("adapter", lora, c.logits),
        ]
        report = parity(
            reference_logits(master, adapter),
            files,
            make_corpus(vocabulary.tokenize, logged),
            master=master,
            adapter=read_adapter(adapter, model),
        )
    assert report.reasons == ()
    assert report.passed
    assert report.files[0].equal is (True if size == 0 else None)


def test_a_small_update_survives_in_q8_0_and_not_on_the_source_s_own_grid(
    smollm2_gguf: Path, master: Path, tmp_path: Path, kit: Kit
) -> None:
    model = read_gguf(master)
    adapter = kit.write_random_adapter(tmp_path / "adapter", model, size=0.005)
    export(master, adapter, tmp_path / "out", quantise=kit.quantise_q8_0, run_id="r")
    updates = read_adapter(adapter, model)
    assert measure_kept(master, updates, tmp_path / "out" / "model.q8_0.gguf").worst > 0.9
    assert measure_kept(master, updates, smollm2_gguf).total == pytest.approx(0, abs=0.01)


def _string(generator: random.Random) -> str:
    kind = generator.randrange(10)
    if kind == 0:
        return generator.choice(" -=_#\n") * generator.randrange(1, 200)
    if kind == 1:
        return generator.choice(_MARKUP) + "".join(generator.choices(_ALPHABETS[1], k=5)) + generator.choice(_MARKUP)
    if kind == 2:
        return "".join(
            chr(generator.choice((0x20, 0x100, 0x4E00, 0x1F300)) + generator.randrange(200)) for _ in range(12)
        )
    alphabets = generator.choices(_ALPHABETS, k=3)
    return "".join(generator.choice(generator.choice(alphabets)) for _ in range(generator.randrange(1, 60)))


def test_the_exported_file_tokenises_as_the_base_does(
    smollm2_gguf: Path, master: Path, tmp_path: Path, kit: Kit
) -> None:
    adapter = kit.write_random_adapter(tmp_path / "adapter", read_gguf(master), size=0.0)
    manifest = export(master, adapter, tmp_path / "out", quantise=kit.quantise_q8_0, run_id="r")
    generator = random.Random(10)
    texts = [_string(generator) for _ in range(_STRINGS)]
    exported = tmp_path / "out" / manifest.stage("q8_0").file
    base, copy = _vocabulary(smollm2_gguf), _vocabulary(exported)
    markup = {base.special_id(text) for text in _MARKUP} - {None}
    assert len(markup) >= 3
    for text in texts:
        ids = base.tokenize(text)
        assert ids == copy.tokenize(text)
        assert base.tokenize(text, special=True) == copy.tokenize(text, special=True)
        assert not markup & set(ids)
        assert b"".join(base.piece(token) for token in ids).decode("utf-8") == text
