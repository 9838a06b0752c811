"""What a reader must know of clips that are used though not all of them was decoded."""

from __future__ import annotations

from collections.abc import Iterator

from avpipe.report.notices import listed
from avpipe.schema.stored import Account

NOTED_FROM = 0.01
"""Share of the clips that are ok; in capitals from ten times as much."""


def decoding_notices(account: Account | None) -> Iterator[str]:
    """Notices of clips that are not whole and of sound that is silent, where they are more than a few."""
    if account is None or not account.ok:
        return
    decoded, silent = account.decoded, account.silent_sound
    if decoded is not None and decoded.below and decoded.below >= NOTED_FROM * account.ok:
        title = "PARTS OF CLIPS MISSING" if decoded.below >= 10 * NOTED_FROM * account.ok else "Parts of clips missing"
        names = listed([clip.clip_id for clip in decoded.clips])
        lacking = f"of {decoded.below:,} of {account.ok:,} clips less than {100 * decoded.threshold:g} %"
        yield f"{title}: {lacking} of the pictures or of the sound was decoded ({names})."
    if len(silent) >= NOTED_FROM * account.ok and silent:
        title = "SILENT SOUND" if len(silent) >= 10 * NOTED_FROM * account.ok else "Silent sound"
        yield f"{title}: the sound of {len(silent):,} of {account.ok:,} clips is digital silence ({listed(silent)})."
