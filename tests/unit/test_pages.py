"""The pages of docs/ that are made from code say what the code says."""

import pytest

from pages import PAGES, ROOT


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == PAGES[path](), f"{path} is older than the code: run `make pages`"
