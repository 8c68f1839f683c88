"""The demo packs: the same everywhere, no leak between splits, no constant answer, every demonstration true."""

import asyncio
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from koboshi_runtime.checkers import Finished, judge
from koboshi_runtime.packs import PACKS, Demonstration, Pack, load_pack
from koboshi_runtime.project import load_project
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.tasks import Task, load_tasks
from koboshi_runtime.templates_init import init_project
from koboshi_tools import ToolContext, ToolVerdict, UsageError, builtin_tools, execute

SPLITS = ("train", "dev", "gate", "test", "test_shapes")
CASES = [(name, split) for name in PACKS for split in SPLITS]
Played = tuple[Demonstration, list[str]]
_ANSWER = re.compile(r"The answer is (.*)\.$")


@pytest.fixture(params=PACKS)
def pack(request: pytest.FixtureRequest) -> Pack:
    return load_pack(request.param)


def tasks(name: str, split: str) -> list[Task]:
    pack = load_pack(name)
    return pack.generate(split, pack.sizes[split], 0)


def normal(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def right(task: Task, answer: str) -> bool:
    assert task.checker is not None
    return judge(task.checker, Finished(answer)).label is OutcomeLabel.SUCCESS


def test_an_unknown_pack_is_refused_with_the_packs_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        load_pack("shoe")
    assert "shop" in str(caught.value.hint)


def test_one_seed_makes_one_pack_and_another_seed_another(pack: Pack) -> None:
    assert pack.generate("dev", 60, 5) == pack.generate("dev", 60, 5)
    assert pack.generate("dev", 60, 5) != pack.generate("dev", 60, 6)
    assert pack.demonstrations(30, 5) == pack.demonstrations(30, 5)


def test_a_smaller_count_is_a_prefix_of_a_larger_one(pack: Pack) -> None:
    assert pack.generate("gate", 40, 0) == pack.generate("gate", 90, 0)[:40]


def test_no_prompt_stands_twice_in_any_file_or_in_two(pack: Pack) -> None:
    prompts = [normal(task.prompt) for split in SPLITS for task in tasks(pack.name, split)]
    assert len(prompts) == sum(pack.sizes.values()) == len(set(prompts))


def test_demonstrations_are_of_the_train_wording_only(pack: Pack) -> None:
    prompts = {normal(task.prompt) for split in SPLITS[1:] for task in tasks(pack.name, split)}
    assert not prompts & {normal(demo.task.prompt) for demo in pack.demonstrations(300, 0)}


def wordings(name: str) -> dict[str, set[str]]:
    """Every wording of a pack by group, with its slots as they stand in the file."""
    groups: dict[str, set[str]] = {}
    families = tomllib.loads((load_pack(name).folder / "wording.toml").read_text(encoding="utf-8"))
    for family in families.values():
        for group, told in family.items():
            parts = told.values() if isinstance(told, dict) else [told]
            groups.setdefault(group, set()).update(text for part in parts for text in part)
    return groups


@pytest.mark.parametrize("name", PACKS)
def test_no_wording_is_shared_between_the_groups(name: str) -> None:
    groups = wordings(name)
    names = sorted(groups)
    shared = {(one, two): groups[one] & groups[two] for one in names for two in names if one < two}
    assert {pair: texts for pair, texts in shared.items() if texts} == {}


@pytest.mark.parametrize(("name", "split"), CASES)
def test_no_constant_answer_is_right_for_more_than_a_tenth(name: str, split: str) -> None:
    made = tasks(name, split)
    golds = Counter(str(getattr(task.checker, "answer", "")) for task in made)
    patterns = {getattr(task.checker, "pattern", "") for task in made}
    words = {re.sub(r"\(\?i\)|\\b|\\W\*\$|\\", "", pattern) for pattern in patterns}
    constants = [*(gold for gold, _ in golds.most_common(5)), "There is no such order.", "yes", *sorted(words)]
    best = max(sum(right(task, constant) for task in made) / len(made) for constant in constants)
    assert best <= 0.1


@pytest.mark.parametrize(("name", "split"), CASES)
def test_every_prompt_is_short_and_every_level_is_there_evenly(name: str, split: str) -> None:
    made = tasks(name, split)
    assert max(len(task.prompt.split()) for task in made) <= 45
    levels = Counter(task.meta["level"] for task in made)
    assert max(levels.values()) - min(levels.values()) <= 1


def test_system_prompts_are_short(pack: Pack) -> None:
    assert len(load_project(pack.folder).system_prompt.split()) <= 60


@pytest.fixture(scope="module", params=PACKS)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Played]:
    """Demonstrations with the outputs that the real tools gave to their calls."""
    made = init_project(tmp_path_factory.mktemp("packs") / request.param, request.param)
    project = load_project(made.root)
    tools = builtin_tools()

    async def play(demo: Demonstration) -> list[str]:
        outputs = []
        for turn in demo.turns[:-1]:
            assert turn.call is not None
            settings = project.tool_settings.get(turn.call.name, {})
            context = ToolContext(workspace=project.task_workspace(demo.task), settings=settings)
            result = await execute(turn.call, tools[turn.call.name], context)
            assert result.verdict is ToolVerdict.OK, result.output
            outputs.append(result.output)
        return outputs

    return [(demo, asyncio.run(play(demo))) for demo in load_pack(request.param).demonstrations(240, 0)]


def test_the_calls_of_a_demonstration_lead_to_its_answer(played: list[Played]) -> None:
    for demo, outputs in played:
        said = _ANSWER.match(demo.turns[-1].text)
        assert outputs[-1].splitlines()[-1] == (said[1] if said else "no rows"), demo


def test_each_number_of_a_later_call_was_told_or_found(played: list[Played]) -> None:
    for demo, outputs in played:
        for index, turn in enumerate(demo.turns[:-1]):
            assert turn.call is not None
            seen = set(re.findall(r"[\d.]*\d", " ".join([demo.task.prompt, *outputs[:index]])))
            assert set(re.findall(r"[\d.]*\d", str(turn.call.arguments))) <= seen, demo


def test_every_demonstration_passes_its_checker_and_is_short(played: list[Played]) -> None:
    for demo, _ in played:
        assert right(demo.task, demo.turns[-1].text), demo
        assert demo.turns[-1].call is None
        assert len(demo.turns) <= 4
        assert max(len(turn.text.split()) for turn in demo.turns) <= 15


def test_demonstrations_cover_the_levels_evenly(played: list[Played]) -> None:
    levels = Counter(demo.task.meta["level"] for demo, _ in played)
    assert set(levels) >= {1, 2, 3}
    assert max(levels.values()) - min(levels.values()) <= 1


def test_the_shop_of_each_split_is_its_own(tmp_path: Path) -> None:
    made = init_project(tmp_path / "shop", "shop")
    files = [(made.root / "workspace" / split / "shop.db").read_bytes() for split in ("train", "dev", "gate", "test")]
    assert len(set(files)) == 4
    for split in SPLITS:
        for task in load_tasks(made.root / "tasks" / f"{split}.jsonl"):
            assert task.meta["workspace"] == split.removesuffix("_shapes")
