"""What a command works with: the settings of this run, its output, and the cluster."""

from __future__ import annotations

import functools
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Final

from raftctl.changes import Changes
from raftctl.confirm import Tier, check_name, confirm
from raftctl.deadline import Deadline, Takes
from raftctl.errors import CtlError, ExitCode
from raftctl.output.render import Output
from raftctl.settings import Flags, Settings

if TYPE_CHECKING:
    from raftctl.client import ClusterClient
    from raftctl.survey import Survey

_ELECTIONS: Final = 10
"""So many election timeouts a cluster with a quorum has to find a leader: votes may be split more than once."""
_ELECT_S_MIN: Final = 3.0
"""As long as what has just come about takes to be known to all."""


class Session:
    """One run of one command. `exit_code`: for commands whose answer is their exit code; `takes`: what `--timeout` means."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.settings = Settings(flags)
        self.output = Output(self.settings)
        self.changes = Changes(self._has_acted)
        self.exit_code = ExitCode.DONE
        self.explains = False
        self.takes = Takes()
        self.seen: Survey | None = None
        """What the last survey showed."""

    def only_explain(self) -> None:
        """From here on an action is explained instead of done; like a dry run, it only reads."""
        self.explains = True
        self.flags = self.flags.but(dry_run=True)

    @property
    def timeout_s(self) -> float:
        """What `--timeout` says, or what the command takes by default."""
        return self.settings.timeout_s(self.takes.seconds or 0.0)

    @functools.cached_property
    def deadline(self) -> Deadline:
        """Of everything that is asked; it begins with the first request."""
        return Deadline(self.timeout_s if self.takes.seconds is not None else 0.0)

    @functools.cached_property
    def client(self) -> ClusterClient:
        """The cluster. A dry run's client refuses to send anything but questions."""
        return self.client_of(self.settings.endpoints)

    def client_of(self, endpoints: Sequence[str]) -> ClusterClient:
        """Return a client of other endpoints, with this run's settings."""
        from raftctl.http import Http
        from raftctl.http_client import HttpClusterClient
        from raftctl.http_values import Tls

        settings = self.settings
        http = Http(
            request_timeout_s=settings.request_timeout_s,
            look_timeout_s=settings.look_timeout_s,
            deadline=self.deadline,
            token=settings.token,
            tls=Tls(settings.cacert, settings.cert, settings.key),
            read_only=self.flags.dry_run,
            verbose=self.flags.verbose,
            changes=self.changes,
        )
        return HttpClusterClient(http, endpoints)

    def _has_acted(self) -> None:
        self.output.acted = True

    def survey(self, *, patient_with: Container[int] = ()) -> Survey:
        """Look around.

        Args:
            patient_with: as in `ClusterClient.cluster`.
        Raises: CtlError: nobody answers at all.
        """
        survey = self.client.cluster(patient_with=patient_with)
        if not survey.statuses:
            raise nobody_answers(survey)
        self.seen = survey
        return survey

    def survey_with_leader(self, *, patient_with: Container[int] = ()) -> Survey:
        """Look around for what only a leader can do: while a quorum is up and nobody leads, again, for a few elections.

        Args:
            patient_with: as in `ClusterClient.cluster`.
        Returns: the last look; nobody may lead in it.
        Raises: CtlError: nobody answers at all.
        """
        survey = self.survey(patient_with=patient_with)
        election_ms = max((status.election_timeout_max_ms or 0.0 for status in survey.statuses), default=0.0)
        elections = Deadline(max(_ELECTIONS * election_ms / 1000, _ELECT_S_MIN))
        while survey.leader is None and survey.quorum.reached and not elections.is_over and self.deadline.again():
            seen = self.client.cluster(patient_with=patient_with)
            if not seen.statuses or (seen.leader is None and seen.quorum.unknown):  # cut short: the one before says more
                break
            self.seen = survey = seen
        return survey

    def check_name(self, cluster: str) -> None:
        """Check what `--confirm` says, if it was given. Raises: CtlError: it names another cluster."""
        check_name(self.settings, cluster)

    def confirm(self, tier: Tier, question: str, cluster: str) -> None:
        with self.deadline.paused():
            confirm(self.settings, self.output, tier, question, cluster)

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()


def nobody_answers(survey: Survey) -> CtlError:
    """Return why nothing can be done; a refused token is not an unreachable node."""
    from raftctl.survey import NO_TIME

    errors = [node.error for node in survey.nodes if node.error is not None]
    told = "; ".join(f"{error.detail}" for error in errors)
    refused = next((error for error in errors if error.code not in {"unreachable", "not_an_endpoint", NO_TIME}), None)
    if refused is not None:
        return CtlError(refused.code, told, hint="see --token-file" if refused.code in {"unauthorized", "forbidden"} else "")
    from raftctl.http import nobody

    return nobody([error.detail for error in errors], look_with="raftctl context list")
