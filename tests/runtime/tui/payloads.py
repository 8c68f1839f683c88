"""Two hundred hostile texts: terminal escapes, Rich and Textual markup, links, bidirectional overrides, HTML."""

import itertools

_BODIES = (
    "\x1b[2J\x1b[H",  # clears the screen
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;cm0gLXJm\x07",  # writes to the clipboard
    "\x1bP+q544e\x1b\\",
    "\x9b31m\x9d0;t\x9c",
    "\x1b[6n\x1b[>c",  # asks the terminal, whose answer is typed
    "[bold red]markup[/bold red]",
    "[link=https://evil.example]click[/link]",
    "[@click=app.quit]quit[/]",
    "[@click=app.bell()]ring[/@click]",
    "[/]",
    "[[unclosed",
    "$primary [on $error]styled[/]",
    "[click](javascript:alert(1))",
    "![image](https://evil.example/x.png)",
    "<script>alert(1)</script>",
    '<a href="https://evil.example" onclick="x()">link</a>',
    "\u202egnp.exe\u202c",
    "\u2066isolate\u2069\u200f\u061c",
    "\u200bzero\u200dwidth\ufeff",
    "line one\r\nforged: ✓ success\x0b\x0c\x85",
    "\u2028separator\u2029",
    "tab\tbell\x07back\x08space\x7f",
)
_AROUND = ("{}", "before {} after", "{}{}", '"quoted {}"', "\\{}", "{}\n{}", "a/{}/b", "{{{}}}")

PAYLOADS = tuple(around.format(*(body,) * 2) for around, body in itertools.product(_AROUND, _BODIES))
assert len(set(PAYLOADS)) == 200
