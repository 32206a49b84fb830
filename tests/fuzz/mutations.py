"""How hypothesis bends a sample."""

__all__ = ["mutated"]

from hypothesis import strategies as st


def mutated(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """A sample with some bytes altered, cut off or added."""

    def apply(sample: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes) -> bytes:
        data = bytearray(sample)
        for at, value in changes:
            if data:
                data[at % len(data)] = value
        return bytes(data[: max(0, len(data) - cut)]) + tail

    return st.builds(
        apply,
        st.sampled_from(samples),
        st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), max_size=6),
        st.one_of(st.just(0), st.integers(0, 120)),
        st.one_of(st.just(b""), st.binary(max_size=64)),
    )
