from enum import StrEnum


class Answer(StrEnum):
    """How an address on a web server answers."""

    SNAPSHOT = "snapshot"
    """With one JPEG, and no more."""
    MULTIPART = "multipart"
    """With parts, JPEGs in all likelihood."""
    STREAM = "stream"
    """With anything else, or not at all: ffmpeg makes the best of it, and tells best of trouble."""
