"""Keys: made once, replaced without a gap.

A new key goes round in three steps, and a step is taken only when every member runs the one before:

    accept   everybody signs with the old key and believes both
    send     everybody signs with the new key and believes both
    drop     the old key goes

So at no moment does a member sign with a key that another would refuse. Where the rotation stands is in the ring itself:
one key, nothing happens; two keys and the old one signs, `accept`; two keys and the new one signs, `send`. An operator
that dies between two steps goes on where it was.
"""

__all__ = ["KEY_FIELDS", "next_ring", "source_key"]

from collections.abc import Callable, Mapping
from dataclasses import replace

from carp_operator.api.group import CarpGroup
from carp_operator.api.names import key_ring_name
from carp_operator.api.reasons import Reason
from carp_protocol.auth import PASSWORD_LENGTH
from carp_protocol.config import Mode
from carp_protocol.config_reader import read_key

from .world import KeyRing, Refusal, key_number

_FIELDS = {Mode.STRICT: ("key",), Mode.COMPATIBLE: ("password", "key")}
KEY_FIELDS = frozenset({"key", "password"})
"""Entries of a user's Secret that are ever looked at."""


def source_key(group: CarpGroup, secrets: Mapping[str, Mapping[str, bytes]]) -> bytes | Refusal | None:
    """The key in the Secret that the user named, as a ring holds it; None if none is named, or why there can be no ring."""
    if (own := key_ring_name(group.name)) in secrets:
        message = f"Secret {own} is not the operator's, and the group's keys go by this name; delete it, or name the group otherwise"
        return Refusal(Reason.SECRET_TAKEN, message)
    if group.secret is None:
        return None
    secret = secrets.get(group.secret)
    if secret is None:
        return Refusal(
            Reason.SECRET_NOT_FOUND,
            f"Secret {group.secret} is not in the operator's namespace; create it there, or leave secretRef out to have a key made",
        )
    fields = _FIELDS[group.mode]
    data = next((secret[name] for name in fields if name in secret), None)
    if data is None:
        return Refusal(Reason.KEY_MISSING, f"Secret {group.secret} has no entry {' or '.join(fields)}; add it")
    try:
        key = read_key(data, group.mode)
        if group.mode is Mode.COMPATIBLE:
            _check_text(key)
    except ValueError as error:
        line = data.split(b"\n", 1)[0].strip(b"\r")
        too_long = group.mode is Mode.COMPATIBLE and len(line) > PASSWORD_LENGTH
        return Refusal(Reason.KEY_TOO_LONG if too_long else Reason.KEY_INVALID, f"Secret {group.secret}: {error}")
    return key.hex().encode() if group.mode is Mode.STRICT else key


def _check_text(password: bytes) -> None:
    """A password goes through documents on its way to the sidecar."""
    try:
        printable = "\0" not in password.decode()
    except UnicodeDecodeError:
        printable = False
    if not printable:
        raise ValueError("the password is not UTF-8 text without NUL; choose another one, or use Strict mode")


def next_ring(
    group: CarpGroup, ring: KeyRing | None, source: bytes | None, *, known: frozenset[str], settled: bool, make: Callable[[], bytes]
) -> KeyRing | None:
    """The ring after one step; None when there is nothing to do.

    ``known``: names of keys that members may still have, so that a name never stands for two keys. ``settled``: every
    member runs what the ring says now. ``make``: a new random key.
    """
    if ring is None or ring.sign not in ring.keys or ring.owner != group.uid:
        name = _new_name(known | (ring.keys.keys() if ring else frozenset()))
        return KeyRing(sign=name, keys={name: source or make()}, rotated_for=group.rotate_key, owner=group.uid)
    if len(ring.keys) == 1:
        return _begin(group, ring, source, known, make)
    if not settled:
        return None
    if ring.sign != ring.newest:
        return replace(ring, sign=ring.newest)
    return replace(ring, keys={ring.sign: ring.keys[ring.sign]})


def _begin(group: CarpGroup, ring: KeyRing, source: bytes | None, known: frozenset[str], make: Callable[[], bytes]) -> KeyRing | None:
    asked = group.rotate_key != ring.rotated_for and bool(group.rotate_key)
    changed = source is not None and source != ring.keys[ring.sign]
    if not changed and (source is not None or not asked):
        return None  # a key that the user gave is replaced by the user
    name = _new_name(known | ring.keys.keys())
    return replace(ring, keys={**ring.keys, name: source or make()}, rotated_for=group.rotate_key)


def _new_name(taken: frozenset[str] | set[str]) -> str:
    return f"key-{max(map(key_number, taken), default=0) + 1}"
