"""Two hundred texts that would do something where they are shown raw: on a terminal, in Rich, in a browser."""

_ESCAPES = (
    *("\x1b[31mred", "\x1b[38;5;201mpink", "\x1b[2J", "\x1b[H", "\x1b[10A", "\x1b[1000D", "\x1b[?1049h", "\x1b[?25l"),
    *("\x1b[3;5r", "\x1b[8m", "\x1bc", "\x1b(0", "\x1b#8", "\x9b31m", "\x9bA", "\x84", "\x85next"),
    *(
        "\x1b]0;title\x07",
        "\x1b]2;title\x1b\\",
        "\x1b]52;c;cm0gLXJm\x07",
        "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",
    ),
    *(
        "\x1b]4;1;rgb:ff/00/00\x07",
        "\x1b]1337;File=name=eA==:eA==\x07",
        "\x1bP$q\x1b\\",
        "\x1b_Gf=100;AAAA\x1b\\",
        "\x9d0;t\x9c",
    ),
    *("\x07", "over\x08\x08\x08\x08writ", "safe\rEVIL", "\x00", "\x7f", "\x0b", "\x0c", "\x0e", "\x1a"),
)
_MARKUP = (
    *(
        "[bold magenta]loud[/]",
        "[link=http://evil.example]here[/link]",
        "[/]",
        "[red on blue]",
        "[@click=app.quit]go[/]",
    ),
    *(
        "[blink]",
        ":bomb:",
        "[not bold",
        "\\[bold]",
        "[[bold]]",
        "[conceal]hidden[/conceal]",
        "[link=file:///etc/passwd]f[/]",
    ),
)
_LINES = (
    "\nrun aaaaaaaa  success",
    "\r\n  outcome: success by checker",
    "\u2028forged",
    "\u2029forged",
    "\n\nerror: none\nhint: koboshi approvals grant",
)
_UNSEEN = (
    *(
        "\u202egnp.exe",
        "\u202dforced",
        "\u2066isolated\u2069",
        "\u2067rtl\u2069",
        "\u061c",
        "\u200e",
        "\u200f",
        "\u2068x",
    ),
    *(
        "zero\u200bwidth",
        "\u200d",
        "\ufeff",
        "soft\u00adhyphen",
        "\U000e0041\U000e0042",
        "\u2060",
        "\ue000",
        "\udcff\udc80",
    ),
)
_PAGES = (
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<a href='javascript:alert(1)'>x</a>",
        "<iframe src=//e>",
    ),
    *(
        "<svg/onload=alert(1)>",
        "<!--",
        "</pre><b>",
        "<style>*{}</style>",
        "<base href=//e>",
        "]]>",
        "<details open ontoggle=x>",
    ),
    *(
        "[x](javascript:alert(1))",
        "![x](http://evil.example/p.png)",
        "<http://evil.example>",
        "```\n# title\n```",
        "| a | b |",
    ),
)
_BASES = (*_ESCAPES, *_MARKUP, *_LINES, *_UNSEEN, *_PAGES)

PAYLOADS = tuple(
    [
        *_BASES,
        *(f"before {base} after" for base in _BASES),
        *(f"{base}{base}{base}" for base in _BASES),
    ][:200]
)
