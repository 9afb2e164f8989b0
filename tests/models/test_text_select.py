"""Of a long encoded text the transformer sees BOS and the last tokens."""

import pytest

from sana_wm.errors import InputError
from sana_wm.models.text_select import text_padded_length, text_token_positions


@pytest.mark.parametrize(("n_prefix", "max_tokens"), [(1, 2), (2, 2), (10, 20), (150, 300), (1, 300)])
def test_bos_and_the_last_tokens_are_kept_and_no_other(n_prefix: int, max_tokens: int) -> None:
    length = text_padded_length(n_prefix, max_tokens)
    expected = [0, *range(length - max_tokens + 1, length)]
    assert text_token_positions(n_prefix, max_tokens).tolist() == expected
    assert expected[1] == n_prefix - 1


def test_a_prefix_without_bos_is_refused() -> None:
    with pytest.raises(InputError):
        text_token_positions(0)
