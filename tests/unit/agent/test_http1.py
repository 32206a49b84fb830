"""HTTP/1.1 out of bytes: however they are cut, and whatever they are."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_agent.errors import BadAnswer
from carp_agent.http1 import Answer, request_bytes
from unit.agent.tls_server import answer, chunked

CHUNKED = chunked(b"hello ", b"world")


def read(*pieces: bytes, end: bool = False) -> tuple[Answer, bytes]:
    """An answer fed with pieces, and its body."""
    found = Answer()
    body = b"".join(found.feed_untrusted(piece) for piece in pieces if piece)
    if end:
        found.end_untrusted()
    return found, body


def test_request_has_length_and_host() -> None:
    text = request_bytes("PATCH", "/x?y=1", "[::1]:6443", {"Accept": "a"}, b"{}").decode()
    assert text == "PATCH /x?y=1 HTTP/1.1\r\nHost: [::1]:6443\r\nAccept: a\r\nContent-Length: 2\r\n\r\n{}"
    assert b"Content-Length" not in request_bytes("GET", "/", "h", {})


def test_length() -> None:
    found, body = read(answer(b"hello", 201, X_Y="z"))
    assert (found.status, body, found.done, found.keep_alive) == (201, b"hello", True, True)
    assert found.headers["x-y"] == "z"


def test_chunks_with_extension_and_trailer() -> None:
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5;x=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
    found, body = read(raw)
    assert (body, found.done, found.keep_alive) == (b"hello", True, True)


def test_until_close() -> None:
    found, body = read(b"HTTP/1.0 200 OK\r\n\r\nhel", b"lo", end=True)
    assert (body, found.done, found.keep_alive) == (b"hello", True, False)


@pytest.mark.parametrize("status", [204, 304])
def test_no_body(status: int) -> None:
    found, body = read(f"HTTP/1.1 {status} No\r\n\r\n".encode())
    assert (found.done, body) == (True, b"")


def test_interim_answers_are_skipped() -> None:
    found, body = read(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"x"))
    assert (found.status, body) == (200, b"x")


def test_connection_close_is_respected() -> None:
    assert not read(answer(Connection="close"))[0].keep_alive


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "no name"),
        (b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "no name"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999\r\n\r\n", "not a number"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "nobody asked for"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", "nobody asked for"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", "size of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n", "longer than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 1024, "too long"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000, "too long"),
        (answer(b"x") + b"HTTP/1.1 200 OK\r\n", "after the end"),
    ],
)
def test_what_is_no_answer(raw: bytes, words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        read(raw)


@pytest.mark.parametrize(
    "raw, words",
    [(b"", "was closed"), (b"HTTP/1.1 200", "was closed"), (CHUNKED[:-1], "in the middle"), (answer(b"x")[:-1], "in the middle")],
)
def test_a_connection_that_ends_too_early(raw: bytes, words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        read(raw, end=True)


def test_nothing_follows_the_end() -> None:
    found, _ = read(answer(b"x"))
    with pytest.raises(BadAnswer, match="after the end"):
        found.feed_untrusted(b"y")


@given(st.sampled_from([CHUNKED, answer(b"hello world")]), st.lists(st.integers(0, 200)))
def test_cuts_do_not_matter(raw: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    found, body = read(*(raw[a:b] for a, b in itertools.pairwise(places)))
    assert (body, found.done) == (b"hello world", True)


@given(
    st.lists(
        st.one_of(st.binary(max_size=50), st.sampled_from([b"\r\n", b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\n"]))
    )
)
def test_anything_else_is_a_bad_answer_and_nothing_worse(pieces: list[bytes]) -> None:
    found = Answer()
    try:
        for piece in pieces:
            found.feed_untrusted(piece)
        found.end_untrusted()
    except BadAnswer:
        return
    assert found.done
