"""Measurements, apart from the package: each of these is a command, `python -m benchmarks.NAME`.

    step         one training step, and a whole job, beside PyTorch, JAX and HIPS autograd
    evaluate     L_K beside PyTorch and JAX, at one memory budget
    scale        how time and memory grow with N, D, H, J, L and K
    importance   whether training with more importance samples gives a better model

Run them on an idle machine, from the root of the repository. The peers come with the extra
`bench`: `pip install -e ".[bench,fast]"`. Read ratios, not milliseconds: times belong to one
machine.
"""
