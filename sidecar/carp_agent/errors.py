"""The exceptions of carp_agent: one root, one class for each side that can be at fault.

Not those of ``carp_protocol``, whose dataclasses cost this process 1.5 MB. No text of theirs holds a key or a token.
"""

__all__ = ["AgentError", "ApiError", "BadAnswer", "BadNode", "SidecarGone", "SidecarRefused", "UsageError"]


class AgentError(Exception):
    """Root of every exception this package raises on purpose."""


class UsageError(AgentError):
    """A command line or an environment in which the agent cannot work; the text says what to give."""


class BadAnswer(AgentError):
    """Bytes of the API server, or of the sidecar, that are not an answer."""


class BadNode(AgentError):
    """A CarpNode or a Secret that cannot become a configuration; the text is a sentence for its status."""


class ApiError(AgentError):
    """The API server did not do what it was asked to.

    ``status`` is its HTTP status, or 0 when there was no answer; ``unreachable`` says that not even a connection was made.
    """

    def __init__(self, sentence: str, *, status: int = 0, unreachable: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.status = status
        self.unreachable = unreachable
        self.retry_after_s = retry_after_s


class SidecarGone(AgentError):
    """The sidecar does not answer on its control socket; the text says why, and is empty when it just does not run."""


class SidecarRefused(AgentError):
    """The sidecar answered with a refusal; ``problems`` holds its sentences."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
