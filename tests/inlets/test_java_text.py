"""Java's text of maps, read back as far as that is honest."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.core.masking import is_secret
from embarc.inlets.java_text import object_of
from embarc.testing.fineract import java


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ("{name=Acme, officeId=1.0}", {"name": "Acme", "officeId": 1.0}),
        ("{a={b={c=x}}, d=[1.0, 2.0], e=[]}", {"a": {"b": {"c": "x"}}, "d": [1.0, 2.0], "e": []}),
        ("{a=true, b=false, c=null, d=}", {"a": True, "b": False, "c": None, "d": ""}),
        ("{a=1, b=007.5, c=1,000.00}", {"a": "1", "b": "007.5", "c": "1,000.00"}),
        ("{a=-1.5E-7}", {"a": -1.5e-7}),
        ("{submittedOnDate=13 October 2025}", {"submittedOnDate": "13 October 2025"}),
        ("{[{a=1.0}]}", None),
        ("{name=Acme, Inc}", None),
        ("{note=a=b}", None),
        ("{note=a{b}", None),
        ("{note=[x}", None),
        ("{a=1.0, a=2.0}", None),
        ("{a=1.0}}", None),
        ("{a=1.0", None),
        ("", None),
        ("plain", None),
        ("{a=" * 40 + "}" * 40, None),
    ],
)
def test_what_can_be_read_is_read_and_the_rest_is_kept(text: str, value: Any) -> None:
    assert json.loads(object_of(text)) == ({"unparsed": text} if value is None else value)


def test_the_text_of_numbers_stays() -> None:
    assert object_of("{a=1.0E7, b=10.10}") == '{"a":1.0E7,"b":10.10}'


@pytest.mark.parametrize("key", ["password", "repeatPassword", "Token", "api_key"])
def test_after_a_secrets_key_nothing_is_kept(key: str) -> None:
    written = object_of(f"{{username=sam, {key}=hunter, two=2, officeId=1.0}}")

    assert json.loads(written) == {"unparsed": f"{{username=sam, {key}=****"}


_NAMES = st.from_regex(r"[a-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not is_secret(name))
_LOOKS_LIKE_ANOTHER = re.compile(r"-?[0-9.]+(E-?[0-9]+)?|true|false|null")
_SCALARS = st.one_of(
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="{}[]=,"), max_size=12).filter(
        lambda text: not _LOOKS_LIKE_ANOTHER.fullmatch(text)
    ),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3)
)


@given(st.dictionaries(_NAMES, _VALUES, max_size=4))
def test_maps_whose_strings_have_no_marks_come_back(value: dict[str, Any]) -> None:
    # A list of one empty string is written like an empty list.
    written = object_of(java(value))

    assert json.loads(written) == json.loads(json.dumps(value).replace('[""]', "[]"))


@given(st.text())
def test_any_text_becomes_a_json_object(text: str) -> None:
    assert isinstance(json.loads(object_of(text)), dict)
