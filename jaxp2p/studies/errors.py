"""What goes wrong with a study and can be put right by its user."""


class StudyError(Exception):
    """A study that cannot be opened, continued, read or run; the text says what to do."""
