"""The tools that come with koboshi, a module each; all of them only read."""
