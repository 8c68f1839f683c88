"""The gate: whether a candidate is proved better than the current model, and at which price of being wrong."""
