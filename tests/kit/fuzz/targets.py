"""All targets of the fuzzing."""

from kit.fuzz import (
    answer_targets,
    index_file_targets,
    media_targets,
    settings_targets,
    sqlite_targets,
    text_targets,
    window_targets,
)

TARGETS = (
    *text_targets.TARGETS,
    *settings_targets.TARGETS,
    *sqlite_targets.TARGETS,
    *answer_targets.TARGETS,
    *media_targets.TARGETS,
    *window_targets.TARGETS,
    *index_file_targets.TARGETS,
)
