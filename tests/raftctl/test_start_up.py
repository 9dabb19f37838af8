"""What each of the commands that scripts call most loads: named here, so that nothing joins them unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import platformdirs
import pytest
import respx

from raftctl.config_place import config_path
from tests.raftctl.fake_cluster import FakeCluster

ALWAYS = {
    "raftctl",
    "raftctl.changes",
    "raftctl.command_table",
    "raftctl.commands",
    "raftctl.config_file",
    "raftctl.config_place",
    "raftctl.confirm",
    "raftctl.deadline",
    "raftctl.door",
    "raftctl.durations",
    "raftctl.errors",
    "raftctl.interrupts",
    "raftctl.output",
    "raftctl.output.document",
    "raftctl.output.render",
    "raftctl.output.streams",
    "raftctl.output.tables",
    "raftctl.output.text",
    "raftctl.run",
    "raftctl.session",
    "raftctl.settings",
}
ASKS = {
    "raftctl.http",
    "raftctl.http_client",
    "raftctl.http_values",
    "raftctl.knocking",
    "raftctl.model",
    "raftctl.parallel",
    "raftctl.plain_http",
    "raftctl.survey",
}
LOOKS = {"raftctl.commands.observe", "raftctl.guards", "raftctl.health", "raftctl.output.views", "raftctl.ways_back"}
CHANGES = {"raftctl.actions", "raftctl.guards", "raftctl.commands.trigger", "raftctl.trigger_actions", "raftctl.ways_back"}
FOREIGN = {"msgspec", "platformdirs", "tomli", "typing_extensions"}
SLOW = {
    "asyncio",
    "concurrent",
    "difflib",
    "email",
    "http",
    "logging",
    "pdb",
    "shutil",
    "ssl",
    "stringprep",
    "subprocess",
    "tempfile",
    "urllib",
    "xml",
}

PROGRAM = """
import sys
before = set(sys.modules)
from raftctl.__main__ import run
code = run(sys.argv[1:])
sys.stdout.flush()
print()
print(code, *sorted(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def endpoint():
    """A cluster of one that answers over a real socket."""
    with respx.mock(assert_all_called=False) as router:
        fake = FakeCluster(router, [1])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(json.dumps(fake.nodes[1]).encode())

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.reply(fake.done(1, "heartbeat", acked_by=[]).content)

        def reply(self, body):
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        fake.nodes[1]["membership"]["nodes"]["1"]["management"] = address
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield address
        server.shutdown()
        thread.join()


@pytest.fixture
def loaded(endpoint, tmp_path):
    """Return the modules that one command line loads: ours, foreign packages, and slow ones of the standard library."""
    config = tmp_path / "config.toml"
    config.write_text(f'current-context = "demo"\n[contexts.demo]\nendpoints = ["{endpoint}"]\n', "utf-8")

    def load(line, code=0, **more):
        environment = {"RAFTCTL_CONFIG": str(config), "PATH": "", "HOME": str(tmp_path), **more}
        words = [sys.executable, "-c", PROGRAM, *line.split()]
        ran = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        ended, *modules = ran.stdout.splitlines()[-1].split()
        assert (int(ended), ran.stderr) == (code, "")
        tops = {name.partition(".")[0] for name in modules}
        ours = {name for name in modules if name.partition(".")[0] == "raftctl"} - {"raftctl.__main__"}
        foreign = {
            name for name in tops if not name.startswith(("_", "raftctl")) and not name.endswith("__mypyc")
        } - sys.stdlib_module_names
        return ours, foreign, tops & SLOW

    return load


def test_the_version_loads_what_prints_it(loaded):
    ours, foreign, slow = loaded("version")
    assert ours == ALWAYS - {"raftctl.config_file"} | {"raftctl.commands.setup"}
    assert set() == foreign
    assert set() == slow


def test_a_configuration_file_is_found_with_nothing_foreign_and_nothing_slow(loaded):
    _ours, foreign, slow = loaded("version", RAFTCTL_CONFIG="")
    assert (set(), set()) == (foreign, slow)


@pytest.mark.parametrize("named", [None, "", " ", "/etc/xdg", "relative/place"])
def test_a_configuration_file_is_where_platformdirs_would_look(monkeypatch, named):
    monkeypatch.delenv("RAFTCTL_CONFIG", raising=False)
    if named is None:
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CONFIG_HOME", named)
    assert platformdirs.user_config_path("raftctl") / "config.toml" == config_path()


@pytest.mark.parametrize("line", ["status -o json", "status", "nodes -o name", "health", "health -o json"])
def test_looking_at_the_cluster_loads_no_http_client_no_tables_and_no_option_parser(loaded, line):
    ours, foreign, slow = loaded(line)
    assert ours <= ALWAYS | ASKS | LOOKS
    assert foreign <= FOREIGN
    assert set() == slow


def test_a_plan_loads_no_http_client_and_no_option_parser(loaded):
    ours, foreign, slow = loaded("snapshot --dry-run")
    assert ours <= ALWAYS | ASKS | CHANGES
    assert foreign <= FOREIGN
    assert set() == slow


def test_help_loads_neither_the_http_client_nor_pydantic(loaded):
    _ours, foreign, _slow = loaded("--help")
    assert set() == {"httpx", "pydantic", "pydantic_core"} & foreign


def test_the_tab_key_loads_the_table_and_nothing_to_ask_nodes_with(loaded):
    words = {"_RAFTCTL_COMPLETE": "complete_bash", "COMP_WORDS": "raftctl sta", "COMP_CWORD": "1"}
    ours, foreign, slow = loaded("", **words)
    assert ours == {"raftctl", "raftctl.command_table", "raftctl.completion_door", "raftctl.interrupts"}
    assert set() == foreign
    assert set() == slow


def test_a_change_loads_httpx_without_its_command_line_and_without_rich(loaded):
    ours, foreign, _slow = loaded("heartbeat")
    assert "raftctl.full_http" in ours
    assert set() == {"rich", "pygments", "click", "typer", "pydantic"} & foreign
