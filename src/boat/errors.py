"""The errors a user of Boat meets. Each names the failing thing and, in `hint`, the next step."""


class BoatError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What failed, with the name of the file, table, model or endpoint.
        hint: What to do next; printed after the message.
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
    """A check could not run: nothing is known about the data. May be retried."""


class TransformError(DataError):
    """A dbt node failed."""


class JobError(BoatError):
    """A job ended badly: bug in it, time-out or lost host."""


class JobStoppedError(JobError):
    """A job was ended because its caller wants it no more."""


class ComputeError(BoatError):
    """The place where jobs run does not answer. May be retried: a job that it took is found again."""


class EndpointError(BoatError):
    """An endpoint did not take a model, or answers wrongly."""


class ReleaseError(EndpointError):
    """A service took a model and went back to the one before. Each further try sends shoppers to it again."""


class ArtifactError(DataError):
    """A model archive or snapshot is damaged, foreign or not what its digest says."""


class RegistryError(BoatError):
    """A model version or alias that is not there."""


class RegistryUnreachableError(RegistryError):
    """The registry does not answer. May be retried: nothing trained is lost, it waits in the artifact store."""
