"""The terminal interface, the only place that imports Textual: screens over the home's store, models and rules."""
