"""For which addresses this host answers, and what it may say: what flows and app go by alike.

An answer says what the owner would say. So nothing is answered for a guest here that has no port or
whose link is down; what other hosts' guests do, this host cannot know. Whether an endpoint is a
router, the overlay says (`router`); where it does not say it of one that may send from any address,
the endpoint answers for its IPv6 addresses itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ovs_lwt.backends.scope import Scope
from ovs_lwt.columns import U32, UNSAID, YES, Flags, Indices
from ovs_lwt.stencil import Bytes


@dataclass(frozen=True, slots=True, eq=False)
class Answers4:
    """IPv4 addresses that are answered for: (endpoint, address), ascending by endpoint."""

    endpoint: Indices
    ip: U32


@dataclass(frozen=True, slots=True, eq=False)
class Answers6:
    """IPv6 addresses that are answered for: (endpoint, address), ascending by endpoint.

    router: the owner is one; detection: only whoever looks for a duplicate is answered, since
    nobody knows whether the owner is a router
    """

    endpoint: Indices
    ip: Bytes
    router: Flags
    detection: Flags


def answers4(scope: Scope) -> Answers4:
    """What is answered of the endpoints wanted."""
    owner, ip = scope.owned4
    known = _answered(scope)[owner] & ~scope.shared4
    return Answers4(owner[known], ip[known])


def answers6(scope: Scope) -> Answers6:
    """What is answered of the endpoints wanted, link-local addresses included."""
    owner, ip = scope.owned6
    known = _answered(scope)[owner] & ~scope.shared6
    owner, endpoints = owner[known], scope.endpoints
    router, unsaid = endpoints.router[owner] == YES, endpoints.router[owner] == UNSAID
    return Answers6(owner, ip[known], router, unsaid & endpoints.spoofing[owner])


def _answered(scope: Scope) -> Flags:
    """bool[E]: the endpoints whose tenant has its neighbours answered, and that are not known to be
    away.
    """
    ports = scope.view.ports
    answered = scope.tenant_columns.answer_neighbours[scope.endpoints.tenant]
    there = scope.endpoints.vtep != scope.view.host
    there[scope.endpoint_of(scope.every_port[ports.up[scope.every_port]])] = True
    answered &= there
    return answered
