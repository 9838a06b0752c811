"""Turns at hosts: pauses, places, walls, and what another run may ask again."""

import threading
import time

import pytest

from avpipe.sources.hosts import AT_A_TIME, WALLS_IN_A_ROW, Hosts, HostStoppedError, begin_run, host_of, stops

YOUTUBE, OTHER = "https://www.youtube.com/watch?v=AAAAAAAAAAA", "http://127.0.0.1:8000/a.mp4"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (YOUTUBE, "youtube"),
        ("https://youtu.be/AAAAAAAAAAA", "youtube"),
        ("https://m.YouTube.com/watch?v=A", "youtube"),
        ("https://notyoutube.com/a", "notyoutube.com"),
        (OTHER, "127.0.0.1-8000"),
        ("http://[::1]/a", "__1"),
        ("http://user:secret@host/a", "host"),
    ],
)
def test_names_of_hosts_are_names_of_files_without_secrets(url, host):
    assert host_of(url) == host


def test_pauses_lie_between_videos_of_youtube_alone(tmp_path):
    slept = []
    hosts = Hosts(tmp_path, (5.0, 6.0), slept.append)
    for url in (YOUTUBE, OTHER, OTHER, YOUTUBE):
        with hosts.turn(url):
            pass
    assert len(slept) == 1 and 4.0 < slept[0] <= 6.0  # also where another job had the turn before: the state is a file


@pytest.mark.parametrize(("url", "most"), [(YOUTUBE, 1), (OTHER, AT_A_TIME)])
def test_no_more_at_a_time_than_there_are_places(tmp_path, url, most):
    inside, seen = [], []

    def ask():
        with Hosts(tmp_path, (0.0, 0.0)).turn(url):
            inside.append(1)
            seen.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 5 and max(seen) == most


def wall(hosts, url, cause, *, is_final=False):
    with hosts.turn(url) as turn:
        turn.walled(cause, "they say", is_final=is_final)


def test_three_walls_in_a_row_stop_the_host_and_no_other(tmp_path):
    hosts = Hosts(tmp_path, (0.0, 0.0))
    for number in range(WALLS_IN_A_ROW):
        wall(hosts, YOUTUBE, "bot_wall")
        if number == 1:
            with hosts.turn(YOUTUBE):  # an answer in between counts them anew
                pass
            for _ in range(WALLS_IN_A_ROW - 1):
                wall(hosts, YOUTUBE, "bot_wall")
    with (
        pytest.raises(HostStoppedError, match="youtube is left alone: bot_wall"),
        Hosts(tmp_path, (0.0, 0.0)).turn(YOUTUBE),
    ):
        raise AssertionError("asked")
    assert len(stops(tmp_path)) == 1
    with hosts.turn(OTHER):
        pass
    begin_run(tmp_path)
    with hosts.turn(YOUTUBE):
        pass
    assert not stops(tmp_path)


def test_what_needs_mending_here_stops_at_once(tmp_path):
    hosts = Hosts(tmp_path, (0.0, 0.0))
    wall(hosts, YOUTUBE, "tool_outdated", is_final=True)
    with pytest.raises(HostStoppedError, match="tool_outdated"), hosts.turn(YOUTUBE):
        raise AssertionError("asked")


def test_a_rate_limit_lasts_its_hour_whatever_run_begins(tmp_path):
    hosts = Hosts(tmp_path, (0.0, 0.0))
    for _ in range(WALLS_IN_A_ROW):
        wall(hosts, YOUTUBE, "rate_limited")
    begin_run(tmp_path)
    with pytest.raises(HostStoppedError, match=r"until \d{4}-\d\d-\d\d \d\d:\d\d UTC"), hosts.turn(YOUTUBE):
        raise AssertionError("asked")


def test_a_spoilt_state_is_no_obstacle(tmp_path):
    (tmp_path / "youtube.json").write_text('{"walls": ')
    with Hosts(tmp_path, (0.0, 0.0)).turn(YOUTUBE):
        pass
    begin_run(tmp_path)
    assert not stops(tmp_path)
