"""The error budget over any thirty days, whatever crashes, repeats or jumps."""

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_tools import KoboshiError, RefusedError, UsageError
from koboshi_trainer.gate.ledger import Grant, Ledger, Spent, allowance
from koboshi_trainer.gate.values import ERROR_BUDGET

FIRST = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)
NIGHT = timedelta(days=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "gate-ledger.jsonl")


def grant(ledger: Ledger, at: datetime = FIRST, *, tasks: tuple[str, ...] = ()) -> Grant:
    return ledger.grant(at, current="sha256:a", candidate="sha256:b", tasks=tasks)


def granted_in_memory(times: list[datetime]) -> list[Grant]:
    grants: list[Grant] = []
    for number, at in enumerate(times):
        alpha = allowance(grants, at)
        grants.append(
            Grant(grant_id=str(number), at=at, nightly=alpha.nightly, pooled=alpha.pooled, current="a", candidate="b")
        )
    return grants


def test_grant_equals_the_offer_and_is_spent_without_a_verdict(ledger: Ledger) -> None:
    offered = ledger.offer(FIRST)
    assert grant(ledger).alpha == offered > 0.005
    assert ledger.offer(FIRST) < offered
    assert [entry.kind for entry in ledger.entries()] == ["grant"]


def test_offer_leaves_no_file(ledger: Ledger, tmp_path: Path) -> None:
    ledger.offer(FIRST)
    assert list(tmp_path.iterdir()) == []


def test_verdict_is_recorded_once_for_a_known_grant(ledger: Ledger) -> None:
    known = grant(ledger).grant_id
    ledger.spend(known, FIRST, accepted=True, p_value=0.001, verdict_hash="sha256:c")
    spent = ledger.entries()[1]
    assert isinstance(spent, Spent)
    assert spent.accepted
    with pytest.raises(UsageError, match="verdict already"):
        ledger.spend(known, FIRST, accepted=True, p_value=0.001, verdict_hash="sha256:c")
    with pytest.raises(UsageError, match="no grant 'other'"):
        ledger.spend("other", FIRST, accepted=True, p_value=0.001, verdict_hash="sha256:c")


def test_gate_that_was_cut_off_finds_its_grant_that_night_and_no_other(ledger: Ledger) -> None:
    models = {"current": "sha256:a", "candidate": "sha256:b"}
    assert ledger.unfinished(FIRST, **models) is None
    known = grant(ledger, tasks=("t",))
    assert ledger.unfinished(FIRST + timedelta(hours=3), **models) == known
    assert ledger.unfinished(FIRST + NIGHT, **models) is None
    assert ledger.unfinished(FIRST, **models | {"candidate": "sha256:c"}) is None
    ledger.spend(known.grant_id, FIRST, accepted=False, p_value=1.0, verdict_hash="sha256:c")
    assert ledger.unfinished(FIRST, **models) is None


def test_promotion_earns_nothing_back(ledger: Ledger) -> None:
    known = grant(ledger)
    before = ledger.offer(FIRST + NIGHT)
    ledger.spend(known.grant_id, FIRST, accepted=True, p_value=0.0, verdict_hash="sha256:c")
    assert ledger.offer(FIRST + NIGHT) == before


def test_thirty_nights_all_get_an_alpha_and_stay_within_the_budget() -> None:
    grants = granted_in_memory([FIRST + night * NIGHT for night in range(90)])
    assert min(one.alpha for one in grants) > 0.0008
    assert max(sum(g.alpha for g in grants[start : start + 30]) for start in range(61)) <= ERROR_BUDGET * 0.7 + 1e-12


@given(st.lists(st.floats(-40 * 24, 40 * 24), min_size=1, max_size=120))
def test_no_thirty_days_exceed_the_budget_however_the_clock_jumps(hours: list[float]) -> None:
    at = FIRST
    times = [at := at + timedelta(hours=hour) for hour in hours]
    grants = granted_in_memory(times)
    for start in times:
        within = [one.alpha for one in grants if start <= one.at < start + 30 * NIGHT]
        assert sum(within) <= ERROR_BUDGET + 1e-12


def test_second_gate_of_a_night_draws_on_the_pool_alone(ledger: Ledger) -> None:
    grant(ledger)
    second = grant(ledger, FIRST + timedelta(hours=1))
    assert second.nightly == 0
    assert 0 < second.pooled < 0.003


def test_what_was_granted_thirty_days_ago_comes_back(ledger: Ledger) -> None:
    first = grant(ledger)
    assert ledger.offer(FIRST + 30 * NIGHT) == pytest.approx(first.alpha)


def test_spent_budget_is_refused_with_the_way_out(ledger: Ledger) -> None:
    while ledger.offer(FIRST) >= 1e-9:
        grant(ledger)
    with pytest.raises(RefusedError, match="is spent") as caught:
        grant(ledger)
    assert "thirty days" in (caught.value.hint or "")
    assert sum(one.alpha for one in ledger.grants()) <= ERROR_BUDGET


def test_line_cut_off_by_power_loss_is_removed_by_the_next_grant(ledger: Ledger, tmp_path: Path) -> None:
    grant(ledger)
    path = tmp_path / "gate-ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert len(ledger.grants()) == 1
    grant(ledger, FIRST + NIGHT)
    assert path.read_bytes().startswith(whole)
    assert len(ledger.grants()) == 2


def test_line_that_cannot_be_read_stops_all_granting(ledger: Ledger, tmp_path: Path) -> None:
    grant(ledger)
    path = tmp_path / "gate-ledger.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(KoboshiError, match="line 1 of"):
        grant(ledger, FIRST + NIGHT)


def test_file_is_private_and_only_grows(ledger: Ledger, tmp_path: Path) -> None:
    grant(ledger)
    path = tmp_path / "gate-ledger.jsonl"
    before = path.read_bytes()
    grant(ledger, FIRST + NIGHT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(before)


def test_tasks_are_remembered_by_their_last_grant(ledger: Ledger) -> None:
    grant(ledger, tasks=("a", "b"))
    grant(ledger, FIRST + NIGHT, tasks=("b", "c"))
    assert ledger.last_used() == {"a": 0, "b": 1, "c": 1}


def test_budget_above_the_promise_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.2"):
        Ledger(tmp_path / "ledger", budget=0.2)


def _grant_many(path: Path) -> None:
    for _ in range(10):
        grant(Ledger(path))


def test_concurrent_gates_never_share_an_alpha(tmp_path: Path) -> None:
    path = tmp_path / "gate-ledger.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_grant_many, args=(path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    grants = Ledger(path).grants()
    assert len(grants) == len({one.grant_id for one in grants}) == 20
    assert [one.pooled for one in grants] == sorted((one.pooled for one in grants), reverse=True)
