"""What every folder may use: argument checks, files, progress, random streams, parallel maps."""

__all__: list[str] = []
