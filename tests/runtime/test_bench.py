"""The measuring itself: what is compared with what, what the yardstick decodes, and what a rival is held to."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.store_samples import DONE, header

from koboshi_runtime.bench.figures import BenchReport, costs_of, figures_of, success_rates
from koboshi_runtime.bench.grammar import call_schema, spoken, tagged
from koboshi_runtime.bench.own import decoded_again
from koboshi_runtime.bench.plan import RunTokens, SideResult, TurnTokens
from koboshi_runtime.bench.plot import bars, write_png
from koboshi_runtime.bench.raw import _chunks, common_beginning
from koboshi_runtime.bench.start import first_token_s
from koboshi_runtime.formats import tool_format
from koboshi_runtime.home import open_home
from koboshi_runtime.machine import describe
from koboshi_runtime.model import FinishReason, Reply
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.records import Segment, SegmentKind, Trajectory, TurnKind, TurnRecord
from koboshi_runtime.store import Store
from koboshi_tools import ToolSpec


def result(side: str, wall_s: float, *, runs: int = 10, successes: int = 5, tokens: int = 100) -> SideResult:
    return SideResult(
        side=side,
        wall_s=wall_s,
        runs=runs,
        successes=successes,
        tokens=tokens,
        reply_s=wall_s if side == "raw" else 0.9 * wall_s,
        written=2 * tokens,
    )


def pair(ours_s: float, raw_s: float, plain_s: float) -> dict[str, SideResult]:
    return {"koboshi": result("koboshi", ours_s), "raw": result("raw", raw_s), "plain": result("plain", plain_s)}


def report(pairs: Sequence[dict[str, SideResult]]) -> BenchReport:
    return BenchReport(
        machine=describe(),
        model="tiny",
        pack="shop",
        tasks=10,
        jobs=4,
        pairs=len(pairs),
        figures=figures_of(pairs, 4),
        costs=costs_of(pairs, None, 16),
        success_rates=success_rates(pairs),
        missing={},
    )


def test_a_ratio_is_the_median_over_rounds_so_that_one_busy_round_does_not_decide() -> None:
    raw, plain = figures_of([pair(10, 9, 40), pair(100, 9, 40), pair(10, 9, 40)], 4)
    assert (raw.rival, raw.unit, raw.ratio, raw.met) == ("raw", "sampled tokens/s", 0.9, True)
    assert (plain.rival, plain.unit, plain.ratio, plain.met) == ("plain", "tasks/s", 4.0, True)


def test_a_target_that_is_not_reached_is_said_to_be_missed() -> None:
    (_, plain) = figures_of([pair(10, 9, 20)], 4)
    assert (plain.ratio, plain.target, plain.met) == (2.0, 3.0, False)


def test_the_raw_loop_finishes_no_task_and_has_no_success_rate() -> None:
    assert success_rates([pair(10, 9, 20)]) == {"koboshi": 0.5, "plain": 0.5}


def test_the_yardstick_decodes_every_id_but_the_shared_beginning_and_the_last_reply_end() -> None:
    first = TurnTokens(new_ids=(1, 2, 3, 4), reply_ids=(5, 6, 7), sampled=(True, False, True))
    second = TurnTokens(new_ids=(8, 9), reply_ids=(10, 11), sampled=(True, True))
    chunks = [(chunk.ids, chunk.all_wanted) for chunk in _chunks(RunTokens(turns=(first, second)), shared=2)]
    assert chunks == [((3, 4), False), ((5, 6), True), ((7, 8, 9), False), ((10,), True)]


def test_a_common_beginning_leaves_every_run_an_id_to_decode() -> None:
    turns = [TurnTokens(new_ids=ids, reply_ids=(9,), sampled=(True,)) for ids in ((1, 2, 3), (1, 2), (1, 2, 4))]
    assert common_beginning([RunTokens(turns=(turn,)) for turn in turns]) == (1,)


def test_a_rivals_schema_keeps_the_order_the_model_was_shown_and_drops_lengths() -> None:
    parameters = {
        "type": "object",
        "properties": {"query": {"type": "string", "maxLength": 2000}, "also": {"type": "integer"}},
        "required": ["query"],
    }
    schema, order = call_schema((ToolSpec(name="sql", parameters=parameters),), tool_format("hermes"))
    assert order == ["name", "arguments", "query", "also"]
    assert "maxLength" not in schema
    assert json.loads(schema)["anyOf"][0]["properties"]["name"] == {"const": "sql"}


def test_a_rivals_reply_is_free_text_or_one_whole_call() -> None:
    call = tagged("root ::= object\nobject ::= [0-9]", tool_format("hermes"))
    assert call.splitlines()[0] == 'root ::= "<tool_call>\\n" call "\\n</tool_call>"'
    assert spoken(call).splitlines()[:2] == ["root ::= [^<]* whole?", call.splitlines()[0].replace("root", "whole")]


def test_bars_show_both_sides_of_every_figure() -> None:
    drawn = bars(report([pair(10, 5, 40)]))
    assert drawn.count("koboshi") == 2
    assert "10.00" in drawn
    assert "20.00" in drawn


def test_a_png_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "bench.png"
    write_png(report([pair(10, 5, 40)]), path)
    data = np.frombuffer(path.read_bytes()[:8], dtype=np.uint8)
    assert data.tolist() == [137, 80, 78, 71, 13, 10, 26, 10]


def test_one_run_alone_is_held_to_other_targets() -> None:
    replies, raw, plain = figures_of([pair(10, 8.5, 40)], 1)
    assert (replies.ratio, replies.target, replies.met) == (0.944, 0.95, False)
    assert (raw.ratio, raw.target, raw.met) == (0.85, None, None)
    assert (plain.target, plain.met) == (None, None)


def test_a_side_that_takes_something_away_may_be_slower_by_so_much_at_most() -> None:
    sides = {"koboshi": result("koboshi", 10), "no-store": result("no-store", 9.9), "free": result("free", 9)}
    free, without = figures_of([sides], 4)
    assert (free.unit, free.ratio, free.met) == ("ms a written token", 1.111, False)
    assert (without.unit, without.ratio, without.met) == ("s in all", 1.01, True)


def test_costs_are_those_of_the_worst_round() -> None:
    rounds = [
        {"koboshi": result("koboshi", 10).model_copy(update={"again": again, "memory_growth": grown})}
        for again, grown in ((0, 1.02), (3, 1.01))
    ]
    first, again, memory = costs_of(rounds, 1.1, 16)
    assert (first.value, first.met) == (1.1, True)
    assert (again.value, again.met) == (3, False)
    assert (memory.value, memory.met) == (1.02, True)
    (*_, alone) = costs_of(rounds, None, 1)
    assert (alone.value, alone.target, alone.met) == (1.02, None, None)


def turn(
    index: int, new: tuple[int, ...], reply: tuple[int, ...], reused: int, *, in_context: bool = True
) -> TurnRecord:
    segment = Segment(kind=SegmentKind.USER, ids=new, text="")
    count = len(reply)
    written = Reply(
        ids=reply,
        sampled=(True,) * count,
        raw_logprobs=(0.0,) * count,
        behaviour_logprobs=(0.0,) * count,
        text="",
        finish=FinishReason.STOP,
        reused_tokens=reused,
    )
    kind = TurnKind.CALL if in_context else TurnKind.INVALID
    return TurnRecord(index=index, segments=(segment,), reply=written, kind=kind, in_context=in_context)


def run(*turns: TurnRecord) -> Trajectory:
    return Trajectory(
        run_id="r",
        created_at="2026-01-01T00:00:00.000+00:00",
        header=header(),
        turns=turns,
        calls=(),
        outcomes=(),
        end=DONE,
    )


@pytest.mark.parametrize(("reused", "again"), [(5, 0), (4, 1), (0, 5)])
def test_what_stood_in_the_cache_is_not_to_be_decoded_again(reused: int, again: int) -> None:
    turns = (turn(0, (1, 2, 3), (4, 5, 6), 0), turn(1, (7, 8), (9,), reused))
    assert decoded_again(run(*turns)) == again


def test_an_invalid_reply_leaves_the_prompt_and_what_stands_before_it_is_still_known() -> None:
    turns = (turn(0, (1, 2, 3), (4, 5, 6), 0, in_context=False), turn(1, (7, 8), (9,), 2))
    assert decoded_again(run(*turns)) == 1


@pytest.mark.model
@pytest.mark.slow
def test_the_first_token_of_a_new_process_is_timed_in_a_home_of_its_own(tmp_path: Path, smollm2_gguf: Path) -> None:
    users = open_home(path=tmp_path / "users")
    add_model(users, str(smollm2_gguf), AddSettings())
    waited = first_token_s(users, "current", "shop", tmp_path)
    assert 0 < waited < 60
    runs = Store.read_only(tmp_path / "home" / "traces.db").runs()
    assert {run.steps for run in runs} == {1}
    assert Store.read_only(users.traces).runs() == []
