"""What a program that has wishes of its own says to a type checker: never run, read by mypy."""

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import assert_type

from stillfresh import ExpiresAfter, OneDayCache, Policy, Rule


def sets_are_taken_of_every_kind() -> None:
    Policy(methods={"GET"}, statuses={200, 301}, isolate={"X-User"})
    Policy(methods=frozenset({"GET"}), statuses=frozenset({200}), isolate=frozenset())
    Policy(statuses={200: "OK", 404: "Not Found"}.keys())
    Policy(statuses=range(200, 300))
    Policy(statuses=[200, 301])
    Rule(methods={"GET"}, statuses={200}, content_types={"image/*"})
    Rule(statuses=[200, 301])
    Rule(ignore={"no-store"}, key_without=frozenset({"utm_*"}))


def what_has_an_order_is_taken_as_a_list_too() -> None:
    Policy(targets=["CDN-Cache-Control"], rules=[Rule(fresh_for=60), OneDayCache()])
    Policy(targets=("CDN-Cache-Control",), rules=(ExpiresAfter(hours=1),))


def one_is_not_several() -> None:
    Policy(methods="GET")  # type: ignore[arg-type]
    Policy(statuses=200)  # type: ignore[arg-type]
    Policy(isolate="X-User")  # type: ignore[arg-type]
    Policy(rules=Rule(fresh_for=60))  # type: ignore[arg-type]
    Rule(methods="GET")  # type: ignore[arg-type]


def of_the_wrong_kind() -> None:
    Policy(statuses={"200"})  # type: ignore[arg-type]
    Policy(rules=["never"])  # type: ignore[list-item]


def what_is_read_is_what_was_meant(policy: Policy) -> None:
    assert_type(policy.methods, AbstractSet[str])
    assert_type(policy.statuses, Collection[int] | None)
    assert_type(policy.isolate, AbstractSet[str])
    assert_type(policy.targets, Sequence[str] | None)
    assert_type(policy.rules, Sequence[Rule])
