"""CrossTask: steps of tasks in videos. Files and what is not known of them: docs/sources.md, CrossTask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avpipe.sources.annotations.clips import (
    AnnotatedClip,
    Annotations,
    Misfit,
    checked,
    parsing,
    read_table,
    read_text,
    seconds,
    youtube_id,
)

EXPECTED_TASKS = "CrossTask's list of tasks (records of id, title, address, number of steps, steps, an empty line)"
EXPECTED_VIDEOS = "CrossTask's list of videos (task, video, address)"
EXPECTED_STEPS = "CrossTask's annotation of a video (step, start, end)"


@dataclass(frozen=True)
class Task:
    """A task: its title and the texts of its steps, the first of which is number 1."""

    title: str
    steps: tuple[str, ...]


def parse(folder: Path) -> Annotations:
    """A clip for each annotated step of the primary tasks' videos, named <task>_<video>_<row>.

    Args:
        folder: the unpacked crosstask_release.zip: tasks_primary.txt, videos.csv, videos_val.csv, annotations/.
    """
    tasks = read_tasks(folder / "tasks_primary.txt")
    validation = set(_videos(folder / "videos_val.csv"))
    clips: list[AnnotatedClip] = []
    without = 0
    for task, video in dict.fromkeys([*_videos(folder / "videos.csv"), *sorted(validation)]):
        if task not in tasks:
            continue  # a related task, which has no annotations
        path = folder / "annotations" / f"{task}_{video}.csv"
        if not path.is_file():
            without += 1
            continue
        subset = "validation" if (task, video) in validation else "training"
        clips += _steps(path, task, tasks[task], video, subset)
    with parsing(folder / "videos.csv", EXPECTED_VIDEOS):
        return checked(clips, [f"{without} videos have no annotation file"] if without else [])


def read_tasks(path: Path) -> dict[str, Task]:
    """Task id -> task.

    Raises:
        AvpipeError: a record is not of six lines, or its number of steps is not that of its texts.
    """
    with parsing(path, EXPECTED_TASKS):
        lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
        tasks: dict[str, Task] = {}
        for start in range(0, len(lines), 6):
            record, place = lines[start : start + 6], f"line {start + 1}"
            if len(record) < 5 or (len(record) == 6 and record[5]) or not record[0].isdigit():
                raise Misfit(f"{place} does not begin a task")
            steps = tuple(record[4].split(","))
            if record[3] != str(len(steps)):
                raise Misfit(f"the task at {place} has {len(steps)} steps and says {record[3][:20]!r}")
            tasks[record[0]] = Task(record[1], steps)
        return tasks


def _videos(path: Path) -> list[tuple[str, str]]:
    with parsing(path, EXPECTED_VIDEOS):
        rows = read_table(path, ("task", "video", "url"))
        return [(_number(row["task"], place), youtube_id(row["video"], place)) for place, row in rows]


def _number(text: str, place: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise Misfit(f"{place} has the task {text[:80]!r}, expected a number")
    return text


def _steps(path: Path, name: str, task: Task, video: str, subset: str) -> list[AnnotatedClip]:
    with parsing(path, EXPECTED_STEPS):
        clips = []
        for number, (place, row) in enumerate(read_table(path, ("step", "start", "end"))):
            step = int(_number(row["step"], place))
            if not 1 <= step <= len(task.steps):
                raise Misfit(f"{place} has the step {step}, expected 1 to {len(task.steps)}")
            clips.append(
                AnnotatedClip(
                    f"{name}_{video}_{number}",
                    video,
                    class_name=task.title,
                    subset=subset,
                    captions=(task.steps[step - 1],),
                    start_seconds=seconds(row["start"], place),
                    end_seconds=seconds(row["end"], place),
                )
            )
        return clips
