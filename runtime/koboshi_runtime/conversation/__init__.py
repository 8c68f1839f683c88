"""Conversations that somebody else's program leads: read as a prompt, answered, and stored as runs like any other."""
