"""Who may speak to the server, and what for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime.serving import Served, served

from koboshi_runtime.home import open_home
from koboshi_runtime.redact import redactor
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.server.app import PATHS
from koboshi_runtime.server.listening import listen_on
from koboshi_runtime.server.tokens import Scope, open_tokens, token_path
from koboshi_tools import KoboshiError, UsageError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("guard"), ScriptedModel(())) as running:
        yield running


def test_without_a_token_nothing_but_the_health_is_told(server: Served) -> None:
    with server.http(None) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert {client.request(method, path).status_code for method, path, *_ in PATHS} == {401}
        assert client.get("/nowhere").status_code == 401


def test_a_wrong_token_is_refused_in_openais_shape(server: Served) -> None:
    with server.http(None, authorization="Bearer sk-koboshi-run-wrong") as client:
        answer = client.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_each_path_is_open_to_its_scope_alone(server: Served) -> None:
    for scope in Scope:
        with server.http(scope) as client:
            refused = {(method, path) for method, path, *_ in PATHS if client.request(method, path).status_code == 403}
        assert refused == {(method, path) for method, path, wanted, _ in PATHS if wanted is not scope}


def test_a_web_page_may_not_call_even_with_a_token(server: Served) -> None:
    for origin in ("http://evil.example", f"http://127.0.0.1:{server.port}", "null"):
        with server.http(Scope.RUN, origin=origin) as client:
            assert client.get("/v1/models").json()["error"]["code"] == "forbidden_origin"
            assert client.options("/v1/models").status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}"]
)
def test_a_name_that_was_rebound_to_this_machine_is_refused(server: Served, host: str) -> None:
    with server.http(Scope.RUN, host=host.format(port=server.port)) as client:
        assert client.get("/v1/models").json()["error"]["code"] == "forbidden_host"
    with server.http(Scope.RUN, host=f"localhost:{server.port}") as client:
        assert client.get("/v1/models").status_code == 200


def test_what_is_not_there_is_told_in_openais_shape(server: Served) -> None:
    with server.http() as client:
        assert client.get("/v1/nowhere").json()["error"]["code"] == "not_found"
        assert client.delete("/v1/models").json()["error"]["code"] == "method_not_allowed"


def test_body_that_is_too_long_is_refused(server: Served) -> None:
    with server.http() as client:
        assert client.post("/v1/chat/completions", content=b" " * (17 << 20)).status_code == 413
        assert client.post("/v1/chat/completions", content=b"{").json()["error"]["code"] == "invalid_json"


def test_tokens_are_files_for_their_owner_alone_and_stay_the_same(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    first = open_tokens(home)
    assert {token_path(home, scope).stat().st_mode & 0o777 for scope in Scope} == {0o600}
    assert home.tokens.stat().st_mode & 0o777 == 0o700
    assert open_tokens(home) == first
    assert len(set(first.by_scope.values())) == 3


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    open_tokens(home)
    token_path(home, Scope.RUN).chmod(0o640)
    with pytest.raises(KoboshiError, match="others may read"):
        open_tokens(home)


def test_no_trace_holds_a_token(tmp_path: Path) -> None:
    for token in open_tokens(open_home(path=tmp_path / "home")).by_scope.values():
        assert token not in redactor().text(f"I found {token} in a file")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_nothing_but_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(UsageError, match="no loopback address"):
        listen_on(host, 0)


def test_a_port_that_is_taken_is_told() -> None:
    with listen_on("127.0.0.1", 0) as taken, pytest.raises(KoboshiError, match="Address already in use"):
        listen_on("127.0.0.1", taken.getsockname()[1])
