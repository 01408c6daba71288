"""What every client of the cache does, as tests to inherit.

A test module says how its client is driven, and inherits the rest:

    class TestRequests(ClientBehaviours):
        def make_client(self, cache, *, policy, hook, clock):
            return RequestsDriver(CachedSession(cache, policy=policy, hook=hook, clock=clock))

All of it runs against a real HTTP/1.1 server and a clock that a test moves. What is particular to
one client stands in that client's own module.
"""

from tests.clients.behaviours.answering import (
    Answering,
    CallersOwn,
    Garbage,
    RequestDirectives,
)
from tests.clients.behaviours.bodies import (
    Bodies,
    BrokenBodies,
    HeaderFields,
    ManyAtOnce,
    TwoClients,
    Uploads,
)
from tests.clients.behaviours.collapsing import Collapsing, OneThread
from tests.clients.behaviours.conditions import Conditions
from tests.clients.behaviours.failures import Damage, Failures
from tests.clients.behaviours.parts import Ranges, Resuming
from tests.clients.behaviours.places import Groups, Rules, Searches
from tests.clients.behaviours.stale import IfError, Refreshing
from tests.clients.behaviours.suite import Answer, Driver, Head, Stream
from tests.clients.behaviours.telling import Telling
from tests.clients.behaviours.users import Secrets, Traces, Users
from tests.clients.behaviours.validating import Heads, Validating
from tests.clients.behaviours.variants import Invalidating, Variants

__all__ = [
    "Answer",
    "ClientBehaviours",
    "Driver",
    "FlowBehaviours",
    "Head",
    "OneThread",
    "PartBehaviours",
    "StorageBehaviours",
    "Stream",
]


class ClientBehaviours(
    Answering,
    RequestDirectives,
    CallersOwn,
    Garbage,
    Conditions,
    Validating,
    Heads,
    Variants,
    Invalidating,
    Bodies,
    BrokenBodies,
    Ranges,
    Resuming,
    HeaderFields,
    ManyAtOnce,
    TwoClients,
    Collapsing,
    Uploads,
    Refreshing,
    IfError,
    Groups,
    Searches,
    Rules,
    Users,
    Secrets,
    Traces,
    Failures,
    Damage,
    Telling,
):
    """All behaviours. `make_client` is the one thing to say; `make_cache` may be another."""


class PartBehaviours(Ranges, Resuming):
    """Those that read stored bodies in parts."""


class FlowBehaviours(Bodies, BrokenBodies, Uploads, Refreshing):
    """Those in which it may matter what brings the bytes: a loop, for one."""


class StorageBehaviours(
    Answering,
    Validating,
    Variants,
    Invalidating,
    Bodies,
    BrokenBodies,
    PartBehaviours,
    HeaderFields,
    ManyAtOnce,
    Collapsing,
    Users,
):
    """Those in which it may matter where things are stored, to be run on one more cache."""


def _names(part: type) -> set[str]:
    """Return the tests and fixtures that a part defines."""
    return {name for name in vars(part) if not name.startswith("_")}


# Of two parts that use one name, only the first would be run.
_seen: set[str] = set()
for _part in ClientBehaviours.__bases__:
    assert _seen.isdisjoint(_names(_part)), _seen & _names(_part)
    _seen |= _names(_part)
