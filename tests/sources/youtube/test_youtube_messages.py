"""Every message that is known, with both apostrophes and with hints behind it."""

import pytest

from avpipe.errors import Reason
from avpipe.sources.youtube.messages import TABLE, Again, answer_to

HINT = ". Use --cookies-from-browser or --cookies for the authentication. See https://github.com/yt-dlp/yt-dlp/wiki"
MESSAGES = {
    "Private video. Sign in if you've been granted access to this video": ("private", Reason.MISSING, Again.NO),
    "This video has been removed by the uploader": ("removed", Reason.MISSING, Again.NO),
    "Video unavailable. This video is no longer available because the YouTube account associated with this video has "
    "been terminated.": ("terminated", Reason.MISSING, Again.NO),
    "Video unavailable. This video is no longer available because the uploader has closed their YouTube account.": (
        "terminated", Reason.MISSING, Again.NO,
    ),
    "This video has been removed for violating YouTube's Terms of Service": ("removed", Reason.MISSING, Again.NO),
    "This video does not exist": ("removed", Reason.MISSING, Again.NO),
    "Video unavailable": ("unavailable", Reason.MISSING, Again.LATER),
    "The uploader has not made this video available in your country": ("region", Reason.BLOCKED, Again.NO),
    "Video unavailable. This video is not available in your country": ("region", Reason.BLOCKED, Again.NO),
    "Video unavailable. This video contains content from X, who has blocked it in your country on copyright grounds": (
        "region", Reason.BLOCKED, Again.NO,
    ),
    "Sign in to confirm your age. This video may be inappropriate for some users.": ("age", Reason.BLOCKED, Again.NO),
    "Join this channel to get access to members-only content like this video": ("members", Reason.BLOCKED, Again.NO),
    "This video is available to this channel's members on level: X": ("members", Reason.BLOCKED, Again.NO),
    "Sign in to confirm you're not a bot": ("bot_wall", None, Again.STOP_HOST),
    "YouTube is requiring a captcha challenge before playback": ("bot_wall", None, Again.STOP_HOST),
    "All player responses are invalid. Your IP is likely being blocked by Youtube": ("bot_wall", None, Again.STOP_HOST),
    "Video unavailable. This content isn't available, try again later. The current session has been rate-limited by "
    "YouTube for up to an hour.": ("rate_limited", None, Again.STOP_HOST),
    "unable to download video data: HTTP Error 429: Too Many Requests": ("rate_limited", None, Again.STOP_HOST),
    "unable to download video data: HTTP Error 403: Forbidden": ("forbidden", Reason.BLOCKED, Again.NOW),
    "No supported JavaScript runtime could be found": ("tool_outdated", None, Again.STOP_RUN),
    "Requested format is not available. Use --list-formats for a list": ("tool_outdated", None, Again.STOP_RUN),
    "This live event will begin in 3 hours": ("live", Reason.MISSING, Again.NO),
    "Premieres in 5 days": ("live", Reason.MISSING, Again.NO),
    "This video is DRM protected": ("drm", Reason.MISSING, Again.NO),
    "Unsupported URL: https://example.org/": ("bad_url", Reason.MISSING, Again.NO),
    "Incomplete YouTube ID abc. URL https://x/watch?v=abc looks truncated.": ("bad_url", Reason.MISSING, Again.NO),
    "Unable to download webpage: HTTP Error 404: Not Found": ("gone", Reason.MISSING, Again.NO),
    "Unable to download webpage: HTTP Error 410: Gone": ("gone", Reason.MISSING, Again.NO),
    "Unable to download webpage: HTTP Error 503: Service Unavailable": ("transient", Reason.TIMEOUT, Again.NOW),
    "100 bytes read, 200 more expected. Giving up after 1 retries": ("transient", Reason.TIMEOUT, Again.NOW),
    "The read operation timed out": ("transient", Reason.TIMEOUT, Again.NOW),
}  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_every_known_message(message):
    for text in (message, message.replace("'", "\u2019"), f"ERROR: [youtube] abc: {message}{HINT}", message.upper()):
        answer = answer_to(text)
        assert (answer.cause, answer.reason, answer.again) == MESSAGES[message], text


def test_what_is_not_known_has_no_answer():
    assert answer_to("Something that nobody has seen before") is None and answer_to("") is None


def test_the_table_is_in_small_letters_and_no_row_hides_another():
    for position, (part, answer) in enumerate(TABLE):
        assert part == part.casefold() and answer_to(part) is answer, TABLE[position]
