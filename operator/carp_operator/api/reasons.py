"""Every word a user may meet in a condition or an Event, with its meaning: documentation, alerts and scripts rely on them."""

__all__ = ["ConditionType", "EventReason", "Reason"]

from enum import StrEnum


class ConditionType(StrEnum):
    """The conditions of a CarpGroup."""

    ACCEPTED = "Accepted"
    """The group can run as it is written; if not, an earlier version goes on running."""
    PROGRAMMED = "Programmed"
    """Every member's sidecar runs this version of the group."""
    READY = "Ready"
    """Exactly one master, and its kernel holds every address."""
    DEGRADED = "Degraded"
    """It works, and something wants a look before the next failure."""
    SPLIT_BRAIN = "SplitBrain"
    """More than one master at the same time."""


class Reason(StrEnum):
    """Why a condition is what it is."""

    # Accepted
    ACCEPTED = "Accepted"
    VHID_CONFLICT = "VhidConflict"
    """Another group on the same network has the VHID."""
    VHIDS_EXHAUSTED = "VhidsExhausted"
    """Every VHID of the network is taken."""
    VHID_CHANGED = "VhidChanged"
    """spec.vhid names another VHID than the one the group runs with."""
    ADDRESS_CONFLICT = "AddressConflict"
    """Another group has the address."""
    NODE_ADDRESS = "NodeAddress"
    """The address is a node's own."""
    NO_ELIGIBLE_NODE = "NoEligibleNode"
    """No node can be a member."""
    INTERFACE_NOT_FOUND = "InterfaceNotFound"
    """The selected nodes have no interface that fits."""
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105  a word, not a secret
    """authentication.secretRef names a Secret that is not there."""
    SECRET_TAKEN = "SecretTaken"  # noqa: S105
    """A Secret that is not the operator's has the name of the group's key ring."""
    KEY_MISSING = "KeyMissing"
    """The Secret has no key or password in it."""
    KEY_INVALID = "KeyInvalid"
    """What is in the Secret cannot be a key of this mode."""
    KEY_TOO_LONG = "KeyTooLong"
    """A password of more than 19 bytes."""
    INVALID = "Invalid"
    """The sidecar would refuse it."""

    # Programmed
    PROGRAMMED = "Programmed"
    NOT_ACCEPTED = "NotAccepted"
    PENDING = "Pending"
    """Some nodes do not run the newest version yet."""
    REFUSED = "Refused"
    """A sidecar refused the newest version, or its agent cannot build it."""

    # Ready
    MASTER_ELECTED = "MasterElected"
    MASTER_OUTSIDE = "MasterOutside"
    """A member that is no node of the cluster is master, such as an OpenBSD router."""
    NO_MASTER = "NoMaster"
    NO_MEMBER = "NoMember"
    ADDRESS_NOT_HELD = "AddressNotHeld"
    """The master's kernel does not hold an address."""
    SEVERAL_MASTERS = "SeveralMasters"

    # Degraded
    HEALTHY = "Healthy"
    NO_BACKUP = "NoBackup"
    MEMBER_NOT_READY = "MemberNotReady"
    ADDRESS_TAKEN = "AddressTaken"
    """A host without CARP answers for an address."""
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    """Adverts with a wrong signature were heard during the last minute."""
    HEALTH_CHECK_FAILED = "HealthCheckFailed"
    KEY_ROTATION = "KeyRotation"
    """A key is being replaced and some node has not followed yet."""

    # SplitBrain
    ONE_MASTER = "OneMaster"


class EventReason(StrEnum):
    """Reasons of Events."""

    MASTER_ELECTED = "MasterElected"
    MASTER_LOST = "MasterLost"
    HANDOVER = "Handover"
    HANDOVER_REFUSED = "HandoverRefused"
    SPLIT_BRAIN = "SplitBrain"
    SPLIT_BRAIN_HEALED = "SplitBrainHealed"
    ADDRESS_CONFLICT = "AddressConflict"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    HEALTH_CHECK_FAILED = "HealthCheckFailed"
    NOT_ACCEPTED = "NotAccepted"
    ACCEPTED = "Accepted"
    KEY_CREATED = "KeyCreated"
    KEY_ROTATED = "KeyRotated"
