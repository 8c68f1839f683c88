"""Nothing that koboshi imports may call home.

Covered: LangSmith and LangChain tracing, Hugging Face hub and transformers, Ray usage statistics, OpenTelemetry, and
whatever honours DO_NOT_TRACK. Not covered: a tool of the user's own that opens connections; that is the policy's and
the sandbox's job.
Standard library only, because it runs before every other import.
"""

import os

_FORCED = {
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGCHAIN_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LANGSMITH_TRACING_V2": "false",
    "OTEL_SDK_DISABLED": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TRANSFORMERS_OFFLINE": "1",
}
_REMOVED = (
    "LANGCHAIN_API_KEY",
    "LANGCHAIN_ENDPOINT",
    "LANGSMITH_API_KEY",
    "LANGSMITH_ENDPOINT",
    "LANGSMITH_OTEL_ENABLED",
    "LANGSMITH_RUNS_ENDPOINTS",
)


def force_off() -> None:
    """Set this process's environment so that no dependency reports anything, whatever it held before.

    Call it before importing langgraph, langsmith, transformers or ray; child processes inherit it.
    """
    os.environ.update(_FORCED)
    for name in _REMOVED:
        os.environ.pop(name, None)
