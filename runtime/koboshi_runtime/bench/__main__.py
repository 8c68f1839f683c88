"""`python -m koboshi_runtime.bench SIDE PLAN_JSON OUT_JSON [RUNS_FILE]`: one rival in a process of its own.

SIDE is `plain`, `server` or `raw`. llama.cpp ends its process on some errors, so no rival shares koboshi's.
"""

import asyncio
import os
import sys
from pathlib import Path

from ..worker import kernels

# Rivals are llama.cpp as it is, and one of them brings a build of its own into this process.
kernels.forgo()

from ..llama import start_backend  # noqa: E402
from .loop import Rival, Setting, play  # noqa: E402
from .plan import BenchPlan  # noqa: E402
from .raw import decode_raw, read_runs  # noqa: E402


def _rival(side: str, plan: BenchPlan, setting: Setting) -> Rival:
    if side == "plain":
        from .plain import PlainLlama

        return PlainLlama(plan, setting.specs)
    from .server import LlamaServer

    return LlamaServer(plan, setting.specs)


def main(side: str, plan_json: str, out: str, runs: str = "") -> None:
    """Measure one side and write its result."""
    plan = BenchPlan.model_validate_json(plan_json)
    start_backend()
    if side == "raw":
        result = decode_raw(plan, read_runs(Path(runs)))
    else:
        setting = Setting.of(plan)
        result = asyncio.run(play(side, plan, setting, _rival(side, plan, setting)))
    Path(out).write_text(result.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
    # A server's threads have nothing to save, and would keep the process waiting.
    sys.stdout.flush()
    os._exit(0)
