"""Reading koboshi.toml, and making a project."""

from pathlib import Path

import pytest

from koboshi_runtime.checkers import CheckSettings
from koboshi_runtime.project import Budgets, Project, bare_project, load_project
from koboshi_runtime.tasks import Task, load_tasks
from koboshi_runtime.templates_init import init_project
from koboshi_tools import UsageError


def project(folder: Path, text: str) -> Project:
    (folder / "koboshi.toml").write_text(text, encoding="utf-8")
    return load_project(folder)


def task(**meta: object) -> Task:
    return Task(id="a", prompt="x", checker=None, meta=meta)


def test_what_the_file_leaves_out_has_a_default(tmp_path: Path) -> None:
    loaded = project(tmp_path, "")
    assert (loaded.name, loaded.tools, loaded.budgets) == (tmp_path.name, ("*",), Budgets())
    assert loaded == bare_project(tmp_path)


def test_all_of_a_project_is_read(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    loaded = project(
        tmp_path,
        """
        [agent]
        name = "mine"
        system_prompt = "Be brief."
        tools = ["sql", "files_*"]
        [agent.budgets]
        max_steps = 3
        reply_tokens = 40
        [tools.sql]
        database = "shop.db"
        [[outcome]]
        kind = "schema"
        schema = { type = "object" }
        [worker]
        threads = 2
        """,
    )
    assert (loaded.name, loaded.system_prompt) == ("mine", "Be brief.")
    assert (loaded.budgets.max_steps, loaded.budgets.reply_tokens) == (3, 40)
    assert loaded.tool_settings == {"sql": {"database": "shop.db"}}
    assert [check.kind for check in loaded.checks] == ["schema"]
    assert loaded.policies == (tmp_path / "policies",)


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("[agnet]", "agnet", "agent"),
        ("[wroker]", "wroker", "worker"),
        ('[agent]\nsystem_promt = "x"', "agent.system_promt", "system_prompt"),
        ("[agent.budgets]\nmax_step = 3", "agent.budgets.max_step", "max_steps"),
        ('[[outcome]]\nkind = "schema"\nschema = {}\nscema = {}', "scema", "schema"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path, text: str, key: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        project(tmp_path, text)
    assert key in str(caught.value)
    assert near in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["[agent", "[agent.budgets]\nmax_steps = 0", '[[outcome]]\nkind = "magic"', '[policy]\nfiles = ["../x"]']
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"koboshi\.toml"):
        project(tmp_path, text)


def test_a_folder_without_the_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_project(tmp_path)
    assert "koboshi init" in str(caught.value.hint)


def test_tools_are_chosen_by_name_and_glob(tmp_path: Path) -> None:
    loaded = project(tmp_path, '[agent]\ntools = ["files_*", "sql", "mcp_*"]')
    assert loaded.select_tools(["sql", "files_read", "shell", "files_list"]) == ("files_read", "files_list", "sql")


def test_a_tool_that_does_not_exist_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        project(tmp_path, '[agent]\ntools = ["calculater"]').select_tools(["sql", "calculator"])
    assert "calculator" in str(caught.value.hint)


def test_a_task_may_name_a_folder_inside_the_workspace(tmp_path: Path) -> None:
    loaded = project(tmp_path, "")
    (loaded.workspace / "train").mkdir(parents=True)
    assert loaded.task_workspace(task()) == loaded.workspace
    assert loaded.task_workspace(task(workspace="train")) == loaded.workspace / "train"


@pytest.mark.parametrize("inner", ["..", "../tools", "/etc", "none", "link", 7, "a\0b"])
def test_a_task_never_leaves_the_workspace(tmp_path: Path, inner: object) -> None:
    loaded = project(tmp_path, "")
    loaded.workspace.mkdir()
    (loaded.workspace / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="not a folder inside"):
        loaded.refuse_unrunnable([task(workspace=inner)], CheckSettings())


def test_a_blank_project_loads_and_its_task_is_valid(tmp_path: Path) -> None:
    made = init_project(tmp_path / "mine")
    loaded = load_project(made.root)
    assert loaded.name == "mine"
    assert [item.id for item in load_tasks(loaded.task_file("train"))] == ["first"]
    assert {path.name for path in made.root.iterdir()} >= {"tools", "policies", "tasks", "checks", "workspace"}


def test_a_project_made_from_a_pack_loads_like_any_other(tmp_path: Path) -> None:
    made = init_project(tmp_path / "arithmetic", "arithmetic", seed=3)
    loaded = load_project(made.root)
    assert len(load_tasks(loaded.task_file("dev"))) == made.tasks["dev"] == 200
    assert loaded.policies == (made.root / "policies",)


def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="not an empty folder"):
        init_project(tmp_path, "shop")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unknown_pack_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no pack 'shoe'"):
        init_project(tmp_path / "new", "shoe")
    assert list(tmp_path.iterdir()) == []
