"""The examinations, one file for each subject; each is a function from facts to findings."""

__all__: list[str] = []
