"""Changing who belongs to the cluster, over HTTP.

A learner is named by id and addresses; the leader asks the node itself which life it lives, so that a directory wiped since
then is not mistaken for the one that was meant.
Source: contract section 3; openraft `raft/mod.rs` (`add_learner`, `change_membership`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raft_engine.management import schema
from raft_engine.management.access import Role
from raft_engine.management.convert import expectation_of, picture
from raft_engine.management.endpoint import ACTED, LEADER_ONLY, Call, Endpoint, acted, check_address
from raft_engine.management.exchange import Reply, parse_count
from raft_engine.management.problems import ProblemError, malformed
from raft_engine.types.ids import NodeId, PeerId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.outcomes import RefusalCode

if TYPE_CHECKING:
    from raft_engine.runtime.raft import Raft

_ID_MAX: Final = 2**63 - 1
_CHANGES: Final = (
    "change_in_progress",
    "transfer_in_progress",
    "no_quorum",
    "node_not_found",
    "outcome_unknown",
    *LEADER_ONLY,
)


async def add_learner(call: Call) -> Reply:
    body: schema.LearnerRequest = call.body
    check_address(str(body.id), body.raft, body.management)
    node_id, address = NodeId(body.id), NodeAddress(body.raft, body.management)
    raft = _leading(call)
    peer = await call.context.node.identify(node_id, body.raft)
    _check_life(call, peer)
    outcome = await raft.change_membership(
        add_learners={peer: address}, blocking=body.blocking, wait_s=call.wait_s, expect=expectation_of(body.expect)
    )
    requested: dict[str, object] = {"id": body.id, "raft": body.raft, "management": body.management}
    return acted(call, "add_learner", {**requested, "blocking": body.blocking}, outcome)


def _leading(call: Call) -> Raft:
    """Return the engine if it leads: nobody else need ask the new node.

    Raises: ProblemError: not the leader.
    """
    raft = call.context.raft()
    leader = picture(call.context.node).leader
    if leader is None:
        raise ProblemError(RefusalCode.NO_LEADER.value, "no leader is known", hint="ask again in a moment")
    if leader != call.context.node.node_id:
        raise ProblemError(RefusalCode.NOT_LEADER.value, f"node {leader} leads", leader=leader)
    return raft


def _check_life(call: Call, peer: PeerId) -> None:
    """A voter that lost its data comes back by permission, not by being added beside itself.

    Raises: ProblemError.
    """
    membership = picture(call.context.node).membership.membership
    lives = {voter.incarnation for voter in membership.voters() if voter.node_id == peer.node_id}
    if lives and peer.incarnation not in lives:
        raise ProblemError(
            "another_life",
            f"node {peer.node_id} is a voter, and what answers there is another life of it: its data is gone",
            hint=f"raftctl rejoin-node {peer.node_id} --blank lets it come back",
        )


async def change_voters(call: Call) -> Reply:
    body: schema.VotersRequest = call.body
    if body.voters is None and not body.add and not body.remove:
        raise malformed("nothing to change", "give voters, or add or remove")
    outcome = await call.context.raft().change_membership(
        body.voters,
        add_voters=body.add,
        remove_voters=body.remove,
        retain=body.retain,
        wait_s=call.wait_s,
        expect=expectation_of(body.expect),
    )
    asked: dict[str, object] = {"retain": body.retain}
    if body.voters is not None:
        asked["voters"] = sorted(set(body.voters))
    asked |= {name: sorted(set(ids)) for name, ids in (("add", body.add), ("remove", body.remove)) if ids}
    return acted(call, "change_voters", asked, outcome)


async def set_address(call: Call) -> Reply:
    body: schema.AddressRequest = call.body
    node_id = NodeId(body.id)
    check_address(str(node_id), body.raft, body.management)
    outcome = await call.context.raft().change_membership(
        set_addresses={node_id: NodeAddress(body.raft, body.management)},
        wait_s=call.wait_s,
        expect=expectation_of(body.expect),
    )
    return acted(call, "set_address", {"id": node_id, "raft": body.raft, "management": body.management}, outcome)


async def remove_member(call: Call) -> Reply:
    node_id = NodeId(parse_count(b"%d" % call.path["id"], "id", 1, _ID_MAX))
    body: schema.Mutation = call.body
    outcome = await call.context.raft().change_membership(
        remove_members=[node_id], wait_s=call.wait_s, expect=expectation_of(body.expect)
    )
    return acted(call, "remove_member", {"id": node_id}, outcome)


MEMBERSHIP_ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/v1/membership/learners",
        role=Role.ADMIN,
        summary="Add a learner: it gets everything and does not vote. Leader only.",
        handle=add_learner,
        request=schema.LearnerRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("member_unreachable", "prepared_for_another", "already_initialized", "another_life", *_CHANGES),
    ),
    Endpoint(
        method="POST",
        path="/v1/membership/voters",
        role=Role.ADMIN,
        summary="Set who votes, by joint consensus; every new voter must be a learner. Leader only.",
        handle=change_voters,
        request=schema.VotersRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("learner_not_found", "target_lagging", "empty_membership", *_CHANGES),
    ),
    Endpoint(
        method="POST",
        path="/v1/membership/addresses",
        role=Role.ADMIN,
        summary="Set where a voter or a learner listens. Leader only.",
        handle=set_address,
        request=schema.AddressRequest,
        query=("wait", "forward"),
        replies=ACTED,
        codes=_CHANGES,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/membership/{id}",
        role=Role.ADMIN,
        summary="Remove a voter or a learner. Leader only.",
        handle=remove_member,
        request=schema.Mutation,
        query=("wait", "forward"),
        replies=ACTED,
        codes=("empty_membership", *_CHANGES),
    ),
)
