"""The CustomResourceDefinition of CarpGroup. ``kubectl explain carp.spec`` prints these descriptions: they are documentation."""

__all__ = ["group_crd"]

from .reasons import ConditionType
from .schema import (
    DURATION,
    IP_NETWORK,
    LABEL_SELECTOR,
    Schema,
    boolean,
    definition,
    integer,
    items,
    map_of,
    record,
    rule,
    text,
    time,
    whole,
)

MAX_LISTED_MEMBERS = 64
"""Members in the status; beyond that only counts, so that a group of a thousand nodes stays a small object."""

_IP_OF_SELF = "(isIP(self) ? ip(self) : cidr(self).ip())"
_ADDRESS = text(
    "An IPv4 or IPv6 address, with or without prefix length.",
    longest=IP_NETWORK,
    rules=[
        rule("isIP(self) || isCIDR(self)", "not an IP address; write it as 192.0.2.10, 192.0.2.10/24 or 2001:db8::10/64"),
        rule(
            f"!(isIP(self) || isCIDR(self)) || {_IP_OF_SELF}.isGlobalUnicast() || {_IP_OF_SELF}.isLinkLocalUnicast()",
            "a multicast, loopback, broadcast or unspecified address cannot be a virtual address",
        ),
    ],
)
_ADDRESSES = items(
    "The virtual addresses, 1 to 32, IPv4 and IPv6 mixed. They move together. The interface is found by the first address's subnet "
    "unless one is named. On the interface each gets a host prefix (/32, /128), whatever is written here.",
    _ADDRESS,
    most=32,
    minItems=1,
    rules=[
        rule(
            "self.all(a, self.exists_one(b, a.split('/')[0].lowerAscii() == b.split('/')[0].lowerAscii()))",
            "an address is listed twice; remove one",
        )
    ],
    **{"x-kubernetes-list-type": "atomic"},
)
_INTERFACE = record(
    "The network interface that carries the group. Left out: on each node the interface whose subnet holds the first address.",
    {
        "name": text("The interface's name on every node, such as eth0.", longest=15, pattern=r"^[^\s/]{1,15}$"),
        "pattern": text(
            "A regular expression for the interface's name, where nodes name it differently, such as ^en. Of several matches the "
            "one whose subnet holds the first address is taken, else the first by name.",
            longest=64,
            minLength=1,
        ),
    },
    rules=[rule("has(self.name) != has(self.pattern)", "give exactly one of name and pattern")],
)
_PRIORITIES = map_of(
    "Priorities of nodes by name: the highest wins, 0 never becomes master (advskew = 255 - priority). Nodes not named here are ranked by "
    "the operator, below those that are, in an order that differs from group to group so that masters spread over the nodes.",
    record(
        "The priority of one node.",
        {"node": text("Name of the Node.", minLength=1), "priority": integer("255 is the best; 0 never becomes master.", 0, 255)},
        required=("node", "priority"),
    ),
    keys=("node",),
    most=64,
    rules=[
        rule(
            "self.all(a, a.priority == 0 || self.exists_one(b, b.priority == a.priority))",
            "two nodes have the same priority; give each its own, so that they never take over at the same moment",
        )
    ],
)
_PREEMPTION = record(
    "Whether a better member takes the addresses from a worse master. Off, a node that comes back leaves them where they are. "
    "A member that is demoted (health check, maintenance) gives way in either case.",
    {
        "enabled": boolean("Take the addresses back.", default=False),
        "delay": text("For so long after it came up a member does not preempt.", longest=16, pattern=DURATION, default="0s"),
    },
    default={},
)
_AUTHENTICATION = record(
    "How adverts are signed.",
    {
        "mode": text(
            "Strict: HMAC-SHA-256 over everything, replays refused; every member runs kubecarp. Compatible: carp(4) as OpenBSD, FreeBSD, "
            "NetBSD and ucarp speak it, for groups with such members; SHA-1, whole seconds, and no defence against replayed or altered "
            "adverts.",
            longest=10,
            enum=["Strict", "Compatible"],
            default="Strict",
            rules=[
                rule(
                    "self == oldSelf",
                    "mode cannot change while the group runs, its members would not understand each other; "
                    "delete the group and create it anew",
                )
            ],
        ),
        "dialect": text(
            "Compatible mode: OpenBSD when every other member is OpenBSD, which compares demotion before advskew.",
            longest=7,
            enum=["Common", "OpenBSD"],
        ),
        "secretRef": record(
            "A Secret in the operator's namespace with the key: entry `key` (Strict: 32 bytes as 64 hexadecimal digits or base64) or "
            "`password` (Compatible: 1 to 19 bytes). Left out: a key is made. A changed Secret is rolled out to the members without a gap.",
            {"name": text("Name of the Secret.", minLength=1)},
            required=("name",),
        ),
    },
    default={},
    rules=[
        rule("!has(self.dialect) || self.mode == 'Compatible'", "only Compatible mode has dialects; remove dialect or set mode: Compatible")
    ],
)
_PORT = integer("The port.", 1, 65535)
_HOST = text("Where to connect; the node itself by default.", minLength=1, default="127.0.0.1")
_HEALTH_CHECK = record(
    "A check that each member runs on itself, with the fields of a Kubernetes probe. A member is demoted until its checks pass.",
    {
        "name": text("Name of the check in status and Events.", longest=63, pattern="^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$"),
        "httpGet": record(
            "Passes when the answer has a status from 200 to 399.",
            {
                "port": _PORT,
                "host": _HOST,
                "path": text("The path.", longest=1024, pattern=r"^/[^\s]*$", default="/"),
                "scheme": text("HTTP or HTTPS; certificates are not verified.", longest=5, enum=["HTTP", "HTTPS"], default="HTTP"),
                "httpHeaders": items(
                    "Headers of the request.",
                    record(
                        "One header.",
                        {
                            "name": text("Name.", longest=256, pattern=r"^[^\r\n:]+$"),
                            "value": text("Value.", longest=1024, pattern=r"^[^\r\n]*$"),
                        },
                        required=("name", "value"),
                    ),
                    most=16,
                ),
            },
            required=("port",),
        ),
        "tcpSocket": record("Passes when a connection opens.", {"port": _PORT, "host": _HOST}, required=("port",)),
        "exec": record(
            "Passes when a program, run inside the sidecar's container without a shell, ends with 0.",
            {"command": items("The program and its arguments.", text("A word.", longest=1024), most=32, minItems=1)},
            required=("command",),
        ),
        "periodSeconds": integer("Seconds between two runs.", 1, 3600, default=10),
        "timeoutSeconds": integer("Seconds one run may take.", 1, 3600, default=1),
        "initialDelaySeconds": integer("Seconds before the first run.", 0, 3600, default=0),
        "successThreshold": integer("Runs in a row that must pass.", 1, 1000, default=1),
        "failureThreshold": integer("Runs in a row that must fail.", 1, 1000, default=3),
        "onFailure": text(
            "Demote: any healthy member takes over, and if none is healthy the best keeps the addresses. Exclude: leave the election, "
            "even if then nobody has them.",
            longest=7,
            enum=["Demote", "Exclude"],
            default="Demote",
        ),
        "demotion": integer(
            "How much a failing check demotes; more weighs more. Maintenance counts 200, a cordoned node 100.", 1, 254, default=128
        ),
    },
    required=("name",),
    rules=[
        rule(
            "(has(self.httpGet) ? 1 : 0) + (has(self.tcpSocket) ? 1 : 0) + (has(self.exec) ? 1 : 0) == 1",
            "give exactly one of httpGet, tcpSocket and exec",
        )
    ],
)

_SPEC = record(
    "What should be. Only addresses is required.",
    {
        "addresses": _ADDRESSES,
        "vhid": integer(
            "The virtual host ID, unique on the network, also among VRRP routers. Left out: the lowest free one. It never changes.", 1, 255
        ),
        "interface": _INTERFACE,
        "nodeSelector": record("Which nodes are members, by their labels. Left out: every node that has the network.", LABEL_SELECTOR),
        "advertisementInterval": text(
            "Time between two adverts of the master; a dead host is detected within about three of them, mostly sooner. "
            "Strict: 10ms to 60s, 200ms when left out. Compatible: whole seconds, 1s to 254s, 1s when left out.",
            longest=16,
            pattern=DURATION,
        ),
        "priorities": _PRIORITIES,
        "preemption": _PREEMPTION,
        "authentication": _AUTHENTICATION,
        "virtualMAC": boolean(
            "Answer from the MAC 00:00:5e:00:01:VHID, so that clients' ARP caches stay right when the master changes. false: the "
            "interface's own MAC and gratuitous ARP, for hypervisors and switches that refuse a second MAC.",
            default=True,
        ),
        "peers": record(
            "How adverts reach the other members.",
            {
                "mode": text(
                    "Multicast: 224.0.0.18 and ff02::12. Unicast: to every other member, whose addresses the operator fills in; "
                    "for networks that filter multicast.",
                    longest=9,
                    enum=["Multicast", "Unicast"],
                    default="Multicast",
                )
            },
            default={},
        ),
        "healthChecks": map_of("Checks that decide how fit a member is.", _HEALTH_CHECK, keys=("name",), most=8),
        "suspicion": boolean(
            "Ask a master whose advert is late instead of waiting for the whole dead time. Default: on in Strict mode, off in Compatible."
        ),
        "fence": text(
            "What silences a master that hangs. Auto: a lease in nftables that ends before a successor speaks, where the node's kernel has "
            "nftables and the interval is at least 50ms; else the lifetime of the addresses, 2 to 3 seconds. Lifetime: that alone. "
            "Required: nodes that cannot have the lease do not become master.",
            longest=8,
            enum=["Auto", "Lifetime", "Required"],
            default="Auto",
        ),
        "onCordon": text(
            "What a cordoned or draining node does: HandOver gives its addresses to another member without loss, Keep lets it go on.",
            longest=8,
            enum=["HandOver", "Keep"],
            default="HandOver",
        ),
    },
    required=("addresses",),
    rules=[
        rule(
            "self.fence != 'Required' || !has(self.advertisementInterval) || duration(self.advertisementInterval) >= duration('50ms')",
            "fence: Required needs an advertisementInterval of at least 50ms; lengthen it, or write Auto",
        ),
        rule(
            "!has(oldSelf.vhid) || (has(self.vhid) && self.vhid == oldSelf.vhid)",
            "vhid cannot change once it is set; delete the group and create it anew",
        ),
        rule(
            "self.authentication.mode != 'Strict' || !has(self.advertisementInterval) || "
            "(duration(self.advertisementInterval) >= duration('10ms') && duration(self.advertisementInterval) <= duration('60s'))",
            "advertisementInterval is outside 10ms to 60s, the range of Strict mode",
        ),
        rule(
            "self.authentication.mode != 'Compatible' || !has(self.advertisementInterval) || "
            "(duration(self.advertisementInterval).getMilliseconds() % 1000 == 0 && "
            "duration(self.advertisementInterval) >= duration('1s') && duration(self.advertisementInterval) <= duration('254s'))",
            "Compatible mode knows whole seconds from 1s to 254s only; use Strict mode for others",
        ),
    ],
)

_MEMBER = record(
    "One member, as it sees itself.",
    {
        "node": text("Name of the Node."),
        "state": text(
            "Master, Backup, Handover (has bowed out and still answers), Init, or Unknown when its agent does not report.", longest=8
        ),
        "ready": boolean("It could have the addresses now."),
        "priority": integer("255 - advskew.", 0, 255),
        "advskew": integer("Its rank: the lowest wins.", 0, 255),
        "demotion": integer("How far it is demoted; the least demoted wins before the rank counts.", 0, 65535),
        "interface": text("Where it runs.", longest=15),
        "since": time("When it entered the state."),
        "reason": text("Why it is in the state, or why it is not ready.", longest=64),
        "message": text("The same as a sentence.", longest=512),
    },
    required=("node", "state"),
)
_CONDITION = record(
    "One condition.",
    {
        "type": text("Its name.", longest=32, enum=[str(kind) for kind in ConditionType]),
        "status": text("True or False.", longest=7, enum=["True", "False", "Unknown"]),
        "observedGeneration": integer("The generation of the group it speaks of.", 0, 2**53),
        "lastTransitionTime": time("When status last changed."),
        "reason": text("One word for programs.", longest=64),
        "message": text("A sentence for people.", longest=1024),
    },
    required=("type", "status", "lastTransitionTime", "reason", "message"),
)
_STATUS = record(
    "What is, as the nodes report it.",
    {
        "observedGeneration": integer("The newest generation the operator has seen.", 0, 2**53),
        "vhid": integer("The VHID the group runs with; it stays the group's own while no node can run it.", 1, 255),
        "interval": text("The advertisement interval it runs with.", longest=32),
        "addresses": items(
            "The addresses it runs with: those of the last accepted version.", text("An address.", longest=IP_NETWORK), most=32
        ),
        "master": record(
            "Who has the addresses.",
            {"node": text("Name of the Node."), "since": time("Since when."), "interface": text("On which interface.", longest=15)},
            required=("node",),
        ),
        "next": text("The member that takes over if the master dies now."),
        "transitions": integer("How often the master changed.", 0, 2**53),
        "memberCount": integer("How many nodes are members.", 0, 65535),
        "readyCount": integer("How many of them could have the addresses now.", 0, 65535),
        "summary": record(
            "Short texts for the columns of kubectl get.",
            {
                "addresses": text("The addresses, shortened.", longest=128),
                "members": text("Ready and all members, such as 2/3.", longest=16),
            },
        ),
        "members": whole("The members, best rank first; at most 64 are listed.", _MEMBER, most=MAX_LISTED_MEMBERS),
        "conditions": map_of("Accepted, Programmed, Ready, Degraded, SplitBrain.", _CONDITION, keys=("type",), most=8),
    },
)


def _ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


_COLUMNS: list[Schema] = [
    {"name": "VHID", "type": "integer", "jsonPath": ".status.vhid", "description": "Virtual host ID"},
    {"name": "Addresses", "type": "string", "jsonPath": ".status.summary.addresses", "description": "The virtual addresses"},
    {"name": "Master", "type": "string", "jsonPath": ".status.master.node", "description": "The node that has the addresses"},
    {"name": "Ready", "type": "string", "jsonPath": _ready("status"), "description": "Exactly one master, and it holds every address"},
    {"name": "Members", "type": "string", "jsonPath": ".status.summary.members", "description": "Ready and all members"},
    {"name": "Transitions", "type": "integer", "jsonPath": ".status.transitions", "description": "How often the master changed"},
    {"name": "Since", "type": "date", "jsonPath": ".status.master.since", "description": "Since when the master has them", "priority": 1},
    {"name": "Next", "type": "string", "jsonPath": ".status.next", "description": "Who takes over if the master dies now", "priority": 1},
    {"name": "Interval", "type": "string", "jsonPath": ".status.interval", "description": "Between two adverts", "priority": 1},
    {"name": "Mode", "type": "string", "jsonPath": ".spec.authentication.mode", "description": "Strict or Compatible", "priority": 1},
    {"name": "Reason", "type": "string", "jsonPath": _ready("reason"), "description": "Why it is ready or not", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def group_crd() -> Schema:
    """The definition, ready to apply."""
    schema = {
        "type": "object",
        "description": "Virtual IP addresses that one node has at a time; the nodes elect it among themselves, on the wire, with CARP.",
        "required": ["spec"],
        "properties": {
            "spec": _SPEC,
            "status": _STATUS,
        },
        "x-kubernetes-validations": [
            rule("self.metadata.name.size() <= 63", "the name has more than 63 characters; choose a shorter one"),
            rule(
                "!has(self.spec.vhid) || !has(self.status) || !has(self.status.vhid) || self.spec.vhid == self.status.vhid",
                "the group already runs with another VHID (status.vhid), which cannot change; delete the group and create it anew",
            ),
        ],
    }
    return definition("CarpGroup", "carp", schema, _COLUMNS)
