"""What the lab's pages call: Python beside the package, run in the reader's browser.

Each module has the functions of one page. They take and return numbers, texts and arrays, and
compute nothing that the package does not: every figure of the lab is drawn from arrays that a
function of `numpyvae` returned. `bridge` turns calls of the page into calls of these functions.
"""
