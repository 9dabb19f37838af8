"""Any request for other members against a model of what it should come to: raft_engine/core/membership_change.py."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from raft_engine.core.events import MembershipChangeRequested
from raft_engine.types.ids import NodeId
from raft_engine.types.outcomes import Refusal, RefusalCode, TriggerOutcome
from tests.core.builder import Node, address, leader, members, outcomes, peer

VOTERS, LEARNERS, STRANGERS = {1, 2, 3}, {4, 5}, {6, 7}
IDS = sorted(VOTERS | LEARNERS | STRANGERS)
some = st.frozensets(st.sampled_from(IDS), max_size=3)


@dataclass(frozen=True)
class Request:
    voters: frozenset[int] | None
    add: frozenset[int]
    remove: frozenset[int]
    retain: bool
    join: frozenset[int]
    remove_learners: frozenset[int]
    remove_members: frozenset[int]


requests = st.builds(
    Request,
    voters=st.none() | st.frozensets(st.sampled_from(IDS), max_size=4),
    add=some,
    remove=some,
    retain=st.booleans(),
    join=st.frozensets(st.sampled_from([4, 5, 6, 7]), max_size=2),
    remove_learners=st.frozensets(st.sampled_from(IDS), max_size=1),
    remove_members=st.frozensets(st.sampled_from(IDS), max_size=2),
)


def expected(request: Request) -> tuple[set[int], set[int]] | set[RefusalCode]:
    """Return voters and learners afterwards, or for what it may be refused."""
    learners = LEARNERS | request.join
    named = (request.voters or frozenset()) | request.add
    voters = (
        ((VOTERS if request.voters is None else set(request.voters)) | request.add) - request.remove - request.remove_members
    )
    refusals = set()
    if (request.remove | request.remove_members) - VOTERS - learners or request.remove_learners - learners:
        refusals.add(RefusalCode.NODE_NOT_FOUND)
    if not voters:
        refusals.add(RefusalCode.EMPTY_MEMBERSHIP)
    if voters - VOTERS - learners:
        refusals.add(RefusalCode.LEARNER_NOT_FOUND)
    if voters & named & (request.join - LEARNERS):
        refusals.add(RefusalCode.TARGET_LAGGING)  # it has nothing of the log yet
    if refusals:
        return refusals
    if request.retain:
        learners |= VOTERS - voters
    return voters, learners - voters - request.remove_learners - request.remove_members


def ask(node: Node, request: Request):
    return node.do(
        MembershipChangeRequested(
            node.ticket(),
            1000.0,
            voters=None if request.voters is None else frozenset(map(NodeId, request.voters)),
            retain=request.retain,
            add_learners={peer(number): address(number) for number in request.join},
            remove_learners=frozenset(map(NodeId, request.remove_learners)),
            blocking=False,
            add_voters=frozenset(map(NodeId, request.add)),
            remove_voters=frozenset(map(NodeId, request.remove)),
            remove_members=frozenset(map(NodeId, request.remove_members)),
        )
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(requests)
def test_a_request_comes_to_what_it_says_or_is_refused_and_changes_nothing(request: Request):
    node = leader(membership=members(*VOTERS, learners=LEARNERS), config={"removed_leader_step_down_ms": -1})
    before, last = node.state.membership, node.state.log.last
    wanted = expected(request)
    answers = outcomes(ask(node, request))
    if isinstance(wanted, set):
        (refusal,) = answers
        assert isinstance(refusal, Refusal)
        assert refusal.code in wanted
        assert (before, last) == (node.state.membership, node.state.log.last)
        return
    assert all(isinstance(answer, TriggerOutcome) for answer in answers)
    _agree(node)
    membership = node.state.membership
    assert (1, wanted) == (len(membership.configs), (set(membership.voter_ids()), set(membership.learners)))
    assert set(membership.nodes) == wanted[0] | wanted[1]


def _agree(node: Node) -> None:
    """Everybody whom this leader knows holds everything, until the change is done."""
    while node.state.membership.is_joint or node.state.effective.log_id.index > node.state.committed:
        node.flush()
        for target in sorted(node.state.leader.progress):
            if target in node.state.leader.progress:
                node.accept(target.node_id, node.state.log.last.index)
