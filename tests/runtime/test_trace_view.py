from tests.runtime.trace_samples import trajectory

from koboshi_runtime.traces.view import run_lines


def test_a_run_reads_as_a_tree_of_steps() -> None:
    assert run_lines(trajectory()) == [
        "run abcdefgh12345678  2026-01-02T03:04:05.678+00:00",
        "  work · train · success · model abababab · seed 7 · temperature 0.5",
        "  prompts: 0 of 36 tokens reused (0%), of the beginning 0 of 3",
        "  prompt",
        "    How many apples are left?",
        "  step 0: call · 3 tokens · 0.00 s",
        "    I compute.<tool_call>",
        '    {"name": "calculator", "arguments": {"expression": "6*7"}}',
        "    </tool_call>",
        "    call calculator(expression='6*7')",
        "      allow by read (base.toml:3): reads only",
        "      ok, the tool says ok · 0.25 s",
        "        42",
        "  step 1: invalid · 3 tokens · 0.00 s",
        "    <tool_call>",
        "    {",
        "    error: cut",
        "  step 2: answer · 3 tokens · 0.00 s",
        "    <think>hm</think>42",
        "  end: finished (answer)",
        "    42",
        "  outcome: success by checker (number): 42 = 42",
    ]


def test_nothing_in_a_run_reaches_the_terminal_raw() -> None:
    text = "\n".join(run_lines(trajectory(prompt="\x1b[2Jgone\u202e", output="\x1b]0;title\x07")))
    assert [character for character in text if not character.isprintable() and character != "\n"] == []


def test_long_output_is_cut_unless_it_is_asked_for_whole() -> None:
    long = trajectory(output="line\n" * 1000)
    assert "        … 961 more lines (--full shows them)" in run_lines(long)
    assert len(run_lines(long, full=True)) > 1000
