"""Reads the health checks of a group: the fields of a Kubernetes probe, and what a failure costs."""

__all__ = ["read_health_checks"]

from collections.abc import Callable

from .config import Exec, HealthCheck, HttpGet, TcpSocket
from .fields import Fields

_ACTIONS = ("http_get", "tcp_socket", "exec")
_EXCLUDE = "Exclude"


def read_health_checks(group: Fields) -> tuple[HealthCheck, ...]:
    checks = []
    for index, table in enumerate(group.tables("health_checks")):
        fields = Fields(table, f"{group.place}.health_checks[{index}]", group.problems)
        checks.append(_read_check(fields))
        if checks[-1].name in [check.name for check in checks[:-1]]:
            fields.problem("name", f"{checks[-1].name!r} is the name of another check of this group; names must differ")
    return tuple(checks)


def _read_check(fields: Fields) -> HealthCheck:
    check = HealthCheck(
        name=fields.name("name"),
        action=_read_action(fields),
        period_s=fields.duration_s("period", HealthCheck.period_s),
        timeout_s=fields.duration_s("timeout", HealthCheck.timeout_s),
        initial_delay_s=fields.duration_s("initial_delay", HealthCheck.initial_delay_s),
        success_threshold=fields.integer("success_threshold", HealthCheck.success_threshold, 1, 1000),
        failure_threshold=fields.integer("failure_threshold", HealthCheck.failure_threshold, 1, 1000),
        demotion=_read_demotion(fields),
    )
    for key, value in (("period", check.period_s), ("timeout", check.timeout_s)):
        if value < 0.01:
            fields.problem(key, f"{value:g}s is too short; give at least 10ms")
    fields.refuse_unknown()
    return check


def _read_action(fields: Fields) -> HttpGet | TcpSocket | Exec:
    given = [action for action in _ACTIONS if fields.has(action)]
    if len(given) != 1:
        fields.problem("", f"{len(given)} actions are given; give exactly one of {', '.join(_ACTIONS)}")
    action = fields.table(given[0]) if given else fields.table(_ACTIONS[1])
    fields.ignore(*given)
    result = _READERS[given[0]](action) if given else TcpSocket(port=1)
    action.refuse_unknown()
    return result


def _read_http_get(fields: Fields) -> HttpGet:
    path = fields.text("path", HttpGet.path)
    if not path.startswith("/") or any(ord(char) <= 32 or ord(char) == 127 for char in path):
        fields.problem("path", f"{path!r} must begin with / and hold no spaces")
    return HttpGet(
        port=fields.integer("port", None, 1, 65535),
        host=fields.text("host", HttpGet.host),
        path=path,
        scheme=fields.choice("scheme", HttpGet.scheme, ("HTTP", "HTTPS")),
        headers=tuple(_read_headers(fields)),
    )


def _read_headers(fields: Fields) -> list[tuple[str, str]]:
    headers = []
    for index, table in enumerate(fields.tables("headers")):
        header = Fields(table, f"{fields.place}.headers[{index}]", fields.problems)
        name, value = header.text("name", ""), header.text("value", "")
        if not name or any(char in name + value for char in "\r\n"):
            header.problem("name", "a header needs a name and no line breaks")
        headers.append((name, value))
        header.refuse_unknown()
    return headers


def _read_tcp_socket(fields: Fields) -> TcpSocket:
    return TcpSocket(port=fields.integer("port", None, 1, 65535), host=fields.text("host", TcpSocket.host))


def _read_exec(fields: Fields) -> Exec:
    command = fields.texts("command")
    if not command:
        fields.problem("command", 'is empty; give a program and its arguments, such as ["/usr/bin/pg_isready", "-q"]')
    return Exec(command=command)


_READERS: dict[str, Callable[[Fields], HttpGet | TcpSocket | Exec]] = {
    "http_get": _read_http_get,
    "tcp_socket": _read_tcp_socket,
    "exec": _read_exec,
}


def _read_demotion(fields: Fields) -> int | None:
    """``Exclude`` takes the group out of the election; a number is added to its demotion."""
    if fields.is_text("demotion"):
        fields.choice("demotion", _EXCLUDE, [_EXCLUDE])
        return None
    return fields.integer("demotion", HealthCheck.demotion, 1, 254)
