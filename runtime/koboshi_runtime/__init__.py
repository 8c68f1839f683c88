"""Koboshi's runtime: prompt, model worker, agent graph, trace store, outcomes, model registry, CLI."""
