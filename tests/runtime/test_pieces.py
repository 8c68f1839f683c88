"""The bytes of a model's tokens, read from its file once and kept beside it."""

import json
from pathlib import Path

import pytest

from koboshi_runtime.home import open_home
from koboshi_runtime.models.pieces import pieces_of
from koboshi_tools import KoboshiError


def test_without_the_models_file_there_are_none(tmp_path: Path) -> None:
    assert pieces_of(open_home(path=tmp_path / "home"), "sha256:00") is None


def test_a_kept_list_that_is_damaged_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    (home.models / "ab").mkdir()
    (home.models / "ab" / "pieces.json").write_text("[", encoding="utf-8")
    with pytest.raises(KoboshiError) as raised:
        pieces_of(home, "sha256:ab")
    assert "it is made anew" in str(raised.value.hint)


@pytest.mark.slow
@pytest.mark.model
def test_a_real_vocabulary_spells_its_own_tokens(tmp_path: Path, smollm2_gguf: Path) -> None:
    home = open_home(path=tmp_path / "home")
    (home.models / "ab").mkdir()
    (home.models / "ab" / "model.gguf").symlink_to(smollm2_gguf)
    found = pieces_of(home, "sha256:ab")
    assert found is not None
    assert (len(found), found[1]) == (49152, b"<|im_start|>")
    assert len(json.loads((home.models / "ab" / "pieces.json").read_bytes())) == 49152
    assert pieces_of(home, "sha256:ab") == found
