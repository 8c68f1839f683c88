"""The tools that come with koboshi, a module each."""

# In the order in which they are listed.
TOOL_MODULES = ("calculator", "clock", "sql", "docs", "files", "files_change", "python", "shell", "http_get")
