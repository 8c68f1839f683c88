"""The demo: the whole loop on a small project, and the report of what became of it."""
