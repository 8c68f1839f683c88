"""Koboshi's trainer: dataset, NAT, LoRA, merge, GGUF, parity, gate, promotion."""
