"""`koboshi approvals`: the calls that wait for a person, and those that were refused because nobody was there."""

import getpass
import sys

import click

from koboshi_policies import Answer
from koboshi_tools import UsageError, canonical_json

from ..ids import SHORT_ID, utc_now
from ..text import plain
from .context import echo_json, open_home, table

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SHOWN = 60
_COLUMNS = ("id", "state", "asked", "until", "call", "reason")


@click.group(invoke_without_command=True)
@click.pass_context
def approvals(context: click.Context) -> None:
    """Answer the calls that wait for a person.

    Example: koboshi approvals list
    """
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@approvals.command("list")
@click.option("--all", "answered", is_flag=True, help="Those that were answered, used or have expired, too.")
@_JSON
def list_command(answered: bool = False, as_json: bool = False) -> None:
    """List the questions that can be answered, the newest first.

    Example: koboshi approvals list --all
    """
    from ..approvals import approvals as stored
    from ..store import Store

    now = utc_now()
    found = stored(Store.open(open_home().traces), answered=answered)
    if as_json:
        echo_json([each.model_dump(mode="json") | {"state": each.state(now)} for each in found])
        return
    rows = [
        (
            *(each.approval_id[:SHORT_ID], each.state(now), _time(each.asked_at), _time(each.expires_at)),
            plain(f"{each.call.name} {canonical_json(each.call.arguments)}", width=_SHOWN),
            plain(each.reason, width=_SHOWN),
        )
        for each in found
    ]
    table(_COLUMNS, rows)


@approvals.command("grant")
@click.argument("approval")
@click.option("--why", default="", help="The reason, for whoever reads the answer later.")
@_JSON
def grant_command(approval: str, why: str, as_json: bool) -> None:
    """Approve one call; a run that waits for it goes on, any other is allowed it once until it expires.

    Example: koboshi approvals grant 4k9v
    """
    _answer(approval, Answer.APPROVED, why=why, as_json=as_json)


@approvals.command("refuse")
@click.argument("approval")
@click.option("--why", default="", help="The reason, for whoever reads the answer later.")
@_JSON
def refuse_command(approval: str, why: str, as_json: bool) -> None:
    """Refuse one call; a run that waits for it goes on without it.

    Example: koboshi approvals refuse 4k9v --why "wrong customer"
    """
    _answer(approval, Answer.REFUSED, why=why, as_json=as_json)


def _answer(ref: str, answer: Answer, *, why: str, as_json: bool) -> None:
    from ..approvals import answer_approval, find_approval
    from ..store import Store, StoreRuleError

    store = Store.open(open_home().traces)
    found = find_approval(store, sys.stdin.readline().strip() if ref == "-" else ref)
    try:
        answer_approval(store, found.approval_id, answer, who=getpass.getuser(), why=why)
    except StoreRuleError as error:
        state = found.state(utc_now())
        hint = "`koboshi approvals list` shows what can be."
        raise UsageError(f"question {found.approval_id} is {state} and cannot be answered", hint=hint) from error
    if as_json:
        echo_json(find_approval(store, found.approval_id).model_dump(mode="json"))
        return
    click.echo(plain(f"{answer}: {found.call.name} {canonical_json(found.call.arguments)}"))


def _time(at: str) -> str:
    return at[:19].replace("T", " ")
