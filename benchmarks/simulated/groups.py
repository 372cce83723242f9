"""The families of programs by what they prove: the cases of ``benchmarks.accuracy``."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.simulated.cases import (
    Case,
    Maker,
)
from benchmarks.simulated.confounders import (
    confounder_call_stacks,
    confounder_copy_waits_for_kernel,
    confounder_early_kernel,
    confounder_endless_kernel,
    confounder_equal_ids,
    confounder_harmless_stream_wait,
    confounder_idle_waiter,
    confounder_memsets,
    confounder_migrations,
    confounder_one_iteration,
    confounder_open_range,
    confounder_orphans,
    confounder_pinned_memcpy,
    confounder_single_queries,
    confounder_starved_gpu,
    confounder_warm_up,
    confounder_whole_graphs,
    untold_lost_kernels,
    untold_no_calls,
    untold_no_correlation,
    untold_no_gpu,
    untold_time_slices,
    untold_truncated,
    untold_unfinished,
)
from benchmarks.simulated.families import (
    bandwidth_pageable,
    bandwidth_pinned,
    communication_exposed,
    dependency_between_gpus,
    healthy_busy_wait,
    healthy_deep_queue,
    healthy_graphs,
    healthy_overlapped_copies,
    healthy_two_streams,
    host_input,
    host_pauses,
    launch_late_host,
    launch_small_kernels,
    memory_in_the_loop,
    mixed_phases,
    sync_every_kernel,
    sync_every_step,
    sync_polling,
    sync_read_back,
    tangled_steps,
)
from benchmarks.simulated.ranks import (
    communication_balanced,
    communication_in_turn,
    communication_straggler,
    host_of_all_ranks,
    host_of_one_rank,
)
from benchmarks.simulated.torch_habits import (
    habit_fills_of_gradients,
    habit_gradients_to_none,
    habit_loader_in_process,
    habit_loader_in_time,
    habit_loader_with_slow_workers,
    habit_optimizer_behind_the_gpu,
    habit_scalar_read,
    habit_scalar_read_rarely,
    habit_unfused_optimizer,
)

SINGLE = (
    launch_small_kernels,
    launch_late_host,
    sync_every_kernel,
    sync_every_step,
    sync_read_back,
    sync_polling,
    bandwidth_pageable,
    bandwidth_pinned,
    host_input,
    host_pauses,
    communication_exposed,
    communication_straggler,
    communication_in_turn,
    communication_balanced,
    host_of_all_ranks,
    memory_in_the_loop,
    dependency_between_gpus,
    habit_loader_in_process,
    habit_loader_with_slow_workers,
    habit_fills_of_gradients,
    habit_unfused_optimizer,
    habit_scalar_read,
)
MIXED = (mixed_phases,)
TANGLED = (tangled_steps,)
FINE = (
    healthy_deep_queue,
    healthy_busy_wait,
    healthy_overlapped_copies,
    healthy_graphs,
    healthy_two_streams,
)
CONFOUNDERS = (
    confounder_idle_waiter,
    confounder_single_queries,
    confounder_harmless_stream_wait,
    confounder_equal_ids,
    confounder_orphans,
    confounder_open_range,
    confounder_call_stacks,
    confounder_copy_waits_for_kernel,
    confounder_pinned_memcpy,
    confounder_migrations,
    confounder_one_iteration,
    confounder_warm_up,
    confounder_whole_graphs,
    confounder_memsets,
    confounder_early_kernel,
    confounder_endless_kernel,
    confounder_starved_gpu,
    host_of_one_rank,
    habit_loader_in_time,
    habit_gradients_to_none,
    habit_optimizer_behind_the_gpu,
    habit_scalar_read_rarely,
)
UNTOLD = (
    untold_no_gpu,
    untold_no_calls,
    untold_no_correlation,
    untold_lost_kernels,
    untold_truncated,
    untold_unfinished,
    untold_time_slices,
)

FAMILIES: tuple[Callable[[Maker], Case], ...] = (
    *SINGLE,
    *MIXED * 4,
    *TANGLED,
    *FINE,
    *CONFOUNDERS,
    *UNTOLD,
)
