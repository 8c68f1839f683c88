"""The morning report: what a night did, for the terminal, as Markdown, JSON and a page."""
