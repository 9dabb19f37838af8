"""A replicated counter: three nodes in one process, a state machine of one's own, every trigger."""

import asyncio
import tempfile

from raft_engine import BEFORE_LOG, AllowNextRevertError, EntryKind, open_raft


class Counter:
    value = 0

    def applied(self):
        return BEFORE_LOG  # kept in memory: after a restart the engine brings it back

    def apply(self, entries):
        return [self.add(entry) for entry in entries]

    def add(self, entry):
        self.value += int(entry.data) if entry.kind == EntryKind.NORMAL else 0
        return self.value

    def snapshot(self):
        return iter([b"%d" % self.value])

    def restore(self, chunks, last_log_id):
        self.value = int(b"".join(chunks))


async def main(directory, members):
    opening = (open_raft(f"{directory}/{i}", node_id=i, members=members, state_machine=Counter()) for i in members)
    nodes = dict(zip(members, await asyncio.gather(*opening), strict=True))
    first = (await nodes[1].wait().leader()).leader
    second = first % len(members) + 1
    old, new = nodes[first], nodes[second]
    print("counted to", (await old.client_write(b"5")).result, "by the", old.metrics().state)
    for done in (old.trigger.heartbeat(), old.trigger.snapshot(), old.trigger.purge_log(upto=2)):
        print((await done).detail)
    print((await old.trigger.transfer_leader(to=second)).detail)
    print((await new.trigger.elect()).detail)
    print((await new.trigger.allow_next_revert(to=first, allow=True, ttl_s=60)).detail)
    try:
        await old.trigger.allow_next_revert(to=second)
    except AllowNextRevertError as error:
        print(error)
    await asyncio.gather(*(node.shutdown() for node in nodes.values()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory, {1: "127.0.0.1:7101", 2: "127.0.0.1:7102", 3: "127.0.0.1:7103"}))
