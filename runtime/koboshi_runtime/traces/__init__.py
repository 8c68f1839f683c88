"""Recorded runs as people look at them: one run, why it ended so, two beside each other, one played once more."""
