"""GGUF files as the trainer reads and writes them."""
