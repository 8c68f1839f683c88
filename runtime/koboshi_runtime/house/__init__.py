"""Keeping a home in order: what is well in it, what runs on it, copies of it, and what may go."""
