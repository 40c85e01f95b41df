"""Media, and what stands on disk. Nothing here knows of optimisers or jobs."""
