"""Train rows with TRL's SFTTrainer, at the settings that suit a CPU best. The only module that knows TRL."""

import time
from pathlib import Path
from typing import Any

from koboshi_tools import KoboshiError

from .measure import SpeedSettings


def train(
    model: Any, rows: list[dict[str, list[int]]], settings: SpeedSettings, folder: Path
) -> tuple[float, list[float]]:
    """Train one epoch and return its seconds and the loss of each optimizer step. Raises KoboshiError without TRL."""
    try:
        from datasets import Dataset
        from peft import LoraConfig
        from trl import SFTTrainer
    except ImportError as error:
        raise KoboshiError(f"TRL is not installed: {error}", hint="pip install 'koboshi[rivals]'") from error

    lora = LoraConfig(r=settings.r, lora_alpha=settings.alpha, target_modules="all-linear", lora_dropout=0.0)
    clock = _clock()
    trainer = SFTTrainer(
        model=model,
        args=_config(settings, folder),
        train_dataset=Dataset.from_list(rows),
        processing_class=_tokenizer(model.config.vocab_size),
        peft_config=lora,
        callbacks=[clock],
    )
    # One step first, as our side takes one: what is prepared once for a shape is not measured.
    trainer.args.max_steps = 1
    trainer.train()
    trainer.args.max_steps, clock.began = -1, 0.0
    trainer.train()
    return clock.seconds, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _config(settings: SpeedSettings, folder: Path) -> Any:
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=settings.micro_rows,
        gradient_accumulation_steps=max(1, settings.batch_rows // settings.micro_rows),
        num_train_epochs=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0,
        use_cpu=True,
        bf16=True,
        gradient_checkpointing=False,
        max_length=None,
        packing=False,
        loss_type=settings.loss_type,
        train_sampling_strategy="group_by_length",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _clock() -> Any:
    """Return a callback that times the steps alone: what the trainer prepares and saves around them is not counted."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        seconds = 0.0
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = self.began or time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.began

    return Clock()


def _tokenizer(size: int) -> Any:
    """Return a tokenizer that is never used: the rows are ids already, and the trainer only asks how to pad."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, **{f"w{n}": n for n in range(2, size)}}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
