"""Errors for users of Boat. The message names the failing thing, and `hint` names the next step."""

import signal


def ended(code: int) -> str:
    """Return how a process ended, as a text after its name.

    Args:
        code: Exit code, or 128 plus the number of the signal that ended the process, as shells return it.
    """
    try:
        name = signal.Signals(code - 128).name if code > 128 else ""
    except ValueError:
        name = ""
    if name == "SIGKILL":
        return "was ended by SIGKILL, as the system does if the memory is full"
    return f"was ended by {name}" if name else f"ended with exit code {code}"


class BoatError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: The failure, with the name of the file, table, model or endpoint.
        hint: The next step. It is printed after the message.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())

    def __reduce__(self) -> tuple[type["BoatError"], tuple[str, str]]:
        return type(self), (self.message, self.hint)  # Prefect pickles exceptions between processes


class SettingError(BoatError):
    """A setting, URL or parameter that cannot work. Never retried."""


class DataError(BoatError):
    """The data is wrong, so a second try gives the same answer. Never retried."""


class QualityError(DataError):
    """A critical expectation does not hold."""


class CheckError(BoatError):
    """A check could not run, so the data may be good or bad. May be retried."""


class TransformError(DataError):
    """A dbt node failed."""


class JobError(BoatError):
    """A job failed: a bug, a time-out or a lost host."""


class JobStoppedError(JobError):
    """A job was cancelled by its caller."""


class RetrainError(BoatError):
    """Some kinds of models have no new version. Models of the other kinds were registered."""


class ComputeError(BoatError):
    """The compute service does not answer. May be retried: a job that was submitted is found again by its key."""


class EndpointError(BoatError):
    """An endpoint refused a model, or gives a wrong answer."""


class ReleaseError(EndpointError):
    """A service rolled a new model back. Each retry would send shoppers to that model again."""


class ArtifactError(DataError):
    """A model archive or snapshot is damaged, of a foreign format, or does not match its digest."""


class RegistryError(BoatError):
    """A model version or alias does not exist."""


class RegistryUnreachableError(RegistryError):
    """The registry does not answer. May be retried: the trained model waits in the artifact store."""
