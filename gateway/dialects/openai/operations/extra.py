"""Families that are served where `surface.extra` names them.

The gateway cannot see what they cost.
"""

from __future__ import annotations

from functools import partial

from gateway.dialects.base import ListRules
from gateway.dialects.openai.operations.parts import ANYTHING, BINARY, FORM, kept, makes, positions
from gateway.dialects.openai.operations.positions import DATA_SOURCE_PINS
from gateway.dialects.references import Position

_video = partial(kept, family="videos")
_container = partial(kept, family="containers")
_skill = partial(kept, family="skills")
_VIDEO, _CHARACTER = makes("video"), makes("video.character")
_CONTAINER, _SKILL = makes("container"), makes("skill")


def _list_of(kind: str, *filters: str, newest_first: bool = True, unfinished: tuple[str, ...] | None = ()) -> ListRules:
    return ListRules(kind=kind, most=100, usual=20, newest_first=newest_first, filters=filters, unfinished=unfinished)


VIDEO_ROWS = (
    _video("GET", "/videos", "The caller's videos", lists=_list_of("video", unfinished=("queued", "in_progress"))),
    _video(
        "POST",
        "/videos",
        "Make a video",
        body=FORM,
        example={"prompt": "A lighthouse", "model": "filmer"},
        model="names",
        pins=positions(file=("input_reference.file_id",), video__character=("characters[].id",)),
        learns=_VIDEO,
    ),
    _video("POST", "/videos/characters", "Make a character", body=FORM, learns=_CHARACTER),
    _video("GET", "/videos/characters/{character_id}", "A character", learns=_CHARACTER),
    _video("POST", "/videos/edits", "Change a video", body=FORM, pins=positions(video=("video.id",)), learns=_VIDEO),
    _video(
        "POST",
        "/videos/extensions",
        "Lengthen a video",
        body=FORM,
        pins=positions(video=("video.id",)),
        learns=_VIDEO,
    ),
    _video("GET", "/videos/{video_id}", "A video", learns=_VIDEO),
    _video("DELETE", "/videos/{video_id}", "Delete a video", deletes=True),
    _video("GET", "/videos/{video_id}/content", "A video's film", media=(BINARY, ANYTHING)),
    _video("POST", "/videos/{video_id}/remix", "A video made anew", example={"prompt": "At dusk"}, learns=_VIDEO),
)
CONTAINER_ROWS = (
    _container("GET", "/containers", "The caller's containers", lists=_list_of("container", "name", unfinished=None)),
    _container(
        "POST",
        "/containers",
        "Make a container",
        example={"name": "workshop"},
        pins=positions(file=("file_ids[]",), skill=("skills[].skill_id",)),
        learns=_CONTAINER,
    ),
    _container("GET", "/containers/{container_id}", "A container", learns=_CONTAINER),
    _container("DELETE", "/containers/{container_id}", "Delete a container", deletes=True),
    _container("GET", "/containers/{container_id}/files", "The files of a container"),
    _container(
        "POST",
        "/containers/{container_id}/files",
        "Put a file into a container",
        body=FORM,
        pins=positions(file=("file_id",)),
    ),
    _container("GET", "/containers/{container_id}/files/{file_id}", "A file of a container"),
    _container("DELETE", "/containers/{container_id}/files/{file_id}", "Delete a file of a container"),
    _container("GET", "/containers/{container_id}/files/{file_id}/content", "What it holds", media=(BINARY, ANYTHING)),
)
SKILL_ROWS = (
    _skill("GET", "/skills", "The caller's skills", lists=_list_of("skill")),
    _skill("POST", "/skills", "Make a skill", body=FORM, learns=_SKILL),
    _skill("GET", "/skills/{skill_id}", "A skill", learns=_SKILL),
    _skill("POST", "/skills/{skill_id}", "Change a skill", example={"default_version": "2"}, learns=_SKILL),
    _skill("DELETE", "/skills/{skill_id}", "Delete a skill", deletes=True),
    _skill("GET", "/skills/{skill_id}/content", "What a skill holds", media=(BINARY, ANYTHING)),
    _skill("GET", "/skills/{skill_id}/versions", "The versions of a skill"),
    _skill("POST", "/skills/{skill_id}/versions", "Add a version to a skill", body=FORM),
    _skill("GET", "/skills/{skill_id}/versions/{version}", "A version of a skill"),
    _skill("DELETE", "/skills/{skill_id}/versions/{version}", "Delete a version of a skill"),
    _skill("GET", "/skills/{skill_id}/versions/{version}/content", "What it holds", media=(BINARY, ANYTHING)),
)

_eval = partial(kept, family="evals")
_tuning = partial(kept, family="fine_tuning")
_EVAL = makes("eval")
_JOB = makes(
    "fine_tuning.job", Position("fine_tuned_model", "fine_tuning.checkpoint"), Position("result_files[]", "file")
)
_RUN, _PERMISSIONS = "/evals/{eval_id}/runs", "/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"
_SOURCE = {"type": "jsonl", "source": {"type": "file_id", "id": "file-abc"}}
_NEW_EVAL = {"data_source_config": {"type": "logs"}, "testing_criteria": []}
_UNFINISHED_JOB = ("validating_files", "queued", "running", "paused")

EVAL_ROWS = (
    _eval("GET", "/evals", "The caller's evals", lists=_list_of("eval", newest_first=False)),
    _eval("POST", "/evals", "Make an eval", example=_NEW_EVAL, learns=_EVAL),
    _eval("GET", "/evals/{eval_id}", "An eval", learns=_EVAL),
    _eval("POST", "/evals/{eval_id}", "Change an eval", example={"name": "second"}, learns=_EVAL),
    _eval("DELETE", "/evals/{eval_id}", "Delete an eval", deletes=True),
    _eval("GET", _RUN, "The runs of an eval"),
    _eval("POST", _RUN, "Run an eval", example={"data_source": _SOURCE}, pins=DATA_SOURCE_PINS),
    _eval("GET", f"{_RUN}/{{run_id}}", "A run of an eval"),
    _eval("POST", f"{_RUN}/{{run_id}}", "Cancel a run of an eval"),
    _eval("POST", f"{_RUN}/{{run_id}}/cancel", "Cancel a run of an eval"),
    _eval("DELETE", f"{_RUN}/{{run_id}}", "Delete a run of an eval"),
    _eval("GET", f"{_RUN}/{{run_id}}/output_items", "What a run came to"),
    _eval("GET", f"{_RUN}/{{run_id}}/output_items/{{output_item_id}}", "One item of it"),
)
TUNING_ROWS = (
    _tuning(
        "GET",
        "/fine_tuning/jobs",
        "The caller's fine-tuning jobs",
        lists=_list_of("fine_tuning.job", "metadata", unfinished=_UNFINISHED_JOB),
    ),
    _tuning(
        "POST",
        "/fine_tuning/jobs",
        "Tune a model",
        example={"model": "gpt-4o", "training_file": "file-abc"},
        model="names",
        pins=positions(file=("training_file", "validation_file")),
        learns=_JOB,
    ),
    _tuning("GET", "/fine_tuning/jobs/{fine_tuning_job_id}", "A fine-tuning job", learns=_JOB),
    *(
        _tuning("POST", f"/fine_tuning/jobs/{{fine_tuning_job_id}}/{verb}", f"{verb.capitalize()} it", learns=_JOB)
        for verb in ("cancel", "pause", "resume")
    ),
    _tuning("GET", "/fine_tuning/jobs/{fine_tuning_job_id}/events", "What happened to it"),
    _tuning(
        "GET",
        "/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints",
        "The models that it has come to",
        learns=makes("item", Position("data[].fine_tuned_model_checkpoint", "fine_tuning.checkpoint")),
    ),
    _tuning("GET", _PERMISSIONS, "Who may use a tuned model"),
    _tuning("POST", _PERMISSIONS, "Let projects use a tuned model", example={"project_ids": ["proj_abc"]}),
    _tuning("DELETE", f"{_PERMISSIONS}/{{permission_id}}", "Let them no longer"),
    _tuning("POST", "/fine_tuning/alpha/graders/run", "Try a grader", example={"grader": {}, "model_sample": "yes"}),
    _tuning("POST", "/fine_tuning/alpha/graders/validate", "Check a grader", example={"grader": {}}),
)
