"""What is raised where something cannot be done: refusals that say why, and what to do."""


class FslabError(ValueError):
    """A refusal: the message says what was given, what was expected and what to do."""


class FslabWarning(RuntimeWarning):
    """What is done all the same, and not as asked: the command line says it in one sentence.

    All of fslab's warnings are of this kind. `logging.captureWarnings(True)` sends them, as any of
    Python's, to the logger "py.warnings".
    """


class OutOfMemory(FslabError):
    """One picture for which memory ran out."""


class Unwritable(FslabError):
    """A place that takes no files: every picture's would be refused."""
