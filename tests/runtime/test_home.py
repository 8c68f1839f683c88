import stat
from pathlib import Path

import pytest

from koboshi_runtime.files import locked, replace_file
from koboshi_runtime.home import Home, home_path, open_home
from koboshi_tools import KoboshiError, UsageError


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_of_a_new_home_is_private(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "deep" / "home")
    assert {_mode(folder) for folder in home.folders} == {0o700}


def test_koboshi_home_comes_before_xdg_and_xdg_before_the_users_home(tmp_path: Path) -> None:
    xdg = {"XDG_DATA_HOME": str(tmp_path)}
    assert home_path({**xdg, "KOBOSHI_HOME": "/srv/k"}) == Path("/srv/k")
    assert home_path(xdg) == tmp_path / "koboshi"
    assert home_path({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/koboshi"


def test_a_relative_koboshi_home_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="'here', a relative path"):
        home_path({"KOBOSHI_HOME": "here"})


def test_a_home_that_others_may_write_to_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(KoboshiError, match="others may write") as caught:
        open_home(path=tmp_path)
    assert caught.value.hint is not None
    assert f"chmod 700 {tmp_path}" in caught.value.hint


def test_a_folder_inside_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    home.models.chmod(0o777)
    with pytest.raises(KoboshiError, match="models"):
        open_home(path=home.root)


def test_a_home_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_home(path=tmp_path)
    assert _mode(tmp_path) == 0o700


def test_a_missing_home_is_not_made_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(KoboshiError, match="no home"):
        open_home(create=False, path=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_home_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KoboshiError, match="cannot make"):
        open_home(path=tmp_path / "file" / "home")


def test_a_replaced_file_is_private_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "pointer"
    replace_file(target, b"old")
    replace_file(target, b"new")
    assert target.read_bytes() == b"new"
    assert _mode(target) == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_replacement_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_a_lock_file_is_private(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert _mode(tmp_path / "lock") == 0o600


def test_the_traces_lie_in_the_home() -> None:
    assert Home(Path("/h")).traces == Path("/h/traces.db")
