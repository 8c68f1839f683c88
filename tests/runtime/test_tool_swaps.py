"""Two versions of a small tool in a project, from shadow to active or out again, by the verbs that people use."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.runtime.run_makers import calls, task

from koboshi_policies.versions import Stage
from koboshi_runtime.cli import main
from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import open_home
from koboshi_runtime.outside import OutsideCalls
from koboshi_runtime.project import load_project
from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource, Purpose, Trajectory
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.session import Place, open_session
from koboshi_runtime.store import Store
from koboshi_runtime.tool_swaps import advance, load_versions, swap_views
from koboshi_runtime.trust import pin, trust_state
from koboshi_tools import ToolCall, UsageError, load_tools_folder

TOOL = '''
from koboshi_tools import ToolError, tool

@tool(version="{version}", effect="{effect}")
def lookup(key: str) -> str:
    """Look a key up."""
    {body}
'''
RULES = '[[rule]]\ntools = ["lookup"]\nverdict = "allow"\n'
LOOK = calls(("lookup", {"key": "a"}))


def write_tool(folder: Path, version: str, body: str, effect: str = "read") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = TOOL.format(version=version, body=body, effect=effect)
    (folder / "lookup.py").write_text(text, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, folder in (("KOBOSHI_HOME", "home"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    root = tmp_path / "project"
    (root / "policies").mkdir(parents=True)
    (root / "koboshi.toml").write_text('[agent]\nname = "shop"\n', encoding="utf-8")
    (root / "policies" / "rules.toml").write_text(RULES, encoding="utf-8")
    write_tool(root / "tools", "1", 'return f"value of {key}"')
    write_tool(root / "tools" / "versions" / "2", "2", 'return f"the value of {key}"')
    monkeypatch.chdir(root)
    trust(root)
    return root


def trust(root: Path) -> None:
    """Agree to the project as it is now."""
    home = open_home()
    pin(home, trust_state(home, load_project(root)))


def koboshi(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.stderr
    return done.stdout


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 2, done.output
    return done.stderr


async def _run(project: Path, count: int, answer: str, purpose: Purpose) -> list[str]:
    place = Place(open_home(), project, Settings())
    async with open_session(place, model=ScriptedModel([LOOK, answer] * count)) as session:
        runner: Runner = session.runner(RunSettings(purpose=purpose))
        return [(await runner.run(task(str(n)))).run_id for n in range(count)]


def run(project: Path, count: int = 1, *, answer: str = "done", purpose: Purpose = Purpose.WORK) -> list[Trajectory]:
    """Run tasks that look something up; the answer `done` is right, any other wrong."""
    run_ids = asyncio.run(_run(project, count, answer, purpose))
    store = Store.open(open_home().traces)
    return [store.trajectory(run_id) for run_id in run_ids]


def outputs(found: list[Trajectory]) -> set[str]:
    return {call.result.output for each in found for call in each.calls if call.result}


def stage() -> str:
    (listed,) = json.loads(koboshi("tools", "swap", "--json"))
    return str(listed["stage"])


def listed() -> dict[str, Any]:
    (found,) = json.loads(koboshi("tools", "swap", "--json"))
    assert isinstance(found, dict)
    return found


def test_a_version_that_lies_beside_its_tool_is_given_to_nobody_before_it_is_swapped_in(project: Path) -> None:
    assert outputs(run(project)) == {"value of a"}
    assert koboshi("tools", "swap", "--json") == "[]\n"


def test_a_version_in_shadow_is_called_beside_and_compared_and_nobody_sees_it(project: Path) -> None:
    assert "version 2 is shadow" in koboshi("tools", "swap", "lookup", "2")
    found = run(project, 3)
    assert outputs(found) == {"value of a"}
    assert {call.intent.tool_version for each in found for call in each.calls} == {"1"}
    assert listed()["shadow_calls"] == {"total": 3, "same": 0}
    run(project, purpose=Purpose.ROLLOUT)
    assert listed()["shadow_calls"]["total"] == 3
    assert "value of a\tthe value of a" in koboshi("tools", "swap", "lookup", "--calls")
    beside = json.loads(koboshi("tools", "swap", "lookup", "--calls", "--json"))
    assert [(call["arguments"], call["new"]["output"], call["same"]) for call in beside] == [
        ({"key": "a"}, "the value of a", False)
    ] * 3


def test_a_version_that_breaks_in_shadow_never_carries_a_run(project: Path) -> None:
    write_tool(project / "tools" / "versions" / "2", "2", 'raise ToolError("broken")')
    trust(project)
    koboshi("tools", "swap", "lookup", "2")
    assert outputs(run(project, 20)) == {"value of a"}
    assert stage() == "retired"
    assert listed()["reason"] == "worse: 0 of 20 calls with the new version succeeded, 20 of 20 before"


@pytest.mark.slow
def test_a_version_goes_from_shadow_to_canary_to_active_by_measured_success(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2", "--share", "0.5")
    assert outputs(run(project, 20)) == {"value of a"}
    assert stage() == "canary"
    judge(project, right={"2"})
    assert stage() == "active"
    assert "better: " in listed()["reason"]
    assert outputs(run(project, 3)) == {"the value of a"}
    assert outputs(run(project, 1, purpose=Purpose.ROLLOUT)) == {"the value of a"}


@pytest.mark.slow
def test_a_canary_that_is_worse_is_rolled_back_by_itself(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2", "--stage", "canary", "--share", "0.5")
    judge(project, right={"1"})
    assert stage() == "retired"
    assert listed()["who"] == "measured"
    assert outputs(run(project, 3)) == {"value of a"}


def judge(project: Path, right: set[str]) -> None:
    """Run until the version moves; a run is right if the version that it was given is."""
    store = Store.open(open_home().traces)
    for _ in range(10):
        for each in run(project, 20, answer="unclear"):
            (call,) = each.calls
            label = OutcomeLabel.SUCCESS if call.intent.tool_version in right else OutcomeLabel.FAILURE
            store.add_outcome(each.run_id, Outcome(label=label, source=OutcomeSource.CHECKER, who="test"))
        advance(store, "shop")
        if stage() != "canary":
            return
    raise AssertionError("200 runs moved nothing")


def test_every_run_of_a_canary_keeps_its_version_and_is_told_that_ones_description(project: Path) -> None:
    told = project / "tools" / "versions" / "2" / "lookup.py"
    told.write_text(told.read_text(encoding="utf-8").replace("Look a key up.", "Find a key."), encoding="utf-8")
    trust(project)
    koboshi("tools", "swap", "lookup", "2", "--stage", "canary", "--share", "0.5")
    found = run(project, 12)
    digests = {call.intent.tool_digest for each in found for call in each.calls}
    assert len(digests) == 2
    for each in found:
        (call,) = each.calls
        assert each.header.versions == {"lookup": call.intent.tool_digest}
        assert each.header.tool_specs[0].description == (
            "Find a key." if call.intent.tool_version == "2" else "Look a key up."
        )


def test_a_person_rolls_back_and_moves_on_by_hand(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2", "--stage", "active")
    assert outputs(run(project)) == {"the value of a"}
    assert "version 2 is retired" in koboshi("tools", "rollback", "lookup")
    assert outputs(run(project)) == {"value of a"}
    koboshi("tools", "swap", "lookup", "2")
    koboshi("tools", "swap", "lookup", "2", "--stage", "canary")
    assert stage() == "canary"


async def _from_outside(project: Path) -> str:
    async with open_session(Place(open_home(), project, Settings()), model=ScriptedModel([])) as session:
        outside = OutsideCalls.of(session)
        return (await outside.call(ToolCall(name="lookup", arguments={"key": "a"}), "a program")).output


def test_the_active_version_is_listed_and_is_what_programs_outside_call(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2", "--stage", "canary")
    assert asyncio.run(_from_outside(project)) == "value of a"
    koboshi("tools", "swap", "lookup", "2", "--stage", "active")
    assert asyncio.run(_from_outside(project)) == "the value of a"
    assert json.loads(koboshi("tools", "show", "lookup", "--json"))["version"] == "2"


def test_what_cannot_be_swapped_is_refused_with_the_way_out(project: Path) -> None:
    assert "no tool 'look'" in refused("tools", "swap", "look", "2")
    assert "no version '3' of 'lookup'" in refused("tools", "swap", "lookup", "3")
    assert "'1' is live already" in refused("tools", "swap", "lookup", "1")
    assert "which version of 'lookup'" in refused("tools", "swap", "lookup")
    assert "no version of 'lookup' was swapped in" in refused("tools", "rollback", "lookup")
    koboshi("tools", "swap", "lookup", "2")
    assert "is shadow already" in refused("tools", "swap", "lookup", "2")
    assert "koboshi tools rollback lookup" in refused("tools", "swap", "lookup", "1")


def test_a_tool_that_writes_begins_as_a_canary_and_never_in_shadow(project: Path) -> None:
    for folder, version in ((project / "tools", "1"), (project / "tools" / "versions" / "2", "2")):
        write_tool(folder, version, 'return "written"', effect="write")
    trust(project)
    assert "effect would happen twice" in refused("tools", "swap", "lookup", "2", "--stage", "shadow")
    assert "version 2 is canary" in koboshi("tools", "swap", "lookup", "2")


def test_editing_the_tool_itself_ends_the_swap(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2", "--stage", "active")
    write_tool(project / "tools", "3", 'return "mended"')
    trust(project)
    koboshi("tools", "accept", "lookup", "--yes")
    assert outputs(run(project)) == {"mended"}


def test_an_active_version_whose_file_is_gone_is_an_error_that_says_the_way_out(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2", "--stage", "active")
    (project / "tools" / "versions" / "2" / "lookup.py").unlink()
    write_tool(project / "tools" / "versions" / "3", "3", 'return "three"')
    trust(project)
    with pytest.raises(UsageError, match="version 2 of 'lookup'") as missing:
        run(project)
    assert missing.value.hint == "Put its file back, or: koboshi tools rollback lookup"


@pytest.mark.parametrize(
    ("version", "effect", "said"),
    [("1", "read", "which another one has"), ("2", "write", "has the effect write")],
)
def test_a_version_that_cannot_stand_beside_its_tool_is_refused(
    project: Path, version: str, effect: str, said: str
) -> None:
    write_tool(project / "tools" / "versions" / "2", version, 'return ""', effect=effect)
    with pytest.raises(UsageError, match=said):
        load_versions(project / "tools", load_tools_folder(project / "tools"))


def test_a_version_of_no_tool_is_refused(project: Path) -> None:
    (project / "tools" / "lookup.py").unlink()
    with pytest.raises(UsageError, match="holds no 'lookup'"):
        load_versions(project / "tools", load_tools_folder(project / "tools"))


def test_a_later_version_is_held_against_the_active_one(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2", "--stage", "active")
    write_tool(project / "tools" / "versions" / "3", "3", 'return "three"')
    trust(project)
    koboshi("tools", "swap", "lookup", "3")
    (view,) = swap_views(Store.open(open_home().traces), "shop")
    assert (view.stored.swap.old.version, view.stored.swap.new.version, view.stored.swap.stage) == (
        "2",
        "3",
        Stage.SHADOW,
    )
    assert outputs(run(project)) == {"the value of a"}
    koboshi("tools", "rollback", "lookup")
    assert outputs(run(project)) == {"the value of a"}


def wish(project: Path, text: str) -> None:
    """Let the policy swap versions in, and agree to that."""
    (project / "policies" / "swaps.toml").write_text(text, encoding="utf-8")
    trust(project)


def test_a_policy_swaps_a_version_in_and_taking_the_lines_out_takes_it_out(project: Path) -> None:
    wish(project, '[[swap]]\ntool = "lookup"\nversion = "2"\nshare = 0.3\n')
    run(project)
    assert (stage(), listed()["share"], listed()["who"]) == ("shadow", 0.3, "policy")
    run(project)
    assert listed()["shadow_calls"]["total"] == 2
    wish(project, "")
    run(project)
    assert (stage(), listed()["reason"]) == ("retired", "the policy no longer swaps it in")


def test_a_version_that_was_taken_out_is_not_swapped_in_again_by_the_same_lines(project: Path) -> None:
    wish(project, '[[swap]]\ntool = "lookup"\nversion = "2"\n')
    run(project)
    koboshi("tools", "rollback", "lookup")
    run(project)
    assert stage() == "retired"


def test_what_a_person_began_is_not_the_policys_to_take_out(project: Path) -> None:
    koboshi("tools", "swap", "lookup", "2")
    run(project)
    assert stage() == "shadow"


def test_a_policy_that_swaps_in_what_is_not_there_is_an_error(project: Path) -> None:
    wish(project, '[[swap]]\ntool = "lookup"\nversion = "7"\n')
    with pytest.raises(UsageError, match="no version '7' of 'lookup'"):
        run(project)
