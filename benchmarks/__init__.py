"""Benchmarks, which are not part of the package; run each with `python -m benchmarks.NAME`.

    step         compare a training step and a whole job with PyTorch, JAX and HIPS autograd
    evaluate     compare the evaluation of L_K with PyTorch and JAX at the same memory limit
    data_parallel
                 compare two ranks of MPI with one process of one and of two threads
    scale        measure how time and memory grow with N, D, H, J, L and K
    damage       flip bits in files and cut them: are they refused, or read as they were?
    importance   test whether training with more importance samples gives a better model
    linear_models  compare VAETransformer with PCA and FactorAnalysis on the digits
    machines     run tests and tutorials with other BLAS kernels and fewer processor features
    clinic       count false alarms of the clinic on random right models, and planted bugs it names
    kills        kill runs at any moment, or fill the disk, and look at what is left

Run them on an idle machine, from the root of the repository. Install the other libraries with
the extra `bench`: `pip install -e ".[bench,fast]"`. Compare ratios, not milliseconds, because
times depend on the machine.
"""
