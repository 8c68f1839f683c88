"""Secrets are taken out of texts, values and ids before anything is stored; ordinary text stays as it is."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.run_makers import Answers, calls, notes, runner, task
from tests.runtime.secret_makers import ENVIRONMENT, PATTERNS, SECRETS, Secret
from tests.runtime.test_resume import only_run

from koboshi_runtime import redact
from koboshi_runtime.records import EndReason, RunStatus
from koboshi_runtime.redact import Redactor
from koboshi_runtime.secret_shapes import SHAPES, secret_values, suspicious
from koboshi_runtime.store import Store

AWS = "AKIAPLANTED00000KEY1"
KNOWING = Redactor(values=secret_values(ENVIRONMENT), patterns=tuple(re.compile(pattern) for pattern in PATTERNS))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    redact.use()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


@pytest.mark.parametrize("planted", SECRETS, ids=lambda planted: planted.secret[:12])
def test_a_secret_is_taken_out_of_text_json_and_json_inside_json(planted: Secret) -> None:
    inside = json.dumps({"output": planted.text})
    for found in (KNOWING.text(planted.text), KNOWING.json({"a": [planted.text]}), KNOWING.text(inside)):
        assert planted.secret not in found
        assert json.dumps(planted.secret)[1:-1] not in found
        assert "[redacted " in found
        assert KNOWING.text(found) == found


@pytest.mark.parametrize(
    "text",
    [
        "The password: must be at least 8 characters long.",
        "password = get_password()",
        "What is the secret: nobody knows.",
        "token = tokens[3]; key: a1; primary key: id INTEGER",
        "see https://example.org:8080/path@x and commit 0123456789abcdef0123456789abcdef01234567",
        "the tokenization-of-long-words is basic characteristics-of-things",
        "pwd\n/home/shop/workspace",
        '{"schema": {"password": {"type": "string"}, "required": ["password"]}}',
        "Rücksendung für Größe 42 — 3,50 €",
    ],
)
def test_ordinary_text_stays_the_same_object(text: str) -> None:
    assert KNOWING.text(text) is text
    assert KNOWING.json({"a": text}) == json.dumps({"a": text}, ensure_ascii=False)


@given(st.text(alphabet="abAKI0123:/=@\"'\\- \npasword[]", max_size=80))
def test_the_cheap_test_never_misses_a_shape_and_redacting_twice_changes_nothing(text: str) -> None:
    assert suspicious(text.encode()) or not any(shape.pattern.search(text) for shape in SHAPES)
    for shape in SHAPES:
        assert any(hint in text.lower() for hint in shape.hints) or not shape.pattern.search(text)
    once = KNOWING.text(text)
    assert KNOWING.text(once) == once


def test_a_secret_that_is_cut_by_the_end_of_the_text_is_found() -> None:
    assert KNOWING.text('cut: planted "quo') == "cut: [redacted variable]"
    assert KNOWING.text("cut: ghp_plantedPlant") == "cut: [redacted key]"


def test_a_secret_spelt_by_numbers_takes_the_whole_text_with_it() -> None:
    assert KNOWING.text(r'{"key": "\u0041KIAPLANTED00000KEY1"}') == "[redacted text]"


def test_what_is_kept_is_kept() -> None:
    redact.use(keep=["PLANTED0+KEY"])
    assert redact.redactor().text(AWS) == AWS


def test_only_variables_that_are_named_like_secrets_are_known() -> None:
    given = {
        "API_KEY": "abcdefgh",
        "PATH_TOKEN": "/run/secrets/x",
        "PUBLIC_KEY": "12345678",
        "PASS": "short",
        "A": "b" * 9,
    }
    assert secret_values(given) == ("abcdefgh",)


def test_a_run_works_with_the_real_value_and_stores_none_of_it(store: Store, tmp_path: Path) -> None:
    made = runner(tmp_path, store, [calls(("note", {"text": f"key {AWS}"})), "done"])
    result = asyncio.run(made.run(task(prompt=f"Note {AWS}.")))
    assert (result.answer, notes(tmp_path)) == ("done", [f"key {AWS}"])
    stored = store.trajectory(result.run_id)
    assert AWS.encode() not in (tmp_path / "traces.db").read_bytes() + (tmp_path / "traces.db-wal").read_bytes()
    assert stored.redacted
    assert stored.header.prompt == "Note [redacted AWS key]."
    assert stored.calls[0].intent.call.arguments == {"text": "key [redacted AWS key]"}
    texts = {segment.text: segment.ids for turn in stored.turns for segment in turn.segments}
    assert [bool(ids) for text, ids in texts.items() if "[redacted" in text] == [False, False]
    assert (stored.turns[0].reply.ids, bool(stored.turns[1].reply.ids)) == ((), True)


def test_a_run_without_secrets_is_not_marked(store: Store, tmp_path: Path) -> None:
    result = asyncio.run(runner(tmp_path, store, [calls(("look", {"key": "a"})), "done"]).run(task()))
    assert not store.trajectory(result.run_id).redacted


def test_a_run_that_held_a_secret_and_was_cut_off_is_closed_and_makes_no_call(store: Store, tmp_path: Path) -> None:
    class Gone(Answers):
        async def ask(self, *_: object) -> object:  # type: ignore[override]
            raise asyncio.CancelledError

    replies = [calls(("look", {"key": AWS})), calls(("ask_note", {"text": AWS}))]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(runner(tmp_path, store, replies, asker=Gone([])).run(task()))
    run_id = only_run(store)
    assert AWS.encode() not in (store.thread_state(run_id) or b"")
    result = asyncio.run(runner(tmp_path, store, [], asker=Answers([True])).resume(run_id))
    assert (result.reason, notes(tmp_path)) == (EndReason.REDACTED, [])
    end = store.trajectory(run_id).end
    assert end is not None
    assert (end.status, "run the task again" in (end.error or "")) == (RunStatus.FAILED, True)


def test_a_label_with_a_secret_in_its_reason_leaves_the_run_learnable(store: Store, tmp_path: Path) -> None:
    from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource

    run_id = asyncio.run(runner(tmp_path, store, ["done"]).run(task())).run_id
    why = f"it printed {AWS}"
    store.add_outcome(run_id, Outcome(label=OutcomeLabel.FAILURE, source=OutcomeSource.PERSON, who="me", rationale=why))
    stored = store.trajectory(run_id)
    assert (stored.redacted, stored.outcomes[-1].rationale) == (False, "it printed [redacted AWS key]")
