from pathlib import Path

import pytest

from koboshi_runtime.config import Config, find_project, flat, load_config
from koboshi_tools import UsageError


class Layers:
    """Files for each layer, and a variable or flag where a test wants one."""

    def __init__(self, root: Path) -> None:
        self.system = root / "etc.toml"
        self.user = root / "xdg" / "koboshi" / "config.toml"
        self.project = root / "project" / "koboshi.toml"
        self.environment = {"XDG_CONFIG_HOME": str(root / "xdg")}
        for path in (self.user, self.project):
            path.parent.mkdir(parents=True)

    def load(self, **flags: object) -> Config:
        dotted = {name.replace("__", "."): value for name, value in flags.items()}
        return load_config(self.project.parent, dotted, environment=self.environment, system_file=self.system)


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def test_without_any_layer_every_key_is_a_default(layers: Layers) -> None:
    config = layers.load()
    assert set(config.origins.values()) == {"default"}
    assert set(config.origins) == set(flat(config.settings.model_dump()))


def test_each_layer_wins_over_those_before_it_and_is_named_as_the_origin(layers: Layers) -> None:
    seen = [(layers.load().settings.run.seed, layers.load().origins["run.seed"])]
    for number, path in enumerate((layers.system, layers.user, layers.project), start=1):
        path.write_text(f"[run]\nseed = {number}\n", encoding="utf-8")
        seen.append((layers.load().settings.run.seed, layers.load().origins["run.seed"]))
    layers.environment["KOBOSHI_RUN__SEED"] = "4"
    seen.append((layers.load().settings.run.seed, layers.load().origins["run.seed"]))
    last = layers.load(run__seed=5)
    seen.append((last.settings.run.seed, last.origins["run.seed"]))
    origins = ["default", str(layers.system), str(layers.user), str(layers.project), "KOBOSHI_RUN__SEED"]
    assert seen == [*enumerate(origins), (5, "flag for run.seed")]


def test_a_flag_that_was_not_given_changes_nothing(layers: Layers) -> None:
    assert layers.load(run__seed=None).origins["run.seed"] == "default"


def test_the_projects_own_tables_are_left_to_the_project(layers: Layers) -> None:
    layers.project.write_text('[agent]\nname = "x"\n[tools.sql]\ndatabase = "d"\n[run]\nseed = 3\n', encoding="utf-8")
    assert layers.load().settings.run.seed == 3


def test_those_tables_are_unknown_outside_a_project_file(layers: Layers) -> None:
    layers.user.write_text('[agent]\nname = "x"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="unknown key 'agent.name'"):
        layers.load()


@pytest.mark.parametrize("text", ["[worker]\nthreds = 2\n", "[wroker]\nthreads = 2\n"])
def test_a_misspelt_key_names_the_file_and_the_nearest_known(layers: Layers, text: str) -> None:
    layers.user.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=str(layers.user)) as caught:
        layers.load()
    assert caught.value.hint == "Did you mean 'worker.threads'?"


def test_a_value_of_the_wrong_kind_names_its_origin_and_itself(layers: Layers) -> None:
    layers.environment["KOBOSHI_WORKER__PARALLEL"] = "many"
    with pytest.raises(UsageError, match="KOBOSHI_WORKER__PARALLEL: worker.parallel is 'many'"):
        layers.load()


def test_a_variable_with_one_underscore_is_caught(layers: Layers) -> None:
    layers.environment["KOBOSHI_WORKER_THREADS"] = "2"
    with pytest.raises(UsageError, match="sets nothing") as caught:
        layers.load()
    assert caught.value.hint == "Use KOBOSHI_WORKER__THREADS"


def test_variables_that_are_no_settings_are_left_alone(layers: Layers) -> None:
    layers.environment["KOBOSHI_HOME"] = "/srv/k"
    assert "/srv/k" not in str(layers.load())


def test_a_file_that_is_not_toml_is_refused_by_name(layers: Layers) -> None:
    layers.system.write_text("[run", encoding="utf-8")
    with pytest.raises(UsageError, match=r"etc\.toml is not TOML"):
        layers.load()


def test_the_nearest_parent_with_a_project_file_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    assert find_project(inner) is None
    (tmp_path / "koboshi.toml").touch()
    (tmp_path / "a" / "b" / "koboshi.toml").touch()
    assert find_project(inner) == tmp_path / "a" / "b"


def test_list_in_a_variable_is_parted_by_commas(layers: Layers) -> None:
    layers.environment["KOBOSHI_TRAIN__CLASSES"] = "tool_error, wrong_answer"
    assert layers.load().settings.train.classes == ("tool_error", "wrong_answer")
    layers.project.write_text('[train]\nclasses = ["loop"]\n', encoding="utf-8")
    del layers.environment["KOBOSHI_TRAIN__CLASSES"]
    assert layers.load().settings.train.classes == ("loop",)
