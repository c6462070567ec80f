"""Tools for all folders: argument checks, files, progress, random streams, parallel work."""

__all__: list[str] = []
