"""One recording on the timeline page: its lanes, and its clock beside the axis."""

from __future__ import annotations

from dataclasses import dataclass

from timeline.view import Timeline
from views.components.timeline import (
    Span,
)
from views.shared.session import (
    Session,
)


@dataclass(frozen=True, kw_only=True)
class RecordingView:
    """One recording that the page shows."""

    session: Session
    timeline: Timeline

    def to_axis(self, span: Span) -> Span:
        """Return a stretch of the recording's clock as ns since its first event."""
        origin = self.timeline.origin_ns
        return span[0] - origin, span[1] - origin

    def to_clock(self, span: Span) -> Span:
        """Return a stretch in ns since the first event on the recording's clock."""
        origin = self.timeline.origin_ns
        return span[0] + origin, span[1] + origin

    @property
    def window(self) -> Span:
        """The analysed window, in ns since the first event."""
        window = self.session.report.window
        return self.to_axis(window.span) if window.duration_ns > 0 else self.whole

    @property
    def whole(self) -> Span:
        """Everything that was recorded."""
        return 0, self.timeline.duration_ns

    @property
    def iterations(self) -> list[int]:
        """Begins of the program's repetitions, in ns since the first event."""
        return [i.start_ns - self.timeline.origin_ns for i in self.session.report.iterations]
