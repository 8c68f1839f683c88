"""The code of the how-to page about Python runs as it is printed, on the real model."""

import re
from pathlib import Path

import pytest

from koboshi_runtime.home import open_home
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.store import RunFilter, Store
from koboshi_runtime.templates_init import init_project
from koboshi_runtime.trust import pin_new

pytestmark = [pytest.mark.slow, pytest.mark.model]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-from-python.md"


def test_code_of_the_page_runs(
    smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KOBOSHI_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("KOBOSHI_RUN__SEED", "1")
    monkeypatch.setenv("KOBOSHI_WORKER__THREADS", "1")
    monkeypatch.setenv("KOBOSHI_WORKER__BATCH_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    home = open_home()
    add_model(home, str(smollm2_gguf), AddSettings(name="smollm2"))
    pin_new(home, init_project(tmp_path / "my-agent").root)

    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(code) == 2
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, str(PAGE), "exec"), names)

    store = Store.read_only(home.traces)
    stored = [store.trajectory(row.run_id) for row in store.runs(RunFilter(limit=None))]
    by_project = {found.header.project: found for found in stored}
    assert by_project["my-agent"].outcome is OutcomeLabel.SUCCESS
    assert by_project["chat"].header.tools == ("stock",)
    assert by_project["chat"].run_id in capsys.readouterr().out
