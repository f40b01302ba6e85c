import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.retention import KEEP_FOREVER, Retention
from services.common.storage.s3_lifecycle import Rule, clashes, faces_prefix, is_kept, plan_rules, rules_for

MONTH = Retention(30)
FOREIGN: Rule = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}


def test_a_rule_is_for_faces_under_the_prefix_alone() -> None:
    assert faces_prefix("home/front") == "home/front/dt="
    assert faces_prefix("") == "dt="
    rule, index = rules_for("home", MONTH, is_versioned=False)
    assert rule["Filter"] == {"Prefix": "home/dt="}
    assert index["Filter"] == {"Prefix": "home/index/dt="}
    assert rule["Expiration"] == {"Days": 30}


def test_where_versions_are_kept_they_and_the_marks_of_deletions_go_too() -> None:
    faces, versions, _index, _index_versions = rules_for("home", MONTH, is_versioned=True)
    assert faces["Expiration"] == {"Days": 30}
    assert versions["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert versions["Expiration"] == {"ExpiredObjectDeleteMarker": True}


def test_two_prefixes_of_one_bucket_have_rules_of_their_own() -> None:
    first, second = (rules_for(prefix, MONTH, is_versioned=True) for prefix in ("a", "b"))
    both = plan_rules([*first, FOREIGN], second, "b")
    assert both.foreign == (*first, FOREIGN)
    assert both.rules == [*first, FOREIGN, *second]


def test_rules_that_say_the_same_in_other_words_are_as_they_should_be() -> None:
    ours = rules_for("home", MONTH, is_versioned=True)
    echoed: list[Any] = copy.deepcopy(list(ours))
    echoed[0]["Expiration"]["ExpiredObjectDeleteMarker"] = False
    echoed[1] = {**echoed[1], "Prefix": "home/dt=", "Filter": {}}
    assert plan_rules(echoed[::-1], ours, "home").is_so


@pytest.mark.parametrize(
    "change",
    [
        {"Status": "Disabled"},
        {"Expiration": {"Days": 31}},
        {"Filter": {"Prefix": "home/"}},
        {"Expiration": {}},
    ],
)
def test_a_rule_of_ours_that_says_something_else_is_noticed(change: dict[str, Any]) -> None:
    ours = rules_for("home", MONTH, is_versioned=False)
    assert plan_rules(ours, ours, "home").is_so
    assert not plan_rules([{**ours[0], **change}, *ours[1:]], ours, "home").is_so
    assert not plan_rules([], ours, "home").is_so


def test_forever_takes_ours_away_and_leaves_the_others() -> None:
    before = [*rules_for("home", MONTH, is_versioned=True), FOREIGN]
    target = plan_rules(before, rules_for("home", KEEP_FOREVER, is_versioned=True), "home")
    assert not target.is_so
    assert target.rules == [FOREIGN]


@given(st.permutations([FOREIGN, {"ID": "b", "Status": "Disabled", "Prefix": ""}, {"Status": "Enabled"}]))
def test_rules_of_others_are_the_same_in_any_order_and_no_others_are(rules: list[Rule]) -> None:
    assert is_kept(rules, rules[::-1])
    assert not is_kept(rules, rules[1:])
    assert not is_kept(rules, [{**rules[0], "Status": "Other"}, *rules[1:]])


def test_others_rules_that_reach_our_faces_are_told_of() -> None:
    everything: Rule = {"ID": "all", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 7}}
    cold: Rule = {"ID": "cold", "Status": "Enabled", "Prefix": "home/dt=2026", "Transitions": [{"Days": 1}]}
    dated: Rule = {"ID": "end", "Status": "Enabled", "Prefix": "ho", "Expiration": {"Date": "2027-01-01"}}
    assert [each.partition(":")[0] for each in clashes([everything, cold, dated], "home", MONTH)] == [
        "all",
        "cold",
        "end",
    ]
    later = {**everything, "Expiration": {"Days": 30}}
    disabled = {**everything, "Status": "Disabled"}
    assert clashes([FOREIGN, later, disabled], "home", MONTH) == []
    assert clashes([later], "home", KEEP_FOREVER)
