"""Every exception the project raises on purpose, each with what to do about it.

Messages name the thing, what was expected, what was there instead, and the
remedy. ``UserError`` marks the ones a person at the command line can mend: the
entry points print those as one line and exit with code 2.
"""


class HedgestreamError(Exception):
    """Base class of the project's exceptions.

    Attributes
    ----------
    exit_code
        What a command ends with; docs/operation.md has the table.
    """

    exit_code = 1


class UserError(HedgestreamError):
    """Raised when an option, a column or a file that the user named cannot be used.

    Change what the message names and run the command again.
    """

    exit_code = 2


class InvalidParameterError(UserError, ValueError):
    """Raised when a setting is outside its range.

    Attributes
    ----------
    name : str
        The setting.
    problem : str
        The range, and the value that is outside it.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


class InvalidRowsError(HedgestreamError, ValueError):
    """Raised when an estimator is given arrays of the wrong shape, dtype or content."""


class StateError(HedgestreamError, ValueError):
    """Raised when bytes or arrays are not a state of the expected architecture.

    Load another snapshot, or start a new model in a new work directory.
    """


class CorruptStateError(StateError):
    """Raised when a state does not have the SHA-256 that its record promises.

    Nothing was loaded. Restore the file or the Redis key named in the message.
    """


class RegistryError(HedgestreamError):
    """Raised when Redis or the snapshot directory cannot do what was asked of it."""


class RegistryUnavailableError(RegistryError):
    """Raised when no connection to Redis can be made. Check the URL and the server."""


class DamagedRecordError(RegistryError):
    """Raised when a version record is not whole, or not as it was written.

    Nothing of it was believed. Restore the file or the Redis key named in the message.
    """


class StorageError(HedgestreamError):
    """Raised when a file cannot be written: a full disk, a read-only directory.

    Nothing was published. Mend what the message names and run the command again.
    """


class DamagedFileError(HedgestreamError):
    """Raised when a file of a work directory is not as it was written.

    Nothing of it was believed, and nothing was changed. Restore the file.
    """

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path} is damaged: {problem}. Restore it from a copy")


class DataLossError(HedgestreamError):
    """Raised when rows of a source were gone, or may have been, before they were read.

    Nothing was skipped. Bring them back, or go on without them with --no-fail-on-data-loss.
    """


class NewerFormatError(UserError):
    """Raised when something stored is of a format that only a newer release knows.

    Nothing was read or changed. Use that release, or begin anew in another place.
    """

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(
            f"{what} is of format {found}, written by a newer release; this one reads formats 1 "
            f"to {known}"
        )


class ModelNotFoundError(RegistryError):
    """Raised when neither Redis nor the work directory holds the model asked for."""


class VersionConflictError(RegistryError):
    """Raised when another learner published first.

    Load the current version, learn the rows again on top of it, and publish again.
    """


class StaleLearnerError(RegistryError):
    """Raised when a newer learner has taken over this query's checkpoint.

    Stop this process: the newer one carries on from the same checkpoint.
    """


class WorkdirInUseError(UserError):
    """Raised when another run is using a work directory. Wait for it, or end it."""

    exit_code = 3


class TakenOverError(HedgestreamError):
    """Raised in a run that ends because a newer one has taken its work directory over."""

    exit_code = 4


class StoppedEarlyError(HedgestreamError):
    """Raised when a run was asked to end before it had done what it was started for."""

    exit_code = 143


class TooManyDeadLettersError(HedgestreamError):
    """Raised after a run of which more rows, or labels, were of no use than it was to accept."""

    exit_code = 5


class JavaMissingError(UserError):
    """Raised when no Java 17 or newer is found: Spark cannot start without one."""


class StreamFailedError(HedgestreamError):
    """Raised when the streaming query dies of a cause that is not the project's own."""
