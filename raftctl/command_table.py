"""Every command as plain data. Written by `python -m raftctl.completion_files`; do not edit.

A row of `COMMANDS`: its short help, `module:function`, its subcommands, its parameters before those of every command.
A row of a parameter: names on the command line (none: an argument), name in Python, kind of value, bounds, default,
what completes it, its help.
"""
# ruff: noqa: E501, Q000
# fmt: off

from __future__ import annotations

from typing import Final

Parameter = tuple[tuple[str, ...], str, str, "tuple[int | None, int | None] | None", "str | int | bool | None", str, str]
Command = tuple[str, str, tuple[str, ...], tuple[Parameter, ...]]

HELP: Final[Parameter] = (('--help', '-h'), 'help', 'flag', None, None, '', 'Show this message and exit.')
COMMON: Final[tuple[Parameter, ...]] = (
    (('--context', '-c'), 'context', 'text', None, None, 'complete_contexts', 'Cluster to use.'),
    (('--endpoint', '-e'), 'endpoint', 'many', None, None, '', 'Management URL of a node; repeatable.'),
    (('--output', '-o'), 'output', 'raftctl.settings:OutputFormat', None, None, 'table wide json jsonl name', 'table, wide, json, jsonl or name.'),
    (('--request-timeout',), 'request_timeout', 'text', None, None, '', 'For one request; default 5s.'),
    (('--timeout',), 'timeout', 'text', None, None, '', 'How long to look for an effect; default 30s.'),
    (('--yes', '-y'), 'yes', 'flag', None, False, '', 'Answer questions with yes.'),
    (('--confirm',), 'confirm', 'text', None, None, '', "The cluster's name, for what --yes is not enough for."),
    (('--no-input',), 'no_input', 'flag', None, False, '', 'Never ask; fail instead.'),
    (('--dry-run',), 'dry_run', 'flag', None, False, '', 'Only read; show the plan and every rule it was held against.'),
    (('--override',), 'override', 'many', None, None, '', 'Go on although this rule fails; repeatable.'),
    (('--reason',), 'reason', 'text', None, None, '', 'Why; kept in the journal.'),
    (('--token-file',), 'token_file', 'path', None, None, '', 'Bearer token; or RAFTCTL_TOKEN.'),
    (('--cacert',), 'cacert', 'path', None, None, '', "Authority that signed the nodes' certificates."),
    (('--cert',), 'cert', 'path', None, None, '', 'Certificate of this client.'),
    (('--key',), 'tls_key', 'path', None, None, '', 'Key of that certificate.'),
    (('--color',), 'color', 'raftctl.settings:ColorChoice', None, None, 'auto always never', 'auto, always or never; NO_COLOR is obeyed.'),
    (('--quiet', '-q'), 'quiet', 'flag', None, False, '', 'No notes on stderr.'),
    (('--verbose', '-v'), 'verbose', 'flag', None, False, '', 'Every request on stderr.'),
)
COMMANDS: Final[dict[str, Command]] = {
    '': ('', '', ('status', 'nodes', 'health', 'elect', 'heartbeat', 'snapshot', 'purge-log', 'transfer-leader', 'allow-next-revert', 'init', 'rejoin-node', 'completion', 'version', 'explain', 'trigger', 'member', 'runtime-config', 'runs', 'kv', 'context', 'config', 'dev'), ()),
    'status': ('Show every node, its log and what is wrong...', 'raftctl.commands.observe:status', (), ((('--watch', '-w'), 'watch', 'flag', None, False, '', 'Show it again and again.'), (('--interval',), 'interval', 'text', None, '1s', '', 'How often, with --watch.'))),
    'nodes': ('List the nodes and their addresses.', 'raftctl.commands.observe:nodes', (), ()),
    'health': ('Say whether the cluster is well: exit 0,...', 'raftctl.commands.observe:health', (), ((('--wait',), 'wait', 'flag', None, False, '', 'Look until the cluster is well, or --timeout has passed.'),)),
    'elect': ('Make a node campaign now.', 'raftctl.commands.trigger:elect', (), ((('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--pre-vote', '--no-pre-vote'), 'pre_vote', 'switch', None, True, '', 'Ask first whether the election can be won; without it a living leader is \ndisturbed.'))),
    'heartbeat': ('Have the leader send a heartbeat to every...', 'raftctl.commands.trigger:heartbeat', (), ()),
    'snapshot': ('Have a snapshot that covers everything...', 'raftctl.commands.trigger:snapshot', (), ((('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--all',), 'everywhere', 'flag', None, False, '', 'Every node that answers.'))),
    'purge-log': ('Drop log entries that a snapshot covers.', 'raftctl.commands.trigger:purge_log', (), ((('--upto',), 'upto', 'number!', (1, None), None, '', 'Last entry that may go, inclusive.'), (('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--all',), 'everywhere', 'flag', None, False, '', 'Every node that answers.'), (('--strict',), 'strict', 'flag', None, False, '', 'Refuse to purge less than asked.'))),
    'transfer-leader': ('Hand leadership to another voter.', 'raftctl.commands.trigger:transfer_leader', (), ((('--to',), 'to', 'number!', (1, None), None, 'complete_nodes', 'Id of the other node.'),)),
    'allow-next-revert': ('Allow a node to come back once with less...', 'raftctl.commands.trigger:allow_next_revert', (), ((('--to',), 'to', 'number!', (1, None), None, 'complete_nodes', 'Id of the node that may revert.'), (('--allow', '--no-allow'), 'allow', 'switch', None, True, '', 'Give the permission, or take it back.'), (('--ttl',), 'ttl', 'text', None, '10m', '', 'How long it stands; 0: until used.'))),
    'init': ('Give birth to the cluster with its first...', 'raftctl.commands.change:init', (), ((('--member',), 'member', 'many', None, None, '', 'A first member: its id, raft address and management URL; repeatable. Default: \nthe endpoints that answer.'), (('--abort',), 'abort', 'flag', None, False, '', 'Forget a preparation that never started.'))),
    'rejoin-node': ("Wipe a node's data, keep its vote, and...", 'raftctl.commands.rejoin:rejoin_node', (), (((), 'node', 'number!', (1, None), None, 'complete_nodes', 'Id of the node.'), (('--driver',), 'driver', 'text', None, None, '', "How the node is stopped, wiped and started; default: the context's, else http."), (('--blank',), 'blank', 'flag', None, False, '', 'Its directory is lost: let it in as a new life, and wipe nothing.'))),
    'completion': ('Print the completion script of a shell.', 'raftctl.commands.setup:completion', (), (((), 'shell', 'raftctl.commands.setup:Shell!', None, None, 'bash zsh fish powershell', 'bash, zsh, fish or powershell.'),)),
    'version': ('Print the version of this program.', 'raftctl.commands.setup:version', (), ()),
    'explain': ('What an action would mean: effect, quorum,...', '', ('elect', 'heartbeat', 'snapshot', 'purge-log', 'transfer-leader', 'allow-next-revert', 'member'), ()),
    'explain elect': ('Make a node campaign now.', 'raftctl.commands.explain:elect', (), ((('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--pre-vote', '--no-pre-vote'), 'pre_vote', 'switch', None, True, '', 'Ask first whether the election can be won; without it a living leader is \ndisturbed.'))),
    'explain heartbeat': ('Have the leader send a heartbeat to every...', 'raftctl.commands.explain:heartbeat', (), ()),
    'explain snapshot': ('Have a snapshot that covers everything...', 'raftctl.commands.explain:snapshot', (), ((('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--all',), 'everywhere', 'flag', None, False, '', 'Every node that answers.'))),
    'explain purge-log': ('Drop log entries that a snapshot covers.', 'raftctl.commands.explain:purge_log', (), ((('--upto',), 'upto', 'number!', (1, None), None, '', 'Last entry that may go, inclusive.'), (('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--all',), 'everywhere', 'flag', None, False, '', 'Every node that answers.'), (('--strict',), 'strict', 'flag', None, False, '', 'Refuse to purge less than asked.'))),
    'explain transfer-leader': ('Hand leadership to another voter.', 'raftctl.commands.explain:transfer_leader', (), ((('--to',), 'to', 'number!', (1, None), None, 'complete_nodes', 'Id of the other node.'),)),
    'explain allow-next-revert': ('Allow a node to come back once with less...', 'raftctl.commands.explain:allow_next_revert', (), ((('--to',), 'to', 'number!', (1, None), None, 'complete_nodes', 'Id of the node that may revert.'), (('--allow', '--no-allow'), 'allow', 'switch', None, True, '', 'Give the permission, or take it back.'), (('--ttl',), 'ttl', 'text', None, '10m', '', 'How long it stands; 0: until used.'))),
    'explain member': ('Changes of who belongs to the cluster.', '', ('add', 'promote', 'demote', 'remove'), ()),
    'explain member add': ('Add a node as a learner, and see it catch up.', 'raftctl.commands.explain:add', (), (((), 'member', 'text!', None, None, '', "The node's id, raft address and management URL."),)),
    'explain member promote': ('Make a learner that has caught up a voter.', 'raftctl.commands.explain:promote', (), (((), 'node', 'number!', (1, None), None, 'complete_nodes', 'Id of the node.'),)),
    'explain member demote': ('Make a voter a learner.', 'raftctl.commands.explain:demote', (), (((), 'node', 'number!', (1, None), None, 'complete_nodes', 'Id of the node.'),)),
    'explain member remove': ('Remove a voter or a learner; its process...', 'raftctl.commands.explain:remove', (), (((), 'node', 'number!', (1, None), None, 'complete_nodes', 'Id of the node.'),)),
    'trigger': ('The same six as a group.', '', ('elect', 'heartbeat', 'snapshot', 'purge-log', 'transfer-leader', 'allow-next-revert'), ()),
    'trigger elect': ('Make a node campaign now.', 'raftctl.commands.trigger:elect', (), ((('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--pre-vote', '--no-pre-vote'), 'pre_vote', 'switch', None, True, '', 'Ask first whether the election can be won; without it a living leader is \ndisturbed.'))),
    'trigger heartbeat': ('Have the leader send a heartbeat to every...', 'raftctl.commands.trigger:heartbeat', (), ()),
    'trigger snapshot': ('Have a snapshot that covers everything...', 'raftctl.commands.trigger:snapshot', (), ((('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--all',), 'everywhere', 'flag', None, False, '', 'Every node that answers.'))),
    'trigger purge-log': ('Drop log entries that a snapshot covers.', 'raftctl.commands.trigger:purge_log', (), ((('--upto',), 'upto', 'number!', (1, None), None, '', 'Last entry that may go, inclusive.'), (('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'), (('--all',), 'everywhere', 'flag', None, False, '', 'Every node that answers.'), (('--strict',), 'strict', 'flag', None, False, '', 'Refuse to purge less than asked.'))),
    'trigger transfer-leader': ('Hand leadership to another voter.', 'raftctl.commands.trigger:transfer_leader', (), ((('--to',), 'to', 'number!', (1, None), None, 'complete_nodes', 'Id of the other node.'),)),
    'trigger allow-next-revert': ('Allow a node to come back once with less...', 'raftctl.commands.trigger:allow_next_revert', (), ((('--to',), 'to', 'number!', (1, None), None, 'complete_nodes', 'Id of the node that may revert.'), (('--allow', '--no-allow'), 'allow', 'switch', None, True, '', 'Give the permission, or take it back.'), (('--ttl',), 'ttl', 'text', None, '10m', '', 'How long it stands; 0: until used.'))),
    'member': ('Who belongs to the cluster.', '', ('add', 'promote', 'demote', 'remove'), ()),
    'member add': ('Add a node as a learner, and see it catch up.', 'raftctl.commands.member:add', (), (((), 'member', 'text!', None, None, '', "The node's id, raft address and management URL."),)),
    'member promote': ('Make a learner that has caught up a voter.', 'raftctl.commands.member:promote', (), (((), 'node', 'number!', (1, None), None, 'complete_nodes', 'Id of the node.'),)),
    'member demote': ('Make a voter a learner.', 'raftctl.commands.member:demote', (), (((), 'node', 'number!', (1, None), None, 'complete_nodes', 'Id of the node.'),)),
    'member remove': ('Remove a voter or a learner; its process...', 'raftctl.commands.member:remove', (), (((), 'node', 'number!', (1, None), None, 'complete_nodes', 'Id of the node.'),)),
    'runtime-config': ("What a node's timers do by themselves.", '', ('get', 'set'), ()),
    'runtime-config get': ('Show what the timers do by themselves.', 'raftctl.commands.change:runtime_config_get', (), ((('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'),)),
    'runtime-config set': ('Switch what the timers do by themselves;...', 'raftctl.commands.change:runtime_config_set', (), (((), 'setting', 'many!', None, None, '', 'enable_tick, enable_heartbeat, enable_elect, enable_pre_vote.'), (('--node',), 'node', 'number', (1, None), None, 'complete_nodes', 'Id of the node; default: the leader.'))),
    'runs': ('What runbooks did, going on with one,...', '', ('list', 'show', 'resume', 'abort', 'export'), ()),
    'runs list': ('List the runs, newest first.', 'raftctl.commands.runs:list_runs', (), ()),
    'runs show': ('Show one run step by step, and whether its...', 'raftctl.commands.runs:show', (), (((), 'run', 'text!', None, None, 'complete_runs', 'Id of the run.'),)),
    'runs resume': ('Go on with a run that did not end: the...', 'raftctl.commands.runs:resume', (), (((), 'run', 'text!', None, None, 'complete_runs', 'Id of the run, or a journal copied from another machine.'),)),
    'runs abort': ('Undo a run that did not end, as far as...', 'raftctl.commands.runs:abort', (), (((), 'run', 'text!', None, None, 'complete_runs', 'Id of the run, or a journal copied from another machine.'),)),
    'runs export': ("Write a run's journal as it is, to be...", 'raftctl.commands.runs:export', (), (((), 'run', 'text!', None, None, 'complete_runs', 'Id of the run.'), (('--to',), 'to', 'path', None, None, '', 'Write it there; default: standard output.'))),
    'kv': ('Read and write the bundled key-value store.', '', ('get', 'put', 'delete', 'list'), ()),
    'kv get': ('Read a value; piped, its bytes as they are.', 'raftctl.commands.kv:get', (), (((), 'key', 'text!', None, None, '', ''), (('--consistency',), 'consistency', 'text', None, 'linearizable', '', 'How fresh a read must be.'))),
    'kv put': ('Write a value; done when a quorum has it...', 'raftctl.commands.kv:put', (), (((), 'key', 'text!', None, None, '', ''), ((), 'value', 'text', None, None, '', 'Or --file; - reads stdin.'), (('--file',), 'file', 'path', None, None, '', 'Take the value from a file.'), (('--if-revision',), 'if_revision', 'number', (1, None), None, '', 'Only if the key has this revision.'), (('--if-absent',), 'if_absent', 'flag', None, False, '', 'Only if there is no such key.'))),
    'kv delete': ('Delete a key, whether it is there or not.', 'raftctl.commands.kv:delete', (), (((), 'key', 'text!', None, None, '', ''), (('--if-revision',), 'if_revision', 'number', (1, None), None, '', 'Only if the key has this revision.'))),
    'kv list': ('List keys and values in order of their bytes.', 'raftctl.commands.kv:list_keys', (), (((), 'prefix', 'text', None, '', '', 'Only keys that begin with it.'), (('--limit',), 'limit', 'number', (1, 1000000), 1000, '', 'At most so many.'), (('--consistency',), 'consistency', 'text', None, 'linearizable', '', 'How fresh a read must be.'))),
    'context': ('The clusters this program knows.', '', ('list', 'show', 'use', 'add', 'remove'), ()),
    'context list': ('List the contexts; * marks the current one.', 'raftctl.commands.context:list_contexts', (), ()),
    'context show': ('Show one context; default: the current one.', 'raftctl.commands.context:show', (), (((), 'name', 'text', None, None, 'complete_contexts', ''),)),
    'context use': ('Make a context the current one.', 'raftctl.commands.context:use', (), (((), 'name', 'text!', None, None, 'complete_contexts', ''),)),
    'context add': ('Add a context with the endpoints given by...', 'raftctl.commands.context:add', (), (((), 'name', 'text!', None, None, '', ''), (('--driver',), 'driver', 'many', None, None, '', 'How runbooks stop and start a node; repeatable.'))),
    'context remove': ('Remove a context; the cluster is not touched.', 'raftctl.commands.context:remove', (), (((), 'name', 'text!', None, None, 'complete_contexts', ''),)),
    'config': ('The configuration file.', '', ('path', 'view'), ()),
    'config path': ('Show where the configuration file is.', 'raftctl.commands.context:config_path', (), ()),
    'config view': ('Show the configuration file as it is...', 'raftctl.commands.context:config_view', (), ()),
    'dev': ('A cluster on this machine to try things on.', '', ('up', 'status', 'down'), ()),
    'dev up': ('Start a cluster on this machine, and write...', 'raftctl.commands.dev:up', (), ((('--nodes',), 'nodes', 'number', (1, 9), 3, '', 'How many.'), (('--dir',), 'directory', 'path', None, None, '', "Where it lives; or RAFTCTL_DEV_DIR; default: beside this program's journals."), (('--base-port',), 'base_port', 'number', (None, None), 9101, '', 'Management ports begin here, peer ports 100 above.'))),
    'dev status': ("Show the sandbox's processes.", 'raftctl.commands.dev:status', (), ((('--dir',), 'directory', 'path', None, None, '', "Where it lives; or RAFTCTL_DEV_DIR; default: beside this program's journals."),)),
    'dev down': ("End the sandbox's processes, and only those.", 'raftctl.commands.dev:down', (), ((('--dir',), 'directory', 'path', None, None, '', "Where it lives; or RAFTCTL_DEV_DIR; default: beside this program's journals."), (('--purge',), 'purge', 'flag', None, False, '', 'Remove its data and its context too.'))),
}
