"""Measure what deciding and recording a call costs, and how long a replay of 10,000 logged calls takes.

Run by hand: python -m tests.policies.measure_policy. CPU time of this process's threads; waiting for the disk is not in
it, and no call is executed.
"""

import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.runtime.store_samples import header

from koboshi_policies import Circumstances, Policy, PolicyLayer, check, replay
from koboshi_runtime.records import CallIntent
from koboshi_runtime.store import Store
from koboshi_runtime.store.calls import logged_calls
from koboshi_runtime.store.recorder import RunRecorder
from koboshi_tools import ToolCall, ToolResult, ToolVerdict, Transport

CALLS = 10_000
PER_RUN = 20
RULES = """
[[rule]]
name = "sums"
tools = ["calculator"]
verdict = "allow"
calls_per_run = 50

[[rule]]
name = "reads"
tools = ["sql"]
verdict = "allow"
where = { query = { sql = ["select"] }, limit = { max = 100 } }

[[rule]]
name = "few"
tools = ["sql"]
verdict = "modify"
clamp = { limit = { min = 1, max = 50 } }

[[rule]]
name = "files"
tools = ["files_*"]
verdict = "allow"
where = { path = { inside = ["data"], outside = ["data/private"] } }

[[rule]]
name = "net"
tools = ["http_*"]
verdict = "ask"
where = { url = { hosts = ["*.example.org"] } }
"""


def policy(folder: Path, extra: str = "") -> Policy:
    """Return those rules and fifteen more about other tools and texts."""
    more = [
        f'[[rule]]\nname = "no {n}"\ntools = ["*"]\nverdict = "deny"\narguments = {{ query = "(?i)secret{n}" }}\n'
        for n in range(10)
    ]
    more += [f'[[rule]]\nname = "other {n}"\ntools = ["other_{n}"]\nverdict = "allow"\n' for n in range(5)]
    path = folder / "rules.toml"
    path.write_text(RULES + "\n".join(more) + extra, encoding="utf-8")
    return Policy.load([PolicyLayer("project", path)])


def call(n: int) -> ToolCall:
    kinds = (
        ("calculator", {"expression": f"{n} + 1"}),
        ("sql", {"query": f"select name from orders where id = {n} -- a comment", "limit": n % 200}),
        ("files_read", {"path": f"data/{n}/report.txt"}),
        ("http_get", {"url": f"https://api.example.org/orders/{n}"}),
    )
    name, arguments = kinds[n % len(kinds)]
    return ToolCall(name=name, arguments=arguments)


def fill(store: Store, rules: Policy) -> float:
    """Decide and record every call, and return the CPU seconds of a call."""
    began, recorder = time.process_time(), None
    done = []
    for n in range(CALLS):
        if n % PER_RUN == 0:
            recorder = RunRecorder(store, f"run{n}")
            recorder.start(header())
        assert recorder is not None
        key = f"run{n}"
        decision = check(call(n), rules, Circumstances("work", {"calculator": n % PER_RUN}))
        intent = CallIntent(
            step_index=n % PER_RUN,
            call_index=0,
            call=call(n),
            decision=decision,
            tool_version="1",
            tool_digest="sha256:0",
            effect="read",
            idempotent=True,
            idempotency_key=f"{key}/{n}",
        )
        recorder.intent(intent)
        recorder.result(
            intent.idempotency_key, ToolResult(transport=Transport.OK, output="x" * 40, verdict=ToolVerdict.OK)
        )
        if n % PER_RUN == PER_RUN - 1:
            done.append(store.submit(tuple(recorder._buffer)))
    for each in done:
        each.result()
    return (time.process_time() - began) / CALLS


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name, closing(Store.open(Path(name) / "traces.db")) as store:
        folder = Path(name)
        rules = policy(folder)
        began = time.process_time()
        for n in range(CALLS):
            check(call(n), rules)
        print(
            f"deciding a call by {len(rules.rules)} rules: {(time.process_time() - began) / CALLS * 1000:.3f} ms of CPU"
        )
        print(f"deciding, recording intent and result: {fill(store, rules) * 1000:.3f} ms of CPU")
        stricter = '[[rule]]\nname = "small"\ntools = ["sql"]\nverdict = "deny"\nwhere = { limit = { min = 190 } }\n'
        began, cpu = time.perf_counter(), time.process_time()
        calls = list(logged_calls(store))
        found = list(replay(calls, policy(folder, stricter)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(
            f"replaying {len(calls)} logged calls: {seconds:.2f} s, {cpu:.2f} s of CPU, {len(found)} decided otherwise"
        )


if __name__ == "__main__":
    main()
