"""A demo's stages: done once, kept whole, refused for another demo; its plan; what the screen and the watcher say."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from tests.trainer.trajectory_makers import trajectory

from koboshi_tools import Frozen, UsageError
from koboshi_trainer.demo.plan import TITLES, DemoPlan, StageName, estimates, plan_hash
from koboshi_trainer.demo.screen import Screen
from koboshi_trainer.demo.stages import Stages
from koboshi_trainer.demo.walk import example_text
from koboshi_trainer.demo.watch import new_ids, spoken_lines


class Made(Frozen):
    """A stage's result."""

    number: int


def _stages(folder: Path, name: str = "sha256:one") -> Stages:
    return Stages(folder, name, Screen(estimates(DemoPlan.quick())))


def test_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    numbers = iter((1, 2))
    for _ in range(2):
        made = _stages(tmp_path).do(StageName.LIVE, Made, lambda: Made(number=next(numbers)))
        assert made == Made(number=1)
    assert list(_stages(tmp_path).seconds()) == ["live"]


def test_stage_that_failed_leaves_nothing_and_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _stages(tmp_path).do(StageName.LIVE, Made, lambda: Made(number=1 // 0))
    assert list(tmp_path.iterdir()) == []
    assert _stages(tmp_path).do(StageName.LIVE, Made, lambda: Made(number=3)) == Made(number=3)


def test_folder_of_another_demo_is_refused(tmp_path: Path) -> None:
    _stages(tmp_path).do(StageName.LIVE, Made, lambda: Made(number=1))
    with pytest.raises(UsageError, match="another plan, pack or seed"):
        _stages(tmp_path, "sha256:two").do(StageName.LIVE, Made, lambda: Made(number=2))


def test_every_stage_has_a_title_and_an_estimate() -> None:
    assert set(TITLES) == set(StageName) == set(estimates(DemoPlan()))


def test_standard_plan_is_expected_to_stay_under_twenty_minutes() -> None:
    assert sum(estimates(DemoPlan()).values()) < 20 * 60


@pytest.mark.parametrize("name", [field.name for field in fields(DemoPlan)])
def test_every_setting_of_a_plan_names_another_demo(name: str) -> None:
    plan = DemoPlan()
    other = replace(plan, **{name: getattr(replace(DemoPlan.quick(), source="a.gguf"), name)})
    assert (plan_hash(plan, "shop", 0) == plan_hash(other, "shop", 0)) is (getattr(plan, name) == getattr(other, name))


def test_screen_prints_stage_and_time_left_as_plain_lines_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen({StageName.LIVE: 60.0, StageName.UNTRAINED: 300.0})
    screen.begin(StageName.LIVE)
    screen.end(60.0)
    screen.begin(StageName.UNTRAINED)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "1/2 Watch the untrained model at one task: 0%, about 6 min left",
        "2/2 Measure the untrained model: 0%, about 5 min left",
    ]


def test_slow_machine_lengthens_the_time_left() -> None:
    screen = Screen({StageName.UNTRAINED: 100.0, StageName.FEW_SHOT: 100.0})
    screen.begin(StageName.UNTRAINED)
    screen.end(200.0)
    assert screen.seconds_left(0.0) == pytest.approx(200.0)


def test_spoken_lines_lose_the_markup_and_show_escapes() -> None:
    told = (
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n6\x1b[2J\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert spoken_lines("told", told) == ["  told  | 6\\x1b[2J"]


def test_example_shows_question_and_results() -> None:
    text = example_text(trajectory())
    assert text.startswith("Question: two times three\n")
    assert "Result: 6" in text


def test_new_ids_begin_where_the_prompt_leaves_what_was_seen() -> None:
    assert new_ids((1, 2, 3), (1, 2, 3, 4)) == (4,)
    assert new_ids((1, 2, 7, 7), (1, 2, 5, 6)) == (5, 6)
