"""Runs as OpenTelemetry traces: read back by the published protocol, without content, and sent nowhere but here."""

import json
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.runtime.store_samples import OK, header, label, record
from tests.runtime.trace_samples import trajectory

from koboshi_runtime.cli import main
from koboshi_runtime.home import open_home
from koboshi_runtime.interchange.otlp import Times, otlp_record, times_of
from koboshi_runtime.interchange.sending import loopback_url
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.store import Store
from koboshi_tools import UsageError

NEVER = Times((1, 2), {}, {})
SAID = ("How many apples", "I compute", "6*7", "You sell apples")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    with closing(Store.open(open_home().traces)) as store:
        record(store, "a" * 16, header(), calls=(("look", OK),), outcomes=(label(OutcomeLabel.SUCCESS),))
    return tmp_path


def parsed(value: dict[str, Any]) -> Any:
    """Return the spans as the protocol's own classes read them; an unknown or mistyped field raises."""
    request = ParseDict(json.loads(json.dumps(value)), ExportTraceServiceRequest())
    return request.resource_spans[0].scope_spans[0].spans


def test_a_run_is_a_tree_of_spans_that_the_published_protocol_reads() -> None:
    spans = parsed(otlp_record(trajectory(), NEVER))
    assert [span.name.split()[0] for span in spans] == ["invoke_agent", "chat", "chat", "chat", "execute_tool"]
    assert {span.trace_id for span in spans} == {spans[0].trace_id}
    assert {span.parent_span_id for span in spans[1:]} == {spans[0].span_id}
    assert (len({span.span_id for span in spans}), len(spans[0].trace_id), len(spans[0].span_id)) == (5, 24, 12)
    found = {each.key: each.value for each in spans[1].attributes}
    assert (found["gen_ai.usage.output_tokens"].int_value, found["gen_ai.operation.name"].string_value) == (3, "chat")
    assert spans[0].events[0].name == "gen_ai.evaluation.result"
    assert spans[2].status.code == 2


def test_content_is_left_out_unless_it_is_asked_for() -> None:
    without, with_it = (json.dumps(otlp_record(trajectory(), NEVER, content=content)) for content in (False, True))
    assert [text for text in SAID if text in without] == []
    assert [text for text in SAID if text not in with_it] == []


def test_half_a_character_becomes_one_that_the_protocol_holds() -> None:
    spans = parsed(otlp_record(trajectory(prompt="\udcff", output="\x00\udcff"), NEVER, content=True))
    assert "\ufffd" in str({each.key: each.value.string_value for each in spans[4].attributes})


def test_times_are_those_of_the_store(home: Path) -> None:
    with closing(Store.open(home / "home" / "traces.db")) as store:
        run = store.trajectory("a" * 16)
        times = times_of(store, run)
    begun, ended = times.run
    assert begun <= times.calls[f"{'a' * 16}:0"][0] <= ended
    assert begun // 10**9 == times.turns[0][1] // 10**9


class Collector(BaseHTTPRequestHandler):
    taken: list[tuple[str, Any]] = []
    redirects = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Collector.taken.append((self.path, json.loads(body)))
        self.send_response(307 if Collector.redirects else 200)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server = HTTPServer(("127.0.0.1", 0), Collector)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Collector.taken.clear()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    server.shutdown()
    server.server_close()


def test_runs_are_handed_to_a_collector_on_this_machine(home: Path, collector: str) -> None:
    done = CliRunner().invoke(main, ["traces", "export", "--format", "otlp", "--to", collector])
    assert (done.exit_code, done.stdout) == (0, "")
    ((path, value),) = Collector.taken
    assert (path, len(parsed(value))) == ("/v1/traces", 3)


def test_a_redirect_is_not_followed(home: Path, collector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collector, "redirects", True)
    done = CliRunner().invoke(main, ["traces", "export", "--format", "otlp", "--to", collector])
    assert (done.exit_code, "did not take the export" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.0.1:4318/v1/traces",
        "http://example.com/v1/traces",
        "http://localhost.example.com/",
        "http://127.0.0.1@example.com/",
        "https://127.0.0.1/",
        "http://2130706433/",
        "file:///etc/passwd",
    ],
)
def test_nothing_is_sent_to_another_machine(url: str) -> None:
    with pytest.raises(UsageError, match="nothing is sent off it"):
        loopback_url(url)


def test_otlp_goes_to_standard_output_like_any_format(home: Path) -> None:
    done = CliRunner().invoke(main, ["traces", "export", "--format", "otlp"])
    assert len(parsed(json.loads(done.stdout))) == 3
    refused = CliRunner().invoke(main, ["traces", "export", "--to", "http://127.0.0.1:4318/"])
    assert (refused.exit_code, "--to and --content are for --format otlp" in refused.stderr) == (2, True)
