import os
from pathlib import Path

import pytest

from koboshi_runtime import presence
from koboshi_runtime.cli import context
from koboshi_runtime.home import open_home
from koboshi_runtime.worker_process import early_worker, model_of, start_worker, title_of


def test_an_early_worker_that_nobody_took_is_gone_afterwards() -> None:
    with early_worker() as worker:
        assert worker.process.poll() is None
    assert worker.process.returncode is not None
    assert worker.connection.fileno() == -1


def test_an_early_worker_that_was_taken_lives_on_until_its_socket_closes() -> None:
    with early_worker() as worker:
        worker.taken = True
    assert worker.process.poll() is None
    worker.connection.close()
    assert worker.process.wait(timeout=30) == 0
    worker.errors.close()


def test_a_command_starts_none_early_where_a_server_lives_but_does_after_one_that_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    home = open_home()
    living = presence.announce(home, url="http://127.0.0.1:1", project="")
    with context.early_worker() as worker:
        assert worker is None
    home.server.write_text(living.model_copy(update={"owner": f"{living.owner}0"}).model_dump_json())
    with context.early_worker() as worker:
        assert worker is not None


def test_a_worker_that_dies_before_it_is_told_anything_is_seen_to_have_died() -> None:
    worker = start_worker()
    worker.process.kill()
    assert worker.process.wait(timeout=30) != 0
    assert worker.connection.recv(1) == b""
    worker.connection.close()
    worker.errors.close()


def test_the_model_of_a_worker_is_read_off_its_command_line() -> None:
    path = Path("/home/someone/my models/3f/model.gguf")
    # As /proc gives it: the arguments end with zeros, and a title that is shorter leaves more of them.
    assert model_of(os.fsencode(title_of(path)) + b"\0\0\0") == path
    assert model_of(b"/usr/bin/python\0-m\0koboshi_runtime.worker\0serve\x007\0") is None
    assert model_of(b"") is None
