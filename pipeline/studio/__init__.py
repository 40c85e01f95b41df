"""The studio: a page on this machine from which videos are checked, learned from, rendered and edited.

It calls what the command line calls. `work` keeps the files, `jobs` has the work done, `page` shows it, `server` serves it.
"""

from __future__ import annotations

from lipwright.pipeline.studio.server import Studio, open_studio

__all__ = ["Studio", "open_studio"]
