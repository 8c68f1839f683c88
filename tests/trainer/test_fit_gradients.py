from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy

from koboshi_trainer import lora
from koboshi_trainer.batches import MicroBatch
from koboshi_trainer.loss import learnt_loss, targets_of
from koboshi_trainer.rows import TokenRow
from koboshi_trainer.shared_prefix import body_hidden, set_attention, use_shared_prefix

VOCABULARY = 97
_COMMON = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
}
_WINDOW = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}


def model(architecture: str) -> Any:
    torch.manual_seed(0)
    match architecture:
        case "llama":
            config: Any = transformers.LlamaConfig(**_COMMON)
        case "qwen2":
            config = transformers.Qwen2Config(**_COMMON)
        case "qwen3":
            config = transformers.Qwen3Config(**_COMMON)
        case _:
            config = transformers.Gemma3TextConfig(**_COMMON, **_WINDOW, query_pre_attn_scalar=8)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float()


def rows(prefix: int) -> tuple[TokenRow, ...]:
    shared = tuple(range(1, prefix + 1))
    made = []
    for number in range(4):
        length = 9 + 3 * number
        ids = tuple((7 * i + 11 * number) % VOCABULARY for i in range(length))
        learn = tuple(i > 2 and i % 5 != number for i in range(length))
        made.append(TokenRow(shared, ids, learn, weight=1 - 0.2 * number))
    return tuple(made)


def adapted(architecture: str) -> tuple[Any, lora.Adapter]:
    made = model(architecture)
    adapter = lora.attach(made, r=4, alpha=8, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return made, adapter


def plain_loss(made: Any, batch: MicroBatch) -> Tensor:
    """The loss as the plain forward of each whole row gives it."""
    total = torch.zeros(())
    for row in batch.rows:
        start = len(row.prefix_ids)
        logits = made(input_ids=torch.tensor([[*row.prefix_ids, *row.ids]])).logits[0]
        at = torch.tensor([i for i, learn in enumerate(row.learn) if learn])
        total = total + row.weight * cross_entropy(logits[start + at - 1], torch.tensor(row.ids)[at], reduction="sum")
    return total


def gradients(adapter: lora.Adapter, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(adapter.parameters())))


@pytest.mark.parametrize("prefix", [0, 10])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3"])
def test_shared_prefix_gives_loss_and_gradients_of_the_plain_forward(architecture: str, prefix: int) -> None:
    made, adapter = adapted(architecture)
    batch = MicroBatch(prefix_ids=rows(prefix)[0].prefix_ids, rows=rows(prefix))
    expected = plain_loss(made, batch)
    expected_gradients = gradients(adapter, expected)
    use_shared_prefix(made)
    total, losses = learnt_loss(body_hidden(made, batch), made.get_output_embeddings().weight, targets_of(batch))
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    assert len(losses) == sum(row.learnt for row in batch.rows)
    for found, wanted in zip(gradients(adapter, total), expected_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()) + 1e-7)


def test_rows_behind_one_prefix_do_not_see_each_other() -> None:
    made, _ = adapted("llama")
    use_shared_prefix(made)
    one, two, *_ = rows(10)
    together = body_hidden(made, MicroBatch(one.prefix_ids, (one, two)))[10 + len(one.ids) :]
    alone = body_hidden(made, MicroBatch(two.prefix_ids, (two,)))[10:]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_adapter_starts_as_no_change_and_comes_off_again() -> None:
    made = model("llama")
    ids = torch.tensor([[1, 2, 3, 4]])
    before = made(input_ids=ids).logits
    attention = use_shared_prefix(made)
    adapter = lora.attach(made, r=4, alpha=8, seed=1)
    set_attention(made, attention)
    torch.testing.assert_close(made(input_ids=ids).logits, before)
    lora.detach(made, adapter)
    assert not [name for name, _ in made.named_parameters() if "lora" in name]
    torch.testing.assert_close(made(input_ids=ids).logits, before)


def test_every_linear_layer_of_the_body_is_adapted_and_the_output_is_not() -> None:
    made, adapter = adapted("llama")
    assert len(adapter.layers) == 2 * 7
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert {name.rsplit(".", 1)[1] for name in trained} == {"lora_a", "lora_b"}


def test_loss_of_each_learnt_id_does_not_depend_on_the_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    batch = MicroBatch(rows(10)[0].prefix_ids, rows(10))
    hidden, head = torch.randn(batch.tokens, 16), torch.randn(VOCABULARY, 16)
    total, losses = learnt_loss(hidden, head, targets_of(batch))
    monkeypatch.setattr("koboshi_trainer.loss._SLICE", 3)
    total_sliced, losses_sliced = learnt_loss(hidden, head, targets_of(batch))
    torch.testing.assert_close(losses, losses_sliced)
    torch.testing.assert_close(total, total_sliced)
