"""What `bench_slot.py` needs besides the package: the case, a lean formulation, the rivals, the pass rule."""
