"""Programs for a graphics card that is only described: the compiler need not have it, only know it."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from gpu_program import Loop, read_launches, read_program

os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # the plug-in would look for a driver

NEEDED = (
    "this environment cannot compile for a graphics card: install `jax[cuda12]` in it, of the version of jax "
    "that is there; neither a card nor a driver is needed"
)

# as the driver would give it; the versions decide what may go into command buffers
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  core_count: 132
  fpus_per_core: 128
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  l2_cache_size: 52428800
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
  clock_rate_ghz: 1.98
  driver_version: "12.9.0"
  runtime_version: "12.9.0"
  compile_time_toolkit_version: "12.9.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
IN_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL"  # XLA's default


def h100() -> Any:
    """Where a program for one H100 is to run: a sharding. SystemExit where no compiler for cards is there."""
    import jax
    from jax.experimental import topologies

    try:
        topology = topologies.get_topology_desc("h100", "cuda", topology="1x1x1", target_config=H100)
    except (KeyError, NotImplementedError, RuntimeError) as error:
        raise SystemExit(f"{NEEDED} ({str(error).splitlines()[0]})") from error
    return jax.sharding.SingleDeviceSharding(topology.devices[0])


@dataclass(frozen=True)
class Compiled:
    """A program as the compiler left it."""

    text: str = field(repr=False)
    sequence: str = field(repr=False)  # of what the host does
    temporary: int  # bytes of the device beside arguments and results
    arrays: int  # bytes of arguments and results, which also serve as room to work in

    def read(self) -> Loop:
        """All of it as a tree of loops."""
        return read_launches(read_program(self.text), self.sequence)


def compile_for(place: Any, function: Any, *arguments: Any, loops_in_graphs: bool = False) -> Compiled:
    """function(*arguments) compiled for `place`; arguments: pytrees of anything with shape and dtype.

    loops_in_graphs: loops may be command buffers, so that the device goes round by itself. Nothing is run.
    Whoever asks for the device while the function is traced hears of a card.
    """
    import jax

    shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        lowered = jax.jit(function).lower(*jax.tree.map(shape, arguments))
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_gpu_enable_command_buffer": IN_GRAPHS}
        if loops_in_graphs:
            options["xla_gpu_enable_command_buffer"] += ",WHILE"
        compiled = lowered.compile(compiler_options=options)
        # the second, where there is one, is the first with command buffers in it
        written = sorted(Path(folder).glob("*.thunk_sequence*.txt"), key=lambda path: len(path.name))
        sequence = written[-1].read_text(encoding="utf-8") if written else ""
    memory = compiled.memory_analysis()
    arrays = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Compiled(compiled.as_text(), sequence, memory.temp_size_in_bytes, arrays)
