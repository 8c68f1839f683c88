from collections import Counter

from koboshi_runtime.ids import new_id, normalise_prompt, prompt_hash, split_of_hash
from koboshi_runtime.records import Split


def test_prompts_that_differ_in_case_and_blanks_are_one_prompt() -> None:
    assert prompt_hash("  How MANY\n apples? ") == prompt_hash("how many apples?")


def test_normalising_twice_changes_nothing() -> None:
    assert normalise_prompt(normalise_prompt(" A  b ")) == "a b"


def test_a_prompt_of_lone_surrogates_has_a_hash() -> None:
    assert prompt_hash("\udcff").startswith("sha256:")


def test_ids_are_sixteen_characters_and_differ() -> None:
    ids = {new_id() for _ in range(100)}
    assert (len(ids), {len(each) for each in ids}) == (100, {16})


def test_splits_are_shared_out_seven_one_one_one() -> None:
    counts = Counter(split_of_hash(prompt_hash(f"task {number}")) for number in range(5000))
    assert {split: round(counts[split] / 5000, 1) for split in Split} == {
        Split.TRAIN: 0.7,
        Split.DEV: 0.1,
        Split.GATE: 0.1,
        Split.TEST: 0.1,
    }
