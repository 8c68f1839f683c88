"""Measuring koboshi beside its rivals: the same prompts, tools, limits and judge, one side after another."""
