"""The account of a dataset's clips, as the reports of both tasks end with it."""

from __future__ import annotations

from avpipe.report.document import Block, Heading, Items, Paragraph, Table, plain_columns
from avpipe.schema.stored import Account
from avpipe.sources.folders import describe

_ON_PAGE, _ON_TERMINAL = 50, 10  # clips that are named


def account_blocks(account: Account | None) -> list[Block]:
    """Clips in total and by reason; nothing where features were given ready-made."""
    if account is None:
        return []
    totals = {"requested": account.requested, "ok": account.ok, **account.reasons}
    rows = [(name, str(n)) for name, n in totals.items()]
    line = "clips: " + ", ".join(f"{name} {n}" for name, n in rows)
    passed_over = describe({reason: each.model_dump() for reason, each in account.passed_over.items()})
    return [
        Heading("Clips", on="page"),
        Table(plain_columns("", "clips"), rows, on="page"),
        Paragraph(line, on="terminal"),
        *([Paragraph(f"Passed over in the source, which are no clips: {passed_over}.")] if passed_over else []),
    ]


def failed_blocks(account: Account | None) -> list[Block]:
    """The clips that are not used, the first of them by name."""
    failed = account.failed if account is not None else []
    if not failed:
        return []
    rows = [(each.clip_id, each.reason, each.stage, each.detail) for each in failed[:_ON_PAGE]]
    lines = [f"{each.clip_id}: {each.reason} ({each.detail})" for each in failed[:_ON_TERMINAL]]
    blocks: list[Block] = [
        Heading("Clips that are not used", on="page"),
        Table(plain_columns("clip", "reason", "stage", "detail", n_text=4), rows, on="page"),
        Items(lines, on="terminal"),
    ]
    if len(failed) > _ON_PAGE:
        blocks.append(Paragraph(f"and {len(failed) - _ON_PAGE} more in eval.json.", on="page"))
    if len(failed) > _ON_TERMINAL:
        blocks.append(Paragraph(f"  and {len(failed) - _ON_TERMINAL} more in eval.json", on="terminal"))
    return blocks
