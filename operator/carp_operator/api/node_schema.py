"""The CustomResourceDefinition of CarpNode: what one node should run (spec, by the operator) and what it sees (status, by its agent)."""

__all__ = ["node_crd"]

from .names import MAX_GROUPS_OF_A_NODE
from .schema import DURATION, IP_NETWORK, Schema, boolean, definition, integer, items, record, text, time, whole

_NAME = text("Name of the CarpGroup.", longest=63, minLength=1)


def _duration(description: str) -> Schema:
    return text(description, longest=32, pattern=DURATION)


_PORT, _HOST = integer("The port.", 1, 65535), text("Where to connect.")

_HEALTH_CHECK = record(
    "A health check in the sidecar's terms.",
    {
        "name": text("Its name.", longest=63),
        "httpGet": record(
            "An HTTP request.",
            {
                "port": _PORT,
                "host": _HOST,
                "path": text("The path.", longest=1024),
                "scheme": text("HTTP or HTTPS.", longest=5),
                "headers": items(
                    "Headers.",
                    record("One header.", {"name": text("Name.", longest=256), "value": text("Value.", longest=1024)}),
                    most=16,
                ),
            },
            required=("port",),
        ),
        "tcpSocket": record("A connection.", {"port": _PORT, "host": _HOST}, required=("port",)),
        "exec": record(
            "A program.", {"command": items("Program and arguments.", text("A word.", longest=1024), most=32)}, required=("command",)
        ),
        "period": _duration("Time between two runs."),
        "timeout": _duration("Time one run may take."),
        "initialDelay": _duration("Time before the first run."),
        "successThreshold": integer("Runs in a row that must pass.", 1, 1000),
        "failureThreshold": integer("Runs in a row that must fail.", 1, 1000),
        "demotion": {
            "description": "What a failure adds to the demotion, or Exclude.",
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 7,
        },
    },
    required=("name",),
)
_AUTHENTICATION = record(
    "How adverts are signed. Keys are named, never written here.",
    {
        "mode": text("Strict or Compatible.", longest=10),
        "dialect": text("Common or OpenBSD.", longest=7),
        "secretName": text("The Secret with the key ring, in the operator's namespace."),
        "sign": text("Entry of the Secret whose key signs.", longest=63),
        "accept": items("Further entries whose keys are believed while a key is rotated.", text("An entry.", longest=63), most=8),
    },
    required=("mode", "secretName", "sign"),
)
_VERSION = text("Changes when anything in the entry changes.", longest=63)
_SPEC_GROUP = record(
    "One group, in the sidecar's terms (docs/configuration.md).",
    {
        "name": _NAME,
        "version": _VERSION,
        "vhid": integer("Virtual host ID.", 1, 255),
        "addresses": items("The virtual addresses.", text("An address.", longest=IP_NETWORK), most=32, minItems=1),
        "interface": text("Name of the interface; left out: by subnet or pattern.", longest=15),
        "interfacePattern": text("Regular expression for its name.", longest=64),
        "advskew": integer("Rank of this node: the lowest wins, 255 never becomes master.", 0, 255),
        "advertisementInterval": _duration("Time between two adverts."),
        "authentication": _AUTHENTICATION,
        "virtualMAC": boolean("Answer from 00:00:5e:00:01:VHID."),
        "preemption": record(
            "Whether to take over from a worse master.",
            {"enabled": boolean("Take over."), "delay": _duration("Not for so long after the start.")},
        ),
        "peers": record(
            "How adverts reach the others.",
            {
                "mode": text("Multicast or Unicast.", longest=9),
                "addresses": items("Unicast: the other members.", text("An address.", longest=64), most=255),
            },
        ),
        "healthChecks": whole("Health checks.", _HEALTH_CHECK, most=8),
        "suspicion": boolean("Ask a late master instead of waiting for the dead time."),
        "fence": text("Auto, Lifetime or Required.", longest=8),
        "demotion": integer("Standing demotion, such as for maintenance.", 0, 254),
        "handover": record(
            "A handover to carry out once, if this node is the master.",
            {
                "id": text("Identifies the request: it is never carried out twice.", longest=63),
                "to": text("Address of the member that should take over; left out: the best.", longest=64),
                "requestedAt": time("When it was asked for; an old request is ignored."),
            },
            required=("id", "requestedAt"),
        ),
    },
    required=("name", "vhid", "addresses", "authentication"),
)
_SPEC = record(
    "What the node should run. Written by the operator; changes by hand are undone.",
    {
        "rollCall": integer("Raised by the operator to get a fresh report.", 0, 2**53),
        "groups": whole("The groups of which this node is a member.", _SPEC_GROUP, most=MAX_GROUPS_OF_A_NODE),
    },
)

_DEMOTION = record(
    "How far the member is demoted and why.",
    {
        "total": integer("The sum.", 0, 65535),
        "excluded": boolean("Out of the election."),
        "reasons": items(
            "Parts of the sum.",
            record(
                "One part.",
                {"name": text("Whose.", longest=128), "amount": integer("How much; absent: it excludes.", 0, 65535)},
                required=("name",),
            ),
            most=32,
        ),
    },
)
_STATUS_GROUP = record(
    "One group, as this node's sidecar sees it.",
    {
        "name": _NAME,
        "version": text("Version of the entry of the spec that the sidecar runs.", longest=63),
        "vhid": integer("Virtual host ID.", 1, 255),
        "state": text("Init, Backup, Master or Handover.", longest=8, enum=["Init", "Backup", "Master", "Handover"]),
        "since": time("When it entered the state."),
        "reason": text("Why (docs/control-socket.md).", longest=64),
        "interface": text("The interface.", longest=15),
        "interfaceState": text("Up, Down or Missing.", longest=7, enum=["Up", "Down", "Missing"]),
        "source": text("The address that its adverts come from; of IPv6 mostly a link-local one.", longest=64),
        "advskew": integer("Its rank.", 0, 255),
        "demotion": _DEMOTION,
        "addresses": items(
            "The addresses, and whether the kernel holds them.",
            record(
                "One address.",
                {"address": text("The address.", longest=IP_NETWORK), "held": boolean("The kernel holds it.")},
                required=("address", "held"),
            ),
            most=32,
        ),
        "master": record(
            "The master it hears, or is.",
            {"source": text("Address its adverts come from.", longest=64), "local": boolean("It is this node.")},
        ),
        "mastersSeen": integer("Masters seen now, itself included; more than one is a split brain.", 0, 255),
        "transitions": integer("State changes since the sidecar started.", 0, 2**53),
        "splitBrains": integer("Other masters met since the sidecar started.", 0, 2**53),
        "authenticationFailed": boolean("Adverts with a wrong signature were heard during the last minute."),
        "addressConflict": record(
            "A host without CARP answered for an address during the last minute.",
            {"mac": text("Its MAC.", longest=32), "at": time("When it was seen.")},
        ),
        "healthChecks": items(
            "Health checks.",
            record(
                "One check.",
                {
                    "name": text("Its name.", longest=63),
                    "passing": boolean("Absent while it is pending."),
                    "message": text("What it said when it failed.", longest=1024),
                },
                required=("name",),
            ),
            most=8,
        ),
        "fence": record(
            "What silences the member if it hangs while it is master.",
            {
                "active": text("Gate (a lease in nftables) or Lifetime (that of its addresses).", longest=8, enum=["Gate", "Lifetime"]),
                "reason": text("Why it is not the gate.", longest=1024),
            },
            required=("active",),
        ),
        "warnings": items("What else a person should know.", text("A sentence.", longest=1024), most=16),
        "handover": record(
            "The last handover that was asked for.",
            {
                "id": text("The request.", longest=63),
                "result": text("Started or Refused.", longest=8),
                "message": text("Why it was refused.", longest=1024),
            },
        ),
    },
    required=("name", "state"),
)
_STATUS = record(
    "What the node runs and sees. Written by its agent alone, on changes.",
    {
        "observedGeneration": integer("The generation of this object that the sidecar runs.", 0, 2**53),
        "problems": items("Why a newer generation does not run.", text("A sentence.", longest=1024), most=32),
        "agent": record("The agent.", {"version": text("Its version.", longest=32)}),
        "sidecar": record(
            "The sidecar.",
            {"running": boolean("It answers."), "version": text("Its version.", longest=32), "started": time("When it started.")},
        ),
        "interfaces": whole(
            "Interfaces of the node that could carry a group.",
            record(
                "One interface.",
                {
                    "name": text("Its name.", longest=15),
                    "state": text("Up or Down.", longest=4),
                    "addresses": items("The node's own addresses on it.", text("An address.", longest=IP_NETWORK), most=64),
                },
                required=("name",),
            ),
            most=64,
        ),
        "groups": whole("The groups, as the sidecar sees them.", _STATUS_GROUP, most=MAX_GROUPS_OF_A_NODE),
    },
)
_COLUMNS: list[Schema] = [
    {"name": "Sidecar", "type": "boolean", "jsonPath": ".status.sidecar.running", "description": "The sidecar answers"},
    {"name": "Generation", "type": "integer", "jsonPath": ".metadata.generation", "description": "What should run"},
    {"name": "Running", "type": "integer", "jsonPath": ".status.observedGeneration", "description": "What runs"},
    {"name": "Version", "type": "string", "jsonPath": ".status.sidecar.version", "description": "Version of the sidecar"},
    {"name": "Problem", "type": "string", "jsonPath": ".status.problems[0]", "description": "Why the newest does not run", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def node_crd() -> Schema:
    """The definition, ready to apply."""
    schema = {
        "type": "object",
        "description": "The groups of one node: what it should run and what it sees. Made by the operator for every Node.",
        "properties": {
            "spec": _SPEC,
            "status": _STATUS,
        },
    }
    return definition("CarpNode", "carpnode", schema, _COLUMNS)
