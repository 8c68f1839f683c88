"""How fast the trainer is, beside a rival."""
