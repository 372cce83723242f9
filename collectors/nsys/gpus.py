"""What an export says about GPUs: which of them each process sees, and what they can do."""

from __future__ import annotations

from collectors.sqlite_file import SqliteFile, text_of

MAX_DEVICE = 1_023  # CUDA counts from 0; MIG slices included, no machine has as many

# Device information was renamed twice; the first name that the file has is read.
GPU_FACTS = {
    "sm_count": ("smCount", "numMultiprocessors"),
    "compute_major": ("computeMajor", "computeCapabilityMajor"),
    "compute_minor": ("computeMinor", "computeCapabilityMinor"),
    "max_warps_per_sm": ("maxWarpsPerSm", "maxWarpsPerMultiprocessor"),
    "max_blocks_per_sm": ("maxBlocksPerSm", "maxBlocksPerMultiprocessor"),
    "max_registers_per_sm": ("maxRegistersPerSm", "maxRegistersPerMultiprocessor"),
    "max_shared_bytes_per_sm": ("maxShmemPerSm", "maxSharedMemoryPerMultiprocessor"),
    "memory_bytes": ("totalMemory", "globalMemorySize"),
    "memory_bytes_per_s": ("memoryBandwidth", "globalMemoryBandwidth"),
}
_SMALL_FACTS = tuple(GPU_FACTS)[:5]  # 32 bits; the others are registers and bytes


def gpu_facts(file: SqliteFile) -> tuple[dict[tuple[str, int], dict[str, object]], int]:
    """Return what is known of each GPU, by its number, its CUDA number, and when it is alone.

    The second value counts what is recorded but cannot be.
    """
    invalid = 0
    # Where both exist, the old CUDA table has the details and the other has only a name.
    for table in ("TARGET_INFO_CUDA_GPU", "TARGET_INFO_GPU"):
        if not file.has(table):
            continue
        have = file.tables[table]
        number = "id" if "id" in have else "deviceId"
        columns = {"name": "name", "id": number, "cuda": "cuDevice"}
        columns |= {
            fact: next((c for c in names if c in have), "") for fact, names in GPU_FACTS.items()
        }
        parts = [f'"{c}"' if c in have else "NULL" for c in columns.values()]
        facts: dict[tuple[str, int], dict[str, object]] = {}
        rows = file.rows(f"SELECT {', '.join(parts)} FROM {table}")
        for values in rows:
            row = dict(zip(columns, values, strict=True))
            keys = [("id", row.pop("id")), ("cuda", row.pop("cuda"))]
            usable = {k: v for k, v in row.items() if k in GPU_FACTS and _is_plausible(k, v)}
            invalid += sum(row[k] is not None for k in GPU_FACTS) - len(usable)
            usable["name"] = text_of(row["name"])[:200]
            facts |= {(k, n): usable for k, n in keys if isinstance(n, int)}
            if len(rows) == 1:
                facts["only", 0] = usable
        if facts:
            return facts, invalid
    return {}, invalid


def _is_plausible(fact: str, value: object) -> bool:
    limit = 1 << 31 if fact in _SMALL_FACTS else 1 << 62
    return isinstance(value, int) and 0 <= value < limit


def physical_gpus(file: SqliteFile) -> dict[tuple[int, int], int]:
    """Return the number of each physical GPU by process number and CUDA number."""
    if not file.has("TARGET_INFO_CUDA_DEVICE", "gpuId", "cudaId", "pid"):
        return {}
    sql = "SELECT pid, cudaId, gpuId FROM TARGET_INFO_CUDA_DEVICE"
    return {
        (pid, device): gpu
        for pid, device, gpu in file.rows(sql)
        if isinstance(pid, int)
        and isinstance(device, int)
        and isinstance(gpu, int)
        and 0 <= device <= MAX_DEVICE
        and 0 <= gpu <= MAX_DEVICE
    }
